import assert from "node:assert/strict";
import { cpSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";

import { Client, ConfigurationError, TlsError } from "../../src/index.js";
import { Authority, Broker, secret, snapshot } from "../fake.js";

async function served(
  t: TestContext,
): Promise<{ authority: Authority; broker: Broker; client: Client; certDir: string }> {
  const authority = await Authority.create();
  const certDir = await authority.write();
  const broker = await Broker.tls(certDir);
  broker.secrets["DB"] = secret();
  const client = new Client({ address: broker.address, certDir, deadlineMs: 5000 });
  t.after(() => {
    client.close();
    broker.stop();
  });
  return { authority, broker, client, certDir };
}

test("new certificates are used by the next call, and the old connection ends in peace", async (t) => {
  const { authority, broker, client, certDir } = await served(t);
  const slow = client.get("SLOW");
  while (broker.slow.length === 0) {
    await broker.gets.take();
  }
  await authority.writeClient(certDir, "renewed");
  await client.get("DB");
  broker.secrets["SLOW"] = secret("SLOW");
  broker.slow[0]!();
  assert.equal((await slow).name, "SLOW");
  assert.deepEqual(broker.peers, ["app", "renewed"]);
});

test("a watch that reconnects takes the new certificates", async (t) => {
  const { authority, broker, client, certDir } = await served(t);
  const watch = client.watch(["DB"]);
  const first = watch.next();
  const stream = await broker.streams.take();
  stream.write(snapshot([secret("DB", 1)]));
  await first;
  await authority.writeClient(certDir, "renewed");
  stream.end();
  const second = watch.next();
  (await broker.streams.take()).write(snapshot([secret("DB", 2)]));
  assert.ok(!(await second).done);
  assert.deepEqual(broker.peers, ["app", "renewed"]);
  watch.close();
});

test("half replaced certificates leave the last good ones in use", async (t) => {
  const { broker, client, certDir } = await served(t);
  await client.get("DB");
  writeFileSync(join(certDir, "client.key"), "no key");
  await client.get("DB");
  rmSync(join(certDir, "client.pem"));
  await client.get("DB");
  writeFileSync(join(certDir, "ca.pem"), "no authority");
  await client.get("DB");
  assert.deepEqual(broker.peers, ["app", "app", "app", "app"]);
});

test("certificates that never were good are named", async (t) => {
  const { authority, broker } = await served(t);
  for (const file of ["ca.pem", "client.pem", "client.key"]) {
    const certDir = await authority.write();
    writeFileSync(join(certDir, file), "nonsense");
    const client = new Client({ address: broker.address, certDir });
    const named = (error: Error): boolean => error instanceof ConfigurationError && error.message.includes(file);
    await assert.rejects(client.get("DB"), named);
    rmSync(join(certDir, file));
    await assert.rejects(client.get("DB"), named);
  }
});

test("certificates that either side refuses are a TLS error", async (t) => {
  const { broker, certDir } = await served(t);
  const wrong = await (await Authority.create()).write();
  const foreign = new Client({ address: broker.address, certDir: wrong });
  await assert.rejects(foreign.get("DB"), TlsError);
  cpSync(join(certDir, "ca.pem"), join(wrong, "ca.pem"));
  const refused = new Client({ address: broker.address, certDir: wrong });
  await assert.rejects(refused.get("DB"), (error: TlsError) => error instanceof TlsError && error.isTransient);
  foreign.close();
  refused.close();
});

test("the broker's certificate has to carry the server name", async (t) => {
  const { broker, certDir } = await served(t);
  const right = new Client({ address: broker.address, certDir, serverName: "localhost" });
  assert.equal((await right.get("DB")).name, "DB");
  const other = new Client({ address: broker.address, certDir, serverName: "elsewhere" });
  await assert.rejects(other.get("DB"), TlsError);
  right.close();
  other.close();
});
