/**
 * What an application does when a version changes.
 *
 * Each hook is called with each version, in order and one after the other: a slow one keeps neither the handle nor another
 * hook waiting. One that fails has not taken its version over.
 */

import type { Holder } from "./holders.js";
import type { Secret } from "./secret.js";

/** Is called with each later version; what it gives is awaited. */
export type Hook = (secret: Secret) => unknown;

/** A hook and where it is. */
export class Hooked {
  readonly #name: string;
  readonly #hook: Hook;
  readonly #holder: Holder;
  #turn = Promise.resolve();
  #closed = false;

  constructor(name: string, hook: Hook, holder: Holder) {
    this.#name = name;
    this.#hook = hook;
    this.#holder = holder;
  }

  /** Has the hook called with a version. */
  tell(secret: Secret): void {
    this.#turn = this.#turn.then(() => this.#call(secret));
  }

  /** The hook is not called any more; what it began goes on. */
  close(): void {
    this.#closed = true;
    this.#holder.leave();
  }

  async #call(secret: Secret): Promise<void> {
    if (this.#closed) {
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
