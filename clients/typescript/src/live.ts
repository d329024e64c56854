/**
 * A handle that always has the current version of a secret.
 *
 * - Reading it is reading a field: no call.
 * - It watches by itself, survives the broker's restarts, and ends with `close`.
 * - While the broker can't be reached the last version stays; one that the broker withdrew is gone at once.
 */

import { inspect } from "node:util";

import { Backoff, LAST_BOUND, pause } from "./backoff.js";
import type { Client, Outcome } from "./client.js";
import { ConfigurationError, DeadlineError, type Reason, RefusedError, SecretBrokerError } from "./errors.js";
import { type Holder, Holders } from "./holders.js";
import type { Previous, Secret } from "./secret.js";
import type { Watch } from "./watch.js";
import type { Event } from "./watched.js";

/** Is called with each later version. */
export type Hook = (secret: Secret) => unknown;

/** With these the value is not merely out of reach. */
const GONE: ReadonlySet<Reason | undefined> = new Set<Reason>([
  "EXPIRED",
  "REVOKED",
  "WITHDRAWN",
  "DENIED",
  "SOURCE_NOT_FOUND",
]);

/** The current version of one secret. */
export class Live {
  /** The name of the secret. */
  readonly name: string;
  readonly #client: Client;
  readonly #holders: Holders;
  readonly #own: Holder;
  readonly #reportApplied: boolean;
  readonly #hooks = new Set<Hook>();
  readonly #closing = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #users = 1;
  #secret: Secret | undefined;
  #last: { generation: number; version: string };
  #why: SecretBrokerError | undefined;
  #watch: Watch | undefined;

  private constructor(client: Client, first: Secret, reportApplied: boolean) {
    this.name = first.name;
    this.#client = client;
    this.#secret = first;
    this.#last = { generation: first.generation, version: first.version };
    this.#reportApplied = reportApplied;
    this.#holders = new Holders(first.generation, () => void this.#report());
    this.#own = this.#holders.join();
  }

  /** Use `Client.live`. */
  static async open(client: Client, name: string, deadlineMs: number, reportApplied: boolean): Promise<Live> {
    const live = new Live(client, await firstOf(client, name, deadlineMs), reportApplied);
    live.#running = live.#run();
    return live;
  }

  /** The current version; throws the broker's `RefusedError` while there is none. */
  get current(): Secret {
    return this.#secret ?? this.#missing();
  }

  /** The version before, while it is still accepted. */
  get previous(): Previous | undefined {
    const previous = this.#secret?.previous;
    return previous?.isOver === false ? previous : undefined;
  }

  /** The generation of the last version, also when it must not be used any more. */
  get generation(): number {
    return this.#last.generation;
  }

  /** Calls the hook with each later version, and waits for it; gives what takes it away again. */
  onChange(hook: Hook): () => void {
    const own: Hook = (secret) => hook(secret);
    this.#hooks.add(own);
    return () => void this.#hooks.delete(own);
  }

  /** Adds a place whose older versions keep the broker from being told that a newer one is applied. */
  holder(): Holder {
    return this.#holders.join();
  }

  /** Tells the broker what became of the current version at its target. */
  report(outcome: Outcome, detail?: string): Promise<number> {
    return this.#client.report(this.current, outcome, detail);
  }

  /** Counts one more user, who closes the handle as well; false when it is closed already. */
  share(): boolean {
    this.#users += this.#users > 0 ? 1 : 0;
    return this.#users > 0;
  }

  /** Ends the watch when this is the last user; the last version stays readable. */
  async close(): Promise<void> {
    this.#users -= this.#users > 0 ? 1 : 0;
    if (this.#users === 0) {
      this.#closing.abort();
      this.#watch?.close();
      await this.#running;
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  toJSON(): object {
    return { name: this.name, generation: this.generation, current: this.#secret };
  }

  toString(): string {
    return `Live ${JSON.stringify(this)}`;
  }

  [inspect.custom](): string {
    return this.toString();
  }

  /** A getter, since it changes while others wait. */
  get #closed(): boolean {
    return this.#closing.signal.aborted;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      this.#watch = this.#client.watch([this.name], { holding: this.#secret ? [this.#secret] : [] });
      try {
        for await (const event of this.#watch) {
          await this.#take(event);
        }
      } catch (error) {
        if (error instanceof ConfigurationError) {
          return; // The client was closed.
        }
        process.emitWarning(`the watch of ${this.name} ended, and is begun again: ${String(error)}`, "SecretBroker");
      }
      await pause(LAST_BOUND, this.#closing.signal);
    }
  }

  async #take(event: Event): Promise<void> {
    switch (event.type) {
      case "REVOKED":
        this.#drop(new RefusedError(event.reason, `${this.name} must not be used any more`));
        return;
      case "UNAVAILABLE":
        if (GONE.has(event.error.reason)) {
          this.#drop(event.error);
        }
        return;
      default: {
        const { generation, version } = event.secret;
        const changed = generation !== this.#last.generation || version !== this.#last.version;
        this.#secret = event.secret;
        if (changed) {
          this.#last = { generation, version };
          await this.#changed(event.secret);
        }
      }
    }
  }

  async #changed(secret: Secret): Promise<void> {
    this.#holders.rotated(secret.generation);
    for (const hook of [...this.#hooks]) {
      try {
        await hook(secret);
      } catch (error) {
        // Its text may hold a value.
        const kind = error instanceof Error ? error.name : typeof error;
        process.emitWarning(`a hook on ${this.name} failed with ${kind}`, "SecretBroker");
        return;
      }
    }
    this.#own.applied(secret.generation);
  }

  async #report(): Promise<void> {
    const backoff = new Backoff();
    const secret = this.#secret;
    while (this.#reportApplied && !this.#closed && secret && this.#secret?.generation === secret.generation) {
      try {
        await this.#client.report(secret, "APPLIED");
        return;
      } catch (error) {
        if (!(error instanceof SecretBrokerError) || !error.isTransient) {
          return;
        }
        await pause(backoff.wait(error), this.#closing.signal);
      }
    }
  }

  #drop(error: SecretBrokerError): void {
    this.#why = error;
    this.#secret = undefined;
  }

  #missing(): never {
    const detail = this.#why instanceof RefusedError ? this.#why.detail : `${this.name} has no value now`;
    throw new RefusedError(this.#why?.reason ?? "REVOKED", detail);
  }
}

async function firstOf(client: Client, name: string, deadlineMs: number): Promise<Secret> {
  const ends = performance.now() + deadlineMs;
  const backoff = new Backoff();
  let last: SecretBrokerError = new DeadlineError(client.address, deadlineMs);
  for (let left = deadlineMs; left > 0; left = ends - performance.now()) {
    try {
      return await client.get(name, { deadlineMs: left });
    } catch (error) {
      if (!(error instanceof SecretBrokerError) || !error.isTransient) {
        throw error;
      }
      if (error instanceof RefusedError && error.retryAfterMs === undefined) {
        throw error;
      }
      if (error instanceof DeadlineError) {
        break;
      }
      last = error;
    }
    await pause(Math.min(backoff.wait(last), ends - performance.now()), new AbortController().signal);
  }
  throw last;
}
