import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { type TestContext, test } from "node:test";

import { SignJWT, errors } from "jose";

import { ErrorReason, WatchEventType } from "../../src/generated/secretbroker/v1/broker.js";
import {
  Client,
  ConfigurationError,
  DeadlineError,
  type Live,
  type RefusedError,
  type Secret,
  SecretBrokerError,
  UnreachableError,
} from "../../src/index.js";
import { Jwt } from "../../src/jwt.js";
import { Authority, Broker, Queue, bytes, event, message, secret, snapshot } from "../fake.js";

async function served(t: TestContext): Promise<{ broker: Broker; client: Client; certDir: string }> {
  const certDir = await (await Authority.create()).write();
  const broker = await Broker.tls(certDir);
  broker.secrets["DB"] = secret();
  const client = new Client({ address: broker.address, certDir, deadlineMs: 5000 });
  t.after(() => {
    client.close();
    broker.stop();
  });
  return { broker, client, certDir };
}

const previous = (generation: number): NonNullable<ReturnType<typeof secret>["previous"]> => ({
  fields: { password: bytes(`hunter${generation}`) },
  version: `v${generation}`,
  generation,
  validUntil: undefined,
});

test("a handle follows its secret and reports", async (t) => {
  const { broker, client } = await served(t);
  const changes = new Queue<Secret>();
  const live = await client.live("DB", { onChange: changes.put });
  assert.deepEqual([live.name, live.current.generation, live.previous], ["DB", 1, undefined]);
  const stream = await broker.streams.take();
  assert.deepEqual(stream.request.seenGenerations, { DB: 1 });
  stream.write(event("ROTATED", secret("DB", 2, { previous: previous(1) })));
  assert.equal((await changes.take()).generation, 2);
  assert.equal(live.current.text("password"), "hunter2");
  assert.equal(live.previous?.text("password"), "hunter1");
  const report = await broker.reports.take();
  assert.deepEqual([report.generation, report.outcome], [2, 1]);
  stream.write(event("RENEWED", secret("DB", 2)));
  stream.write(event("ROTATED", secret("DB", 3)));
  assert.equal((await changes.take()).generation, 3);
  assert.doesNotMatch(`${live.toString()} ${JSON.stringify(live)}`, /hunter/);
  await live.close();
  assert.equal(changes.size, 0);
});

test("a version is applied when all hooks and holders are done", async (t) => {
  const { broker, client } = await served(t);
  const hooked = new Queue<Secret>();
  const live = await client.live("DB", { onChange: hooked.put });
  const [holder, other] = [live.holder(), live.holder()];
  (await broker.streams.take()).write(event("ROTATED", secret("DB", 2)));
  await hooked.take();
  holder.applied(2);
  await client.get("DB");
  assert.equal(broker.reports.size, 0);
  other.leave();
  assert.equal((await broker.reports.take()).generation, 2);
  await live.close();
});

test("reporting can be left to the application", async (t) => {
  const { broker, client } = await served(t);
  const changes = new Queue<Secret>();
  const live = await client.live("DB", { onChange: changes.put, reportApplied: false });
  const stream = await broker.streams.take();
  for (const generation of [2, 3]) {
    stream.write(event("ROTATED", secret("DB", generation)));
    await changes.take();
  }
  await live.close();
  assert.equal(broker.reports.size, 0);
});

test("a hook that fails is no application and shows no value", async (t) => {
  const { broker, client } = await served(t);
  const warnings: string[] = [];
  t.mock.method(process, "emitWarning", (text: string) => warnings.push(text));
  const changes = new Queue<number>();
  const live = await client.live("DB", {
    onChange: (found) => {
      changes.put(found.generation);
      if (found.generation === 2) {
        throw new TypeError(found.text("password"));
      }
    },
  });
  const stream = await broker.streams.take();
  for (const generation of [2, 3]) {
    stream.write(event("ROTATED", secret("DB", generation)));
    assert.equal(await changes.take(), generation);
  }
  assert.equal((await broker.reports.take()).generation, 3);
  assert.deepEqual(warnings, ["a hook on DB failed with TypeError"]);
  await live.close();
});

test("a withdrawn value stays, and its standing says so", async (t) => {
  const { broker, client } = await served(t);
  const live = await client.live("DB");
  assert.equal(live.standing, undefined);
  const stream = await broker.streams.take();
  const reason = ErrorReason.ERROR_REASON_WITHDRAWN;
  stream.write(message({ type: WatchEventType.WATCH_EVENT_TYPE_REVOKED, name: "DB", reason }));
  while (standing(live) === undefined) {
    await client.get("DB");
  }
  assert.equal(standing(live)?.reason, "WITHDRAWN");
  assert.equal(live.current.text("password"), "hunter1");
  stream.write(event("ROTATED", secret("DB", 2)));
  assert.equal((await live.after(1)).generation, 2);
  assert.equal(standing(live), undefined);
  await live.close();
});

test("a version that is served again after the watch was refused is told", async (t) => {
  const { broker, client } = await served(t);
  t.mock.method(process, "emitWarning", () => undefined);
  const changes = new Queue<Secret>();
  const live = await client.live("DB", { onChange: changes.put });
  const stream = await broker.streams.take();
  broker.deniesWatches = true;
  stream.end();
  while (standing(live) === undefined) {
    await client.get("DB");
  }
  assert.equal(standing(live)?.reason, "UNAUTHENTICATED");
  broker.deniesWatches = false;
  const again = await broker.streams.take();
  assert.deepEqual(again.request.seenGenerations, {});
  again.write(snapshot([secret()]));
  while (standing(live) !== undefined) {
    await client.get("DB");
  }
  assert.equal(changes.size, 0);
  await live.close();
});

const standing = (live: Live): SecretBrokerError | undefined => live.standing;

test("waiting for a later version ends by its deadline or its signal", async (t) => {
  const { client } = await served(t);
  const live = await client.live("DB");
  await assert.rejects(live.after(1, { deadlineMs: 50 }), DeadlineError);
  const abort = new AbortController();
  const waiting = live.after(1, { signal: abort.signal });
  abort.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  await live.close();
});

test("waiting for the first value ends by its signal", async (t) => {
  const { broker, client } = await served(t);
  const abort = new AbortController();
  const opening = client.live("LATE", { signal: abort.signal });
  await broker.gets.take();
  abort.abort(new Error("enough"));
  await assert.rejects(opening, /enough/);
});

test("a refused version is reported, and its successor waited for", async (t) => {
  const { broker, client } = await served(t);
  const live = await client.live("DB");
  const refused = live.refused(live.current, "28P01");
  const report = await broker.reports.take();
  assert.deepEqual([report.outcome, report.detail], [3, "28P01"]);
  (await broker.streams.take()).write(event("ROTATED", secret("DB", 2)));
  assert.equal(await refused, true);
  assert.equal(live.generation, 2);
  await live.close();
});

test("a slow hook keeps neither the handle nor other hooks waiting", async (t) => {
  const { broker, client } = await served(t);
  let end: () => void = () => undefined;
  const slow = new Promise<void>((resolve) => (end = resolve));
  const others = new Queue<Secret>();
  const live = await client.live("DB", { onChange: () => slow });
  live.onChange(others.put);
  const stream = await broker.streams.take();
  for (const generation of [2, 3]) {
    stream.write(event("ROTATED", secret("DB", generation)));
    assert.equal((await others.take()).generation, generation);
  }
  assert.equal(live.generation, 3);
  await client.get("DB");
  assert.equal(broker.reports.size, 0);
  end();
  assert.equal((await broker.reports.take()).generation, 3);
  await live.close();
});

test("a hook that is behind skips to the latest version", async (t) => {
  const { broker, client } = await served(t);
  let end: () => void = () => undefined;
  const slow = new Promise<void>((resolve) => (end = resolve));
  const changes = new Queue<number>();
  const live = await client.live("DB", {
    onChange: (found) => {
      changes.put(found.generation);
      return slow;
    },
  });
  const stream = await broker.streams.take();
  stream.write(event("ROTATED", secret("DB", 2)));
  assert.equal(await changes.take(), 2);
  for (const generation of [3, 4, 5]) {
    stream.write(event("ROTATED", secret("DB", generation)));
    await live.after(generation - 1);
  }
  end();
  assert.equal(await changes.take(), 5);
  assert.equal((await broker.reports.take()).generation, 5);
  await live.close();
});

test("a hook that fails keeps no other from being called", async (t) => {
  const { broker, client } = await served(t);
  t.mock.method(process, "emitWarning", () => undefined);
  const others = new Queue<Secret>();
  const live = await client.live("DB", { onChange: () => Promise.reject(new Error()) });
  live.onChange(others.put);
  (await broker.streams.take()).write(event("ROTATED", secret("DB", 2)));
  assert.equal((await others.take()).generation, 2);
  await live.close();
});

test("start-up waits for a value that its source does not have yet", async (t) => {
  const { broker, client } = await served(t);
  const opening = client.live("LATE");
  await broker.gets.take();
  broker.secrets["LATE"] = secret("LATE");
  const live = await opening;
  assert.equal(live.generation, 1);
  await live.close();
});

test("a handle keeps its value through the broker's restart", async (t) => {
  const { broker, client } = await served(t);
  const changes = new Queue<Secret>();
  const live = await client.live("DB", { onChange: changes.put });
  await broker.streams.take();
  broker.stop();
  assert.equal(live.current.generation, 1);
  await broker.start();
  (await broker.streams.take()).write(snapshot([secret("DB", 9)]));
  assert.equal((await changes.take()).generation, 9);
  await live.close();
});

test("start-up waits for the first value, and ends with what kept it", async (t) => {
  const { broker, client } = await served(t);
  await assert.rejects(client.live("NONE"), (error: RefusedError) => error.reason === "DENIED");
  await assert.rejects(client.live("SEALED", { deadlineMs: 1000 }), SecretBrokerError);
  await assert.rejects(client.live("SLOW", { deadlineMs: 200 }), DeadlineError);
  broker.stop();
  await assert.rejects(client.live("DB", { deadlineMs: 1000 }), UnreachableError);
  const starting = client.live("DB", { deadlineMs: 5000 });
  await broker.start();
  broker.secrets["DB"] = secret();
  const live = await starting;
  assert.equal(live.current.generation, 1);
  await live.close();
});

test("handles of one secret are shared until all are closed", async (t) => {
  const { broker, client } = await served(t);
  const changes = new Queue<Secret>();
  const first = await client.live("DB");
  const second = await client.live("DB", { onChange: changes.put });
  assert.equal(first, second);
  await first.close();
  (await broker.streams.take()).write(event("ROTATED", secret("DB", 2)));
  assert.equal((await changes.take()).generation, 2);
  await second.close();
  await second.close();
  const third = await client.live("DB");
  assert.notEqual(third, second);
  await third.close();
});

test("a handle ends with its client", async (t) => {
  const { broker, client } = await served(t);
  const live = await client.live("DB");
  await broker.streams.take();
  client.close();
  while (standing(live) === undefined) {
    await new Promise(setImmediate);
  }
  assert.ok(standing(live) instanceof ConfigurationError);
  await live.close();
});

const KEYS = Object.fromEntries(["a", "b", "c", "d"].map((name) => [name, bytes(name.repeat(32))]));

function signer(value: string, next: string, before: string, generation = 1): ReturnType<typeof secret> {
  return {
    ...secret("JWT", generation),
    fields: { value: KEYS[value]!.slice(), next: KEYS[next]!.slice() },
    previous: { ...previous(0), fields: { value: KEYS[before]!.slice() } },
  };
}

const foreign = (key: Uint8Array, alg = "HS256"): Promise<string> =>
  new SignJWT({ n: 1 }).setProtectedHeader({ alg }).sign(key);

test("current, next and previous keys verify, and no other", async (t) => {
  const { broker, client } = await served(t);
  broker.secrets["JWT"] = signer("b", "c", "a");
  const live = await client.live("JWT");
  const keys = new Jwt(live);
  assert.deepEqual(await keys.verify(await keys.sign({ n: 1 })), { n: 1 });
  for (const name of ["a", "b", "c"]) {
    assert.deepEqual(await keys.verify(await foreign(KEYS[name]!)), { n: 1 });
  }
  await assert.rejects(keys.verify(await foreign(KEYS["d"]!)), errors.JWSSignatureVerificationFailed);
  await assert.rejects(keys.verify(await foreign(bytes("b".repeat(64)), "HS512")), errors.JOSEError);
  await assert.rejects(keys.verify(await keys.sign({}, { lifetimeSecs: -61 })), errors.JWTExpired);
  assert.ok((await keys.verify(await keys.sign({}, { lifetimeSecs: -30 }))).exp);
  const theirs = await keys.sign({ aud: "theirs" });
  await assert.rejects(keys.verify(theirs), errors.JWTClaimValidationFailed);
  await assert.rejects(keys.verify(theirs, { audience: "mine" }), errors.JWTClaimValidationFailed);
  assert.deepEqual(await keys.verify(theirs, { audience: "theirs" }), { aud: "theirs" });
  await assert.rejects(keys.verify("nonsense"), errors.JOSEError);
  await live.close();
});

test("tokens outlive a rotation", async (t) => {
  const { broker, client } = await served(t);
  broker.secrets["JWT"] = signer("b", "c", "a");
  const live = await client.live("JWT");
  const keys = new Jwt(live);
  const before = await keys.sign({ n: 1 });
  (await broker.streams.take()).write(event("ROTATED", signer("c", "d", "b", 2)));
  await broker.reports.take();
  assert.deepEqual(await keys.verify(before), { n: 1 });
  assert.deepEqual(await keys.verify(await keys.sign({ n: 2 })), { n: 2 });
  await live.close();
});

test("a short key neither signs nor verifies", async (t) => {
  const { broker, client } = await served(t);
  broker.secrets["JWT"] = { ...signer("b", "c", "a"), fields: { value: bytes("short"), next: bytes("") } };
  const live = await client.live("JWT");
  const keys = new Jwt(live);
  await assert.rejects(keys.sign({}), /32 bytes/);
  for (const key of ["short", ""]) {
    await assert.rejects(keys.verify(token(key)), errors.JWSSignatureVerificationFailed);
  }
  assert.deepEqual(await keys.verify(await foreign(KEYS["a"]!)), { n: 1 });
  await live.close();
});

/** A token by a key of any length. */
function token(key: string): string {
  const [header, body] = ['{"alg":"HS256"}', '{"n":1}'].map((part) => Buffer.from(part).toString("base64url"));
  const tag = createHmac("sha256", key).update(`${header}.${body}`).digest("base64url");
  return `${header}.${body}.${tag}`;
}
