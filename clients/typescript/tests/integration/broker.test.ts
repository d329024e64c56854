import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import pg from "pg";

import { Client, RefusedError, Secret, SecretBrokerError, TlsError, UnreachableError } from "../../src/index.js";
import { Jwt } from "../../src/jwt.js";
import { BrokerPool } from "../../src/pg.js";
import { Queue } from "../fake.js";
import { rig } from "../rig.js";

function connected(t: TestContext, options?: ConstructorParameters<typeof Client>[0]): Client {
  const client = options ? new Client(options) : Client.fromEnv();
  t.after(() => {
    client.close();
  });
  return client;
}

async function until(changes: Queue<Secret>, generation: number): Promise<void> {
  while ((await changes.take()).generation !== generation);
}

test("a service starts and its credential logs in", async (t) => {
  for (const client of [connected(t), connected(t, { address: rig.socket })]) {
    const secret = await client.get("DB");
    const { hostname, port, pathname } = new URL(rig.pg);
    const login = { user: secret.text("username"), password: secret.text("password") };
    const connection = new pg.Client({ host: hostname, port: Number(port), database: pathname.slice(1), ...login });
    await connection.connect();
    const { rows } = await connection.query<{ current_user: string }>("SELECT current_user");
    assert.equal(rows[0]?.current_user, login.user);
    await connection.end();
    assert.ok(secret.timeLeftMs! > 0);
    assert.equal(await client.report(secret, "WORKED"), secret.generation);
    assert.equal((await client.get("API_KEY")).text("value"), "api-key-of-the-rig");
    const names = (await client.list()).map(({ name }) => name);
    assert.ok(["API_KEY", "CACHE", "DB", "JWT"].every((name) => names.includes(name)));
    assert.ok(!names.includes("FORBIDDEN"));
  }
});

test("a denied secret says so", async (t) => {
  const client = connected(t);
  for (const name of ["FORBIDDEN", "NEVER_HEARD_OF"]) {
    const denied = (error: RefusedError): boolean => error.reason === "DENIED";
    await assert.rejects(client.get(name), denied);
    await assert.rejects(client.live(name), denied);
  }
  const many = await client.getMany(["DB", "FORBIDDEN", "MISSING_AT_SOURCE"]);
  assert.ok(many.get("DB") instanceof Secret);
  assert.equal((many.get("FORBIDDEN") as RefusedError).reason, "DENIED");
  assert.equal((many.get("MISSING_AT_SOURCE") as RefusedError).reason, "SOURCE_NOT_FOUND");
});

test("a source that never answers ends by the deadline", async (t) => {
  const started = performance.now();
  await assert.rejects(
    connected(t).get("SLOW", { deadlineMs: 500 }),
    (error: SecretBrokerError) => error.isTransient,
  );
  assert.ok(performance.now() - started < 2000);
});

test("a wrong certificate is a TLS error", async (t) => {
  const client = connected(t, { address: rig.address, certDir: rig.wrongCertDir });
  await assert.rejects(client.get("DB"), TlsError);
});

test("access that is taken away revokes and comes back", async (t) => {
  const client = connected(t);
  const watch = client.watch(["DB"]);
  assert.equal(((await watch.next()).value as { type: string }).type, "CURRENT");
  await rig.do("revoke-access", { name: "DB" });
  assert.deepEqual((await watch.next()).value, { type: "REVOKED", name: "DB", reason: "WITHDRAWN" });
  await assert.rejects(client.get("DB"), RefusedError);
  await rig.do("grant-access", { name: "DB" });
  assert.ok((await client.get("DB")).generation > 0);
  watch.close();
});

test("the sidecar is killed and restarted", async (t) => {
  const client = connected(t);
  const changes = new Queue<Secret>();
  const live = await client.live("DB", { onChange: changes.put });
  const pool = new BrokerPool(live, { connectionString: rig.pg });
  const { generation } = live;
  await rig.do("kill");
  await assert.rejects(client.get("DB"), UnreachableError);
  assert.equal(live.current.generation, generation);
  assert.equal((await pool.query("SELECT 1")).rowCount, 1);
  await rig.do("start");
  assert.ok((await client.get("DB")).generation > 0);
  const next = await rig.rotate("DB");
  await until(changes, next);
  assert.equal(live.current.generation, next);
  assert.equal((await pool.query("SELECT 1")).rowCount, 1);
  await pool.end();
  await live.close();
});

test("certificates turn over without a restart", async (t) => {
  const client = connected(t);
  const changes = new Queue<Secret>();
  const live = await client.live("DB", { onChange: changes.put });
  for (const forget_old of [false, true]) {
    await rig.do("certs", { forget_old });
    assert.ok((await client.get("DB")).generation > 0);
  }
  // The handle's stream, too, comes back with the new certificates.
  await rig.do("restart");
  await until(changes, await rig.rotate("DB"));
  await live.close();
});

test("tokens are accepted across rotations", async (t) => {
  const changes = new Queue<Secret>();
  const live = await connected(t).live("JWT", { onChange: changes.put });
  const keys = new Jwt(live);
  const [before, following] = [await keys.sign({ n: 1 }), live.current.text("next")];
  await rig.rotate("JWT");
  assert.equal((await changes.take()).text("value"), following);
  assert.deepEqual(await keys.verify(before), { n: 1 });
  assert.deepEqual(await keys.verify(await keys.sign({ n: 2 })), { n: 2 });
  await live.close();
});

test("a handle tells each of many rotations in order", async (t) => {
  const changes = new Queue<Secret>();
  const live = await connected(t).live("DB", { onChange: changes.put });
  for (let time = 0; time < 5; time += 1) {
    const generation = await rig.rotate("DB");
    assert.equal((await changes.take()).generation, generation);
  }
  assert.equal(changes.size, 0);
  await live.close();
});
