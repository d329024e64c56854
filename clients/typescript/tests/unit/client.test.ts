import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { parseAddress, printAddress } from "../../src/address.js";
import { Backoff } from "../../src/backoff.js";
import {
  Client,
  ConfigurationError,
  DeadlineError,
  RefusedError,
  Secret,
  UnreachableError,
} from "../../src/index.js";
import { Authority, Broker, secret } from "../fake.js";

async function served(t: TestContext): Promise<{ broker: Broker; client: Client; certDir: string }> {
  const certDir = await (await Authority.create()).write();
  const broker = await Broker.tls(certDir);
  const client = new Client({ address: broker.address, certDir, deadlineMs: 5000 });
  t.after(() => {
    client.close();
    broker.stop();
  });
  return { broker, client, certDir };
}

test("addresses are read and printed alike", () => {
  for (const text of ["https://127.0.0.1:7443", "https://[::1]:7443", "unix:///run/broker.sock"]) {
    assert.equal(printAddress(parseAddress(text)), text);
  }
});

test("what is no address is refused with what would be one", () => {
  const bad = ["", "http://localhost:1", "https://", "https://:1", "https://h", "unix://rel", "https://h:x"];
  for (const address of [...bad, "https://h:70000", "h:1", "https://a@h:1"]) {
    assert.throws(() => new Client({ address }), /https:\/\/HOST:PORT/, address);
  }
});

test("an address that needs certificates says so", () => {
  assert.throws(() => new Client({ address: "https://127.0.0.1:1" }), /SECRET_BROKER_CERT_DIR/);
  assert.throws(() => new Client({ address: "unix:///s", deadlineMs: 0 }), ConfigurationError);
});

test("the environment says where and as whom", async (t) => {
  const { broker, certDir } = await served(t);
  broker.secrets["DB"] = secret();
  process.env["SECRET_BROKER_ADDRESS"] = broker.address;
  process.env["SECRET_BROKER_CERT_DIR"] = certDir;
  t.after(() => {
    delete process.env["SECRET_BROKER_ADDRESS"];
    delete process.env["SECRET_BROKER_CERT_DIR"];
  });
  const client = Client.fromEnv();
  assert.equal((await client.get("DB")).text("password"), "hunter1");
  client.close();
  process.env["SECRET_BROKER_ADDRESS"] = "";
  assert.equal(Client.fromEnv().address, "https://127.0.0.1:7443");
});

test("a secret is read over TLS and a socket", async (t) => {
  const { broker, client } = await served(t);
  const socket = await Broker.unix();
  const local = new Client({ address: socket.address });
  t.after(() => {
    local.close();
    socket.stop();
  });
  for (const [at, by] of [
    [broker, client],
    [socket, local],
  ] as const) {
    at.secrets["DB"] = secret("DB", 7);
    const found = await by.get("DB");
    assert.deepEqual([found.name, found.version, found.generation], ["DB", "v7", 7]);
    assert.deepEqual([...found.fields.keys()], ["password", "username"]);
    assert.equal(found.text("password"), "hunter7");
  }
});

test("each name of many has its own result", async (t) => {
  const { broker, client } = await served(t);
  const names = Array.from({ length: 2100 }, (_, number) => `S${number}`);
  broker.secrets = Object.fromEntries(names.filter((name) => name !== "S7").map((name) => [name, secret(name)]));
  const found = await client.getMany(names);
  assert.deepEqual([...found.keys()], names);
  assert.equal((found.get("S7") as RefusedError).reason, "DENIED");
  assert.ok(found.get("S2099") instanceof Secret);
});

test("all pages are listed", async (t) => {
  const { broker, client } = await served(t);
  const entry = { name: "A", category: "database", state: 5, version: "", generation: 3, reason: 0 };
  const timeless = { ...entry, issueTime: undefined, expireTime: undefined };
  broker.pages = [
    { secrets: [timeless], nextPageToken: "1" },
    { secrets: [{ ...timeless, name: "B" }], nextPageToken: "" },
  ];
  const found = await client.list("database");
  assert.deepEqual(
    found.map(({ name, state, generation }) => [name, state, generation]),
    [
      ["A", "STALE", 3],
      ["B", "STALE", 3],
    ],
  );
});

test("a report names the version and cuts its detail", async (t) => {
  const { broker, client } = await served(t);
  assert.equal(await client.report(new Secret(secret("DB", 4)), "REFUSED", "é".repeat(300)), 4);
  const report = await broker.reports.take();
  assert.deepEqual([report.name, report.generation, report.outcome], ["DB", 4, 3]);
  assert.equal(report.detail, "é".repeat(256));
});

test("a refusal has the broker's reason", async (t) => {
  const { client } = await served(t);
  await assert.rejects(client.get("NONE"), (error: RefusedError) => {
    assert.deepEqual([error.name, error.reason, error.isTransient], ["RefusedError", "DENIED", false]);
    return error.message === "no access to NONE (DENIED)";
  });
  await assert.rejects(client.get("SEALED"), (error: RefusedError) => {
    assert.deepEqual([error.reason, error.isTransient, error.retryAfterMs], ["SOURCE_SEALED", true, 1500]);
    return true;
  });
});

test("a call ends by its deadline", async (t) => {
  const { client } = await served(t);
  await assert.rejects(client.get("SLOW", { deadlineMs: 200 }), (error: DeadlineError) => {
    assert.ok(error instanceof DeadlineError);
    return error.isTransient && error.message.endsWith("within 0.2 s");
  });
});

test("a call can be aborted", async (t) => {
  const { broker, client } = await served(t);
  const abort = new AbortController();
  const call = client.get("SLOW", { signal: abort.signal });
  await broker.gets.take();
  abort.abort(new Error("enough"));
  await assert.rejects(call, /enough/);
  await assert.rejects(client.get("DB", { signal: abort.signal }), /enough/);
});

test("a broker that is away is unreachable and found again at once", async (t) => {
  const { broker, client } = await served(t);
  broker.secrets["DB"] = secret();
  await client.get("DB");
  broker.stop();
  for (let time = 0; time < 3; time += 1) {
    await assert.rejects(client.get("DB"), (error: UnreachableError) => {
      assert.ok(error instanceof UnreachableError, String(error));
      return error.isTransient;
    });
  }
  await broker.start();
  broker.secrets["DB"] = secret();
  assert.equal((await client.get("DB")).generation, 1);
});

test("a closed client says so", async (t) => {
  const { client } = await served(t);
  client.close();
  await assert.rejects(client.get("DB"), /closed/);
});

test("waits are spread and bounded", () => {
  const backoff = new Backoff();
  const waits = Array.from({ length: 50 }, () => backoff.wait());
  assert.ok(waits[0]! <= 100 && Math.max(...waits) <= 5000);
  assert.equal(new Set(waits).size, 50);
  assert.equal(backoff.wait(new RefusedError("SOURCE_SEALED", "sealed", 7000)), 7000);
});
