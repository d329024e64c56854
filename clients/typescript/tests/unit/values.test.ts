import assert from "node:assert/strict";
import { test } from "node:test";
import { format, inspect } from "node:util";

import { reasonOf } from "../../src/errors.js";
import { ErrorReason, SecretState } from "../../src/generated/secretbroker/v1/broker.js";
import { Secret, metadataOf } from "../../src/secret.js";
import { bytes, secret } from "../fake.js";

const previous = () => ({
  fields: { password: bytes("hunter0") },
  version: "v0",
  generation: 0,
  validUntil: undefined,
});

const sample = (): Secret =>
  new Secret(secret("DB", 1, { previous: previous(), timeLeft: { seconds: 60, nanos: 0 } }));

test("no way of printing shows a value", () => {
  const made = sample();
  const subjects = [made, made.previous, made.fields, made.field("password"), [...made.fields.values()], { made }];
  const shown = subjects
    .flatMap((subject) => [
      String(subject),
      JSON.stringify(subject),
      inspect(subject, { depth: 9, showHidden: true, getters: true }),
      format("%s %o %O %j %d", subject, subject, subject, subject, subject),
      Object.entries(subject ?? {}).join(),
    ])
    .join("\n");
  assert.match(shown, /password/);
  assert.doesNotMatch(shown, /hunter/);
  assert.doesNotMatch(shown, /104, ?117|68 ?75 ?6e|"0":104/);
});

test("a field that is no text, or none, is named without a value", () => {
  const made = new Secret(secret("DB", 1, { fields: { raw: Uint8Array.from([255, 104, 117]) } }));
  assert.throws(() => made.text("raw"), /raw. is not UTF-8/);
  assert.throws(() => made.text("none"), /no field .none/);
  assert.equal(made.field("none"), undefined);
});

test("values are taken out of what they came in, and zeroed when closed", () => {
  const message = secret();
  const came = message.fields["password"]!;
  const made = new Secret({ ...message, previous: previous() });
  assert.deepEqual([...came], [0, 0, 0, 0, 0, 0, 0]);
  const value = made.field("password")!;
  assert.equal(made.text("password"), "hunter1");
  assert.equal(Buffer.from(value).toString(), "hunter1");
  made.close();
  assert.deepEqual([...value], [0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([...made.previous!.field("password")!], [0, 0, 0, 0, 0, 0, 0]);
});

test("the time left runs down on the local clock", (t) => {
  let now = 1000;
  t.mock.method(performance, "now", () => now);
  const made = sample();
  now += 45_000;
  assert.equal(made.timeLeftMs, 15_000);
  now += 45_000;
  assert.equal(made.timeLeftMs, 0);
});

test("the version before is shown until its overlap ends by the broker's clock", (t) => {
  let now = 1000;
  t.mock.method(performance, "now", () => now);
  // The broker's clock is decades behind ours.
  const [validUntil, expireTime] = [new Date(1_000_030_000), new Date(1_000_060_000)];
  const timeLeft = { seconds: 60, nanos: 0 };
  const made = new Secret(secret("DB", 1, { previous: { ...previous(), validUntil }, expireTime, timeLeft }));
  now += 29_000;
  assert.ok(made.previous);
  now += 1000;
  assert.equal(made.previous, undefined);
});

test("staleness is told with its reason", () => {
  const staleReason = ErrorReason.ERROR_REASON_SOURCE_SEALED;
  const made = new Secret(secret("DB", 1, { freshness: 2, staleReason, staleFor: { seconds: 3, nanos: 5e8 } }));
  assert.deepEqual([made.freshness, made.staleReason, made.staleForMs], ["STALE", "SOURCE_SEALED", 3500]);
  assert.deepEqual([sample().freshness, sample().staleReason], ["FRESH", undefined]);
});

test("reasons and states of a later contract are unspecified", () => {
  assert.equal(reasonOf(ErrorReason.ERROR_REASON_DENIED), "DENIED");
  assert.equal(reasonOf("LIMIT_EXCEEDED"), "LIMIT_EXCEEDED");
  for (const unknown of [9999, "NEVER_HEARD_OF", "", "UNRECOGNIZED"]) {
    assert.equal(reasonOf(unknown), "UNSPECIFIED");
  }
  const entry = { name: "A", category: "", version: "", generation: 0, issueTime: undefined, expireTime: undefined };
  assert.equal(metadataOf({ ...entry, state: SecretState.SECRET_STATE_STALE, reason: 0 }).state, "STALE");
  assert.equal(metadataOf({ ...entry, state: 99 as SecretState, reason: 0 }).state, "UNSPECIFIED");
});
