/**
 * A handle that always has the current version of a secret.
 *
 * - Reading it is reading a field: no call.
 * - It watches by itself, survives the broker's restarts, and ends with `close`.
 * - What was held last stays when the broker goes away, and when it can give none: `standing` says so.
 */

import { inspect } from "node:util";

import { Backoff, LAST_BOUND, pause } from "./backoff.js";
import type { CallOptions, Client, Outcome } from "./client.js";
import { ConfigurationError, DeadlineError, RefusedError, SecretBrokerError } from "./errors.js";
import { type Holder, Holders } from "./holders.js";
import { type Hook, Hooked } from "./hooks.js";
import type { Previous, Secret } from "./secret.js";
import type { Watch } from "./watch.js";
import type { Event } from "./watched.js";

/** How to wait for the first value. */
interface Waiting {
  readonly deadlineMs: number;
  readonly signal: AbortSignal | undefined;
}

/** The current version of one secret. */
export class Live {
  readonly #client: Client;
  readonly #holders: Holders;
  readonly #reportApplied: boolean;
  readonly #hooks = new Set<Hooked>();
  readonly #closing = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #users = 1;
  #secret: Secret;
  #standing: SecretBrokerError | undefined;
  /** Aborted and replaced at each change. */
  #told = new AbortController();
  #watch: Watch | undefined;

  private constructor(client: Client, first: Secret, reportApplied: boolean) {
    this.#client = client;
    this.#secret = first;
    this.#reportApplied = reportApplied;
    this.#holders = new Holders(first.generation, () => void this.#report());
  }

  /** Use `Client.live`. */
  static async open(client: Client, name: string, reportApplied: boolean, options: Waiting): Promise<Live> {
    const live = new Live(client, await firstOf(client, name, options), reportApplied);
    live.#running = live.#run();
    return live;
  }

  /** The name of the secret. */
  get name(): string {
    return this.#secret.name;
  }

  /** The version to use now. */
  get current(): Secret {
    return this.#secret;
  }

  /** The version before, while it is still accepted. */
  get previous(): Previous | undefined {
    return this.#secret.previous;
  }

  /** The generation of the version to use now. */
  get generation(): number {
    return this.#secret.generation;
  }

  /** Absent while the broker serves the version that is held; otherwise why it does not. */
  get standing(): SecretBrokerError | undefined {
    return this.#standing;
  }

  /** Waits for a version later than this generation; rejects with `DeadlineError` when none comes in time. */
  async after(generation: number, options: CallOptions = {}): Promise<Secret> {
    const { deadlineMs = this.#client.deadlineMs, signal } = options;
    const ends = performance.now() + deadlineMs;
    for (let left = deadlineMs; this.generation <= generation; left = ends - performance.now()) {
      if (left <= 0) {
        throw new DeadlineError(this.#client.address, deadlineMs);
      }
      await pause(left, AbortSignal.any([this.#told.signal, ...(signal ? [signal] : [])]));
      signal?.throwIfAborted();
    }
    return this.#secret;
  }

  /**
   * Calls the hook with each later version; gives what takes it away again. What the hook gives settles once the
   * application uses nothing older any more: a version is applied when it did for all hooks. A hook that is slow may skip
   * versions in between.
   */
  onChange(hook: Hook): () => void {
    const hooked = new Hooked(this.name, hook, this.#holders.join());
    this.#hooks.add(hooked);
    return () => {
      this.#hooks.delete(hooked);
      hooked.close();
    };
  }

  /** Adds a place whose older versions keep the broker from being told that a newer one is applied. */
  holder(): Holder {
    return this.#holders.join();
  }

  /** Tells the broker what became of the current version at its target. */
  report(outcome: Outcome, detail?: string): Promise<number> {
    return this.#client.report(this.current, outcome, detail);
  }

  /**
   * Tells the broker that the target refused a version, so that it fetches a fresh one, and waits for that. Gives whether
   * there is another before the client's deadline.
   */
  async refused(secret: Secret, detail?: string): Promise<boolean> {
    try {
      await this.#client.report(secret, "REFUSED", detail);
      await this.after(secret.generation);
    } catch (error) {
      if (!(error instanceof SecretBrokerError)) {
        throw error;
      }
    }
    return this.generation > secret.generation;
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
      this.#end();
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
      // Of a version that is not served the watch has to tell that it is served again.
      const holding = this.#standing === undefined ? [this.#secret] : [];
      this.#watch = this.#client.watch([this.name], { holding });
      try {
        for await (const event of this.#watch) {
          this.#take(event);
        }
      } catch (error) {
        if (error instanceof ConfigurationError) {
          this.#standing = error; // The client was closed.
          this.#end();
          return;
        }
        this.#standing = error instanceof SecretBrokerError ? error : undefined;
        process.emitWarning(`the watch of ${this.name} ended, and is begun again: ${String(error)}`, "SecretBroker");
      }
      await pause(LAST_BOUND, this.#closing.signal);
    }
  }

  #end(): void {
    this.#closing.abort();
    for (const hooked of this.#hooks) {
      hooked.close();
    }
    this.#hooks.clear();
  }

  #take(event: Event): void {
    if (event.type === "REVOKED") {
      this.#standing = new RefusedError(event.reason, `${this.name} must not be used any more`);
    } else if (event.type === "UNAVAILABLE") {
      this.#standing = event.error;
    } else {
      const { generation, version } = this.#secret;
      this.#secret = event.secret;
      this.#standing = undefined;
      if (generation !== event.secret.generation || version !== event.secret.version) {
        this.#changed(event.secret);
      }
    }
  }

  #changed(secret: Secret): void {
    this.#told.abort();
    this.#told = new AbortController();
    this.#holders.rotated(secret.generation);
    for (const hooked of this.#hooks) {
      hooked.tell(secret);
    }
  }

  async #report(): Promise<void> {
    const backoff = new Backoff();
    const secret = this.#secret;
    while (this.#reportApplied && !this.#closed && this.generation === secret.generation) {
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
}

async function firstOf(
  client: Client,
  name: string,
  { deadlineMs, signal = new AbortController().signal }: Waiting,
): Promise<Secret> {
  const ends = performance.now() + deadlineMs;
  const backoff = new Backoff();
  let last: SecretBrokerError = new DeadlineError(client.address, deadlineMs);
  for (let left = deadlineMs; left > 0; left = ends - performance.now()) {
    try {
      return await client.get(name, { deadlineMs: left, signal });
    } catch (error) {
      if (!(error instanceof SecretBrokerError) || !error.isTransient) {
        throw error;
      }
      if (error instanceof DeadlineError) {
        break;
      }
      last = error;
    }
    await pause(Math.min(backoff.wait(last), ends - performance.now()), signal);
  }
  throw last;
}
