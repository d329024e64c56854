/**
 * What an application does when a version changes.
 *
 * Each hook is called with new versions, in order and one after the other: a slow one keeps neither the handle nor another
 * hook waiting, and goes on with the latest version, so that it may skip some in between. One that fails has not taken its
 * version over.
 */

import type { Holder } from "./holders.js";
import type { Secret } from "./secret.js";

/** Is called with later versions, without those that came and went while it was busy; what it gives is awaited. */
export type Hook = (secret: Secret) => unknown;

/** A hook and where it is. */
export class Hooked {
  readonly #name: string;
  readonly #hook: Hook;
  readonly #holder: Holder;
  #turn = Promise.resolve();
  #latest: Secret | undefined;
  #closed = false;

  constructor(name: string, hook: Hook, holder: Holder) {
    this.#name = name;
    this.#hook = hook;
    this.#holder = holder;
  }

  /** Has the hook called with a version, in place of one that it has not come to. */
  tell(secret: Secret): void {
    if (this.#latest === undefined) {
      this.#turn = this.#turn.then(() => this.#call());
    }
    this.#latest = secret;
  }

  /** The hook is not called any more; what it began goes on. */
  close(): void {
    this.#closed = true;
    this.#latest = undefined;
    this.#holder.leave();
  }

  async #call(): Promise<void> {
    const secret = this.#latest;
    this.#latest = undefined;
    if (this.#closed || secret === undefined) {
      return;
    }
    try {
      await this.#hook(secret);
      this.#holder.applied(secret.generation);
    } catch (error) {
      // Its text may hold a value.
      const kind = error instanceof Error ? error.name : typeof error;
      process.emitWarning(`a hook on ${this.#name} failed with ${kind}`, "SecretBroker");
    }
  }
}
