/** Lets a pool's connections of older versions go softly, and then says so to the handle. */

import { pause } from "./backoff.js";
import type { Live } from "./live.js";
import type { Secret } from "./secret.js";

/** Milliseconds between looks at connections that are in use. */
const LOOK = 250;

/** The fields of a secret that log in. */
export interface LoginFields {
  /** `username` unless told. */
  readonly userField?: string | undefined;
  /** `password` unless told. */
  readonly passwordField?: string | undefined;
}

/** The user and the password of a version. */
export function loginOf(secret: Secret, fields: LoginFields): { user: string; password: string } {
  return {
    user: secret.text(fields.userField ?? "username"),
    password: secret.text(fields.passwordField ?? "password"),
  };
}

/** What a pool does at a change. */
export interface Retiring {
  /** Closes idle connections that are outdated. */
  retire(): Promise<void>;
  /** Whether any open connection logged in with another version. */
  behind(generation: number): boolean;
}

/** Retires a pool's connections at each change. Gives what ends that. */
export function follow(live: Live, pool: Retiring): () => void {
  const closing = new AbortController();
  const remove = live.onChange(async () => {
    while (!closing.signal.aborted) {
      try {
        await pool.retire();
        if (!pool.behind(live.generation)) {
          return;
        }
      } catch (error) {
        const kind = error instanceof Error ? error.name : typeof error;
        process.emitWarning(`connections of ${live.name} could not be retired: ${kind}`, "SecretBroker");
      }
      await pause(LOOK, closing.signal);
    }
  });
  return () => {
    closing.abort();
    remove();
  };
}
