/** Waits between attempts. */

import type { SecretBrokerError } from "./errors.js";

/** Milliseconds; the bound of the wait before an attempt doubles from the first to the last. */
const FIRST_BOUND = 100;
export const LAST_BOUND = 5000;

/** Full jitter over a bound that doubles from 0.1 to 5 seconds, or as long as the broker asks. */
export class Backoff {
  #bound = FIRST_BOUND;

  /** Starts over, after something worked. */
  reset(): void {
    this.#bound = FIRST_BOUND;
  }

  /** Milliseconds to wait before the next attempt. */
  wait(error?: SecretBrokerError): number {
    const jittered = this.#bound * Math.random();
    this.#bound = Math.min(this.#bound * 2, LAST_BOUND);
    return error?.retryAfterMs ?? jittered;
  }
}

/** Waits, or returns at once when the signal is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
      return;
    }
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
  });
}
