import assert from "node:assert/strict";
import { test } from "node:test";

import { ErrorReason, WatchEventType } from "../../src/generated/secretbroker/v1/broker.js";
import { type Event, Ledger } from "../../src/watched.js";
import { event, message, secret, snapshot } from "../fake.js";

const shown = (events: Event[]): string[] => events.map(({ type, name }) => `${type} ${name}`);

test("a version is told once however often it is sent", () => {
  const ledger = new Ledger();
  assert.deepEqual(shown(ledger.take(snapshot([secret("A", 1)]))), ["CURRENT A"]);
  assert.deepEqual(ledger.take(snapshot([secret("A", 1)])), []);
  assert.deepEqual(ledger.take(event("ROTATED", secret("A", 1))), []);
  assert.deepEqual(shown(ledger.take(event("ROTATED", secret("A", 2)))), ["ROTATED A"]);
  assert.deepEqual(ledger.generations(), { A: 2 });
});

test("a rotation hidden in another message is told as one", () => {
  const ledger = new Ledger();
  ledger.take(snapshot([secret("A", 1)]));
  assert.deepEqual(shown(ledger.take(event("RENEWED", secret("A", 3)))), ["ROTATED A"]);
  for (const kind of ["RENEWED", "EXPIRING", "STALE", "RECOVERED"]) {
    assert.deepEqual(shown(ledger.take(event(kind, secret("A", 3)))), [`${kind} A`]);
  }
});

test("what a snapshot leaves out is withdrawn", () => {
  const ledger = new Ledger();
  ledger.take(snapshot([secret("A", 1), secret("B", 1), secret("C", 1)]));
  assert.deepEqual(shown(ledger.take(snapshot([secret("B", 2)], ["A"]))), ["ROTATED B", "REVOKED C"]);
});

test("after it was unavailable or revoked a value is told again", () => {
  const ledger = new Ledger();
  ledger.take(snapshot([secret("A", 1)]));
  const error = { reason: ErrorReason.ERROR_REASON_SOURCE_SEALED, message: "", retryAfter: undefined };
  const gone = { ...snapshot([]), unavailable: [{ name: "A", outcome: { $case: "error", value: error } as const }] };
  assert.deepEqual(shown(ledger.take(gone)), ["UNAVAILABLE A"]);
  assert.deepEqual(shown(ledger.take(event("RECOVERED", secret("A", 1)))), ["CURRENT A"]);
  assert.deepEqual(shown(ledger.take(message({ type: WatchEventType.WATCH_EVENT_TYPE_REVOKED, name: "A" }))), [
    "REVOKED A",
  ]);
  assert.deepEqual(shown(ledger.take(event("ROTATED", secret("A", 2)))), ["CURRENT A"]);
});
