/**
 * A watch that never ends by itself: it reconnects and resumes from what it has seen.
 *
 * - Each version is yielded once, and none is missed but such as were replaced while the reader slept.
 * - An error is thrown only when trying again can't help; it ends the watch.
 */

import type { ClientReadableStream } from "@grpc/grpc-js";

import { Backoff, pause } from "./backoff.js";
import type { Lease } from "./channels.js";
import type { SecretBrokerError } from "./errors.js";
import type { WatchSecretsRequest, WatchSecretsResponse } from "./generated/secretbroker/v1/broker.js";
import type { Secret } from "./secret.js";
import { type Event, Ledger } from "./watched.js";

/** What a watch needs of its client. */
export interface Connection {
  lease(): Lease;
  release(lease: Lease, error: SecretBrokerError | undefined): void;
  explain(error: unknown, lease: Lease): Promise<SecretBrokerError>;
}

/** An asynchronous iterator over changes; nothing happens until it is asked for the next. */
export class Watch implements AsyncIterableIterator<Event> {
  readonly #connection: Connection;
  readonly #names: string[];
  readonly #ledger = new Ledger();
  readonly #backoff = new Backoff();
  readonly #closing = new AbortController();
  readonly #events: AsyncGenerator<Event, undefined>;
  #stream: ClientReadableStream<WatchSecretsResponse> | undefined;

  /** Use `Client.watch`. */
  constructor(connection: Connection, names: Iterable<string>, holding: Iterable<Secret>) {
    this.#connection = connection;
    this.#names = [...names];
    for (const secret of holding) {
      this.#ledger.note(secret);
    }
    this.#events = this.#run();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<Event, undefined>> {
    return this.#events.next();
  }

  /** Ends the watch, as leaving a `for await` does. */
  return(): Promise<IteratorResult<Event, undefined>> {
    this.close();
    return this.#events.return(undefined);
  }

  /** Ends the watch, also under a reader that waits. */
  close(): void {
    this.#closing.abort();
    this.#stream?.cancel();
  }

  /** Breaks the present stream; the watch goes on with another one. */
  interrupt(): void {
    this.#stream?.cancel();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Whether `close` was called, which happens while others wait. */
  #isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  async *#run(): AsyncGenerator<Event, undefined> {
    while (!this.#isClosed()) {
      const lease = this.#connection.lease();
      let error: SecretBrokerError | undefined;
      try {
        this.#stream = lease.stub.watchSecrets(this.#request());
        for await (const message of this.#stream as AsyncIterable<WatchSecretsResponse>) {
          this.#backoff.reset();
          yield* this.#ledger.take(message);
        }
      } catch (status) {
        error = this.#isClosed() ? undefined : await this.#connection.explain(status, lease);
      } finally {
        this.#end();
        this.#connection.release(lease, error);
      }
      if (error !== undefined && !error.isTransient) {
        this.close();
        throw error;
      }
      await pause(this.#backoff.wait(error), this.#closing.signal);
    }
    return undefined;
  }

  #request(): WatchSecretsRequest {
    return { names: this.#names, seenGenerations: this.#ledger.generations() };
  }

  #end(): void {
    // What a stream says of its end after it was left is nobody's concern.
    this.#stream?.on("error", () => undefined);
    this.#stream?.cancel();
    this.#stream = undefined;
  }
}
