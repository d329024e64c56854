/**
 * What a watcher has seen: turns the broker's messages into events, each version once.
 *
 * Pure. The ledger survives reconnects and is what a stream resumes from.
 */

import { type Reason, RefusedError, type SecretBrokerError, reasonOf } from "./errors.js";
import { WatchEventType as Type } from "./generated/secretbroker/v1/broker.js";
import type * as wire from "./generated/secretbroker/v1/broker.js";
import { Secret, milliseconds } from "./secret.js";

/** What happened to a watched secret. Each event with a secret carries the full state. */
export type Event =
  /** The version that is current when the watch begins to see this secret. */
  | { readonly type: "CURRENT"; readonly name: string; readonly secret: Secret }
  /** A new version is served, also one that came while the connection was lost. */
  | { readonly type: "ROTATED"; readonly name: string; readonly secret: Secret }
  /** The same version ends later. */
  | { readonly type: "RENEWED"; readonly name: string; readonly secret: Secret }
  /** The version ends soon, and no successor could be had yet. */
  | { readonly type: "EXPIRING"; readonly name: string; readonly secret: Secret }
  /** The source could not confirm the version when it was due. */
  | { readonly type: "STALE"; readonly name: string; readonly secret: Secret }
  /** The source confirms the version again. */
  | { readonly type: "RECOVERED"; readonly name: string; readonly secret: Secret }
  /** The value must not be used any more. */
  | { readonly type: "REVOKED"; readonly name: string; readonly reason: Reason }
  /** No value can be had now; the next one comes as `CURRENT`. */
  | { readonly type: "UNAVAILABLE"; readonly name: string; readonly error: SecretBrokerError };

const UNCHANGED = new Map<Type, "RENEWED" | "EXPIRING" | "STALE" | "RECOVERED">([
  [Type.WATCH_EVENT_TYPE_RENEWED, "RENEWED"],
  [Type.WATCH_EVENT_TYPE_EXPIRING, "EXPIRING"],
  [Type.WATCH_EVENT_TYPE_STALE, "STALE"],
  [Type.WATCH_EVENT_TYPE_RECOVERED, "RECOVERED"],
]);

/** The versions seen, by the secret's name. */
export class Ledger {
  readonly #seen = new Map<string, { generation: number; version: string }>();

  /** Counts a version as seen. */
  note({ name, generation, version }: Secret): void {
    this.#seen.set(name, { generation, version });
  }

  /** What a stream resumes from. */
  generations(): Record<string, number> {
    return Object.fromEntries([...this.#seen].map(([name, { generation }]) => [name, generation]));
  }

  /** The events of one message, in its order. */
  take(message: wire.WatchSecretsResponse): Event[] {
    switch (message.type) {
      case Type.WATCH_EVENT_TYPE_SNAPSHOT:
        return this.#snapshot(message);
      case Type.WATCH_EVENT_TYPE_REVOKED:
        this.#seen.delete(message.name);
        return [{ type: "REVOKED", name: message.name, reason: reasonOf(message.reason) }];
      default:
        return this.#changed(message.type, message.secrets);
    }
  }

  #snapshot(message: wire.WatchSecretsResponse): Event[] {
    const named = new Set([...message.unchanged, ...message.secrets.map(({ name }) => name)]);
    const events = this.#changed(message.type, message.secrets);
    for (const { name, outcome } of message.unavailable) {
      named.add(name);
      this.#seen.delete(name);
      if (outcome?.$case === "error") {
        events.push({ type: "UNAVAILABLE", name, error: refusal(outcome.value) });
      }
    }
    for (const name of [...this.#seen.keys()].filter((name) => !named.has(name)).sort()) {
      this.#seen.delete(name);
      events.push({ type: "REVOKED", name, reason: "WITHDRAWN" });
    }
    return events;
  }

  /**
   * A version not seen before is a rotation whatever the message calls it: the broker may have left out the message
   * that lay between.
   */
  #changed(kind: Type, secrets: readonly wire.Secret[]): Event[] {
    return secrets.flatMap((message): Event[] => {
      const secret = new Secret(message);
      const { name } = secret;
      const seen = this.#seen.get(name);
      this.note(secret);
      if (seen === undefined) {
        return [{ type: "CURRENT", name, secret }];
      }
      if (seen.generation !== secret.generation || seen.version !== secret.version) {
        return [{ type: "ROTATED", name, secret }];
      }
      const type = UNCHANGED.get(kind);
      return type === undefined ? [] : [{ type, name, secret }];
    });
  }
}

/** The broker's answer about one name. */
export function refusal(error: wire.SecretError): RefusedError {
  return new RefusedError(reasonOf(error.reason), error.message, milliseconds(error.retryAfter));
}
