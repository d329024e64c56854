/**
 * A secret as the application holds it.
 *
 * Values are never printed. They are copied once, out of the buffer that they came in, which is zeroed; `close` zeroes
 * the copy. The time left is counted on this machine's monotonic clock from the moment of the reply, so that a clock
 * that differs from the broker's does no harm.
 */

import { inspect } from "node:util";

import { type Reason, reasonOf } from "./errors.js";
import { Freshness as WireFreshness, SecretState } from "./generated/secretbroker/v1/broker.js";
import type * as wire from "./generated/secretbroker/v1/broker.js";

type Unprefixed<Name extends string> = Name extends `SECRET_STATE_${infer Rest}` ? Rest : never;

/** Where a secret stands in its life; the meaning stands in the contract. */
export type State = Unprefixed<keyof typeof SecretState>;

/** Whether the source of a secret still confirms it. */
export type Freshness = "FRESH" | "STALE";

const HIDDEN = "[hidden]";
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes that are used as any, and print without their content. */
export class SecretBytes extends Uint8Array {
  /** Does not show the bytes; decode them to see their text. */
  override toString(): string {
    return HIDDEN;
  }

  override toLocaleString(): string {
    return HIDDEN;
  }

  override join(): string {
    return HIDDEN;
  }

  toJSON(): string {
    return HIDDEN;
  }

  [inspect.custom](): string {
    return `SecretBytes(${HIDDEN})`;
  }
}

abstract class Valued {
  readonly #fields: ReadonlyMap<string, SecretBytes>;
  /** The version at the source; equal versions have equal values. */
  readonly version: string;
  /** Grows with each new version that the broker serves. */
  readonly generation: number;

  constructor(message: { fields: Record<string, Uint8Array>; version: string; generation: number }) {
    const taken = Object.entries(message.fields).sort(([a], [b]) => (a < b ? -1 : 1));
    this.#fields = new Map(taken.map(([name, value]) => [name, take(value)]));
    this.version = message.version;
    this.generation = message.generation;
  }

  /** All fields in the order of their names. */
  get fields(): ReadonlyMap<string, SecretBytes> {
    return this.#fields;
  }

  /** The bytes of a field, without a copy. */
  field(name: string): SecretBytes | undefined {
    return this.#fields.get(name);
  }

  /** A field as text; throws `RangeError` when there is no such field or it is not UTF-8. */
  text(name: string): string {
    const value = this.#fields.get(name);
    if (value === undefined) {
      throw new RangeError(`there is no field \`${name}\``);
    }
    try {
      return decoder.decode(value);
    } catch {
      throw new RangeError(`the field \`${name}\` is not UTF-8`);
    }
  }

  /** Zeroes the values at once. */
  close(): void {
    for (const value of this.#fields.values()) {
      value.fill(0);
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** What may be printed. */
  abstract toJSON(): object;

  toString(): string {
    return `${this.constructor.name} ${JSON.stringify(this)}`;
  }

  [inspect.custom](): string {
    return this.toString();
  }
}

/** The version before, while it is still accepted. */
export class Previous extends Valued {
  /** Until when it is accepted at the latest, by the broker's clock. */
  readonly validUntil: Date | undefined;
  readonly #ends: number | undefined;

  /** As of the broker's time of the reply, in milliseconds. */
  constructor(message: wire.PreviousSecret, sentAt: number) {
    super(message);
    this.validUntil = message.validUntil;
    const until = message.validUntil?.getTime();
    this.#ends = until === undefined ? undefined : performance.now() + until - sentAt;
  }

  /** Whether that moment has passed, counted from the reply. */
  get isOver(): boolean {
    return this.#ends !== undefined && performance.now() >= this.#ends;
  }

  override toJSON(): object {
    return { fields: [...this.fields.keys()], version: this.version, generation: this.generation };
  }
}

/** A version of a secret with all that says how far it can be trusted. */
export class Secret extends Valued {
  /** The name in the broker's catalogue. */
  readonly name: string;
  /** When the version was issued, by the broker's clock. */
  readonly issuedAt: Date | undefined;
  /** When the version ends, by the broker's clock; absent when nothing ends it. */
  readonly expiresAt: Date | undefined;
  /** Whether the source still confirms the version. */
  readonly freshness: Freshness;
  /** Why the version is stale; absent when it is fresh. */
  readonly staleReason: Reason | undefined;
  /** How long it had been stale at the time of the reply, in milliseconds; absent when it is fresh. */
  readonly staleForMs: number | undefined;
  readonly #previous: Previous | undefined;
  readonly #ends: number | undefined;

  constructor(message: wire.Secret) {
    super(message);
    this.name = message.name;
    this.issuedAt = message.issueTime;
    this.expiresAt = message.expireTime;
    const left = milliseconds(message.timeLeft);
    this.#ends = left === undefined ? undefined : performance.now() + left;
    const stale = message.freshness === WireFreshness.FRESHNESS_STALE;
    this.freshness = stale ? "STALE" : "FRESH";
    this.staleReason = stale ? reasonOf(message.staleReason) : undefined;
    this.staleForMs = stale ? milliseconds(message.staleFor) : undefined;
    // The broker's clock, as far as the reply tells it; else this machine's.
    const end = message.expireTime?.getTime();
    const sentAt = end === undefined || left === undefined ? Date.now() : end - left;
    this.#previous = message.previous && new Previous(message.previous, sentAt);
  }

  /** The version before, while it overlaps this one. */
  get previous(): Previous | undefined {
    return this.#previous?.isOver === false ? this.#previous : undefined;
  }

  /** The time left now in milliseconds, by this machine's monotonic clock; absent when nothing ends the version. */
  get timeLeftMs(): number | undefined {
    return this.#ends === undefined ? undefined : Math.max(0, this.#ends - performance.now());
  }

  override close(): void {
    super.close();
    this.#previous?.close();
  }

  override toJSON(): object {
    return {
      name: this.name,
      fields: [...this.fields.keys()],
      version: this.version,
      generation: this.generation,
      timeLeftMs: this.timeLeftMs,
      freshness: this.freshness,
      previous: this.previous,
    };
  }
}

/** What is known of a secret without its value. */
export interface Metadata {
  readonly name: string;
  /** The category, such as `database`. */
  readonly category: string;
  readonly state: State;
  /** Empty when none is held. */
  readonly version: string;
  /** 0 when none is held. */
  readonly generation: number;
  readonly issuedAt: Date | undefined;
  /** Absent when nothing ends the version. */
  readonly expiresAt: Date | undefined;
  /** Why the state is not fresh. */
  readonly reason: Reason | undefined;
}

/** Takes an entry over from the contract. */
export function metadataOf(message: wire.SecretMetadata): Metadata {
  const state = SecretState[message.state] as string | undefined;
  const reason = reasonOf(message.reason);
  return {
    name: message.name,
    category: message.category,
    state: (state ?? "SECRET_STATE_UNSPECIFIED").replace("SECRET_STATE_", "") as State,
    version: message.version,
    generation: message.generation,
    issuedAt: message.issueTime,
    expiresAt: message.expireTime,
    reason: reason === "UNSPECIFIED" ? undefined : reason,
  };
}

/** A time of the contract in milliseconds. */
export function milliseconds(duration: { seconds: number; nanos: number } | undefined): number | undefined {
  return duration && duration.seconds * 1000 + duration.nanos / 1e6;
}

/** Takes bytes over: what they came in is zeroed. */
function take(value: Uint8Array): SecretBytes {
  const taken = new SecretBytes(value.length);
  taken.set(value);
  value.fill(0);
  return taken;
}
