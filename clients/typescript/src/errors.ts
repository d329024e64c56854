/**
 * Why a call failed: ours, the network's, or the broker's answer.
 *
 * No message ever holds a value: the broker's messages do not, and ours name files and addresses only.
 */

import { ErrorReason } from "./generated/secretbroker/v1/broker.js";

type Unprefixed<Name extends string> = Name extends `ERROR_REASON_${infer Rest}` ? Rest : never;

/** The broker's machine-readable reasons; their meaning stands in the contract. */
export type Reason = Unprefixed<keyof typeof ErrorReason>;

const PREFIX = "ERROR_REASON_";
const PERMANENT: ReadonlySet<Reason> = new Set<Reason>(["DENIED", "INVALID_REQUEST", "UNAUTHENTICATED"]);

/** A reason of the contract by its number or its name; one of a later contract is `UNSPECIFIED`. */
export function reasonOf(reason: number | string): Reason {
  const name = typeof reason === "number" ? ErrorReason[reason] : PREFIX + reason;
  const known = name !== undefined && name in ErrorReason && name !== "UNRECOGNIZED";
  return known ? (name.slice(PREFIX.length) as Reason) : "UNSPECIFIED";
}

/** Why a call failed. */
export abstract class SecretBrokerError extends Error {
  /** Whether the same call may succeed without anybody changing the request. */
  readonly isTransient: boolean = true;
  /** The broker's reason, where it answered. */
  readonly reason: Reason | undefined = undefined;
  /** How long the broker asks to wait before the next attempt, in milliseconds. */
  readonly retryAfterMs: number | undefined = undefined;

  override get name(): string {
    return this.constructor.name;
  }
}

/** The client is told something that can't work: an address, a file, a name. */
export class ConfigurationError extends SecretBrokerError {
  override readonly isTransient = false;
}

/** The broker and this client do not accept each other's certificates. */
export class TlsError extends SecretBrokerError {
  constructor(
    readonly address: string,
    readonly detail: string,
  ) {
    super(`TLS with ${address} failed: ${detail}`);
  }
}

/** The broker can't be reached, or the connection broke. */
export class UnreachableError extends SecretBrokerError {
  constructor(
    readonly address: string,
    readonly detail: string,
  ) {
    super(`${address} can't be reached: ${detail}; is the broker running there?`);
  }
}

/** No answer came in time. */
export class DeadlineError extends SecretBrokerError {
  constructor(
    readonly address: string,
    readonly deadlineMs: number,
  ) {
    super(`no answer from ${address} within ${deadlineMs / 1000} s`);
  }
}

/** The broker answered with an error. */
export class RefusedError extends SecretBrokerError {
  override readonly isTransient: boolean;
  override readonly reason: Reason;
  override readonly retryAfterMs: number | undefined;
  /** The answer for people, without the reason. */
  readonly detail: string;

  constructor(reason: Reason, detail: string, retryAfterMs?: number) {
    super(`${detail} (${reason})`);
    this.reason = reason;
    this.detail = detail;
    this.retryAfterMs = retryAfterMs;
    this.isTransient = !PERMANENT.has(reason);
  }
}
