/**
 * A pg pool whose new connections log in with the current version of a secret.
 *
 * A connection of an older version is never handed out again: it is closed when it is idle or released. What is in use
 * is left alone, so that no query fails. The broker is told that a version is applied when no connection of an older
 * one is left, and of a login that the database refuses, which is tried again with the version that the broker then serves.
 */

import pg from "pg";

import type { Live } from "./live.js";
import { type LoginFields, follow, loginOf } from "./retire.js";
import type { Secret } from "./secret.js";

/** How often a login is tried while the credential changes under it. */
const ATTEMPTS = 3;
/** The SQLSTATE class of an invalid authorization. */
const AUTHORIZATION = "28";

type Callback = (error: Error | undefined, client: pg.PoolClient | undefined, done: pg.PoolClient["release"]) => void;

/** A `pg.Pool` that follows a handle; its configuration names no user and no password. */
export class BrokerPool extends pg.Pool {
  readonly #live: Live;
  readonly #generations: Map<object, number>;
  readonly #unfollow: () => void;

  constructor(live: Live, config: Omit<pg.PoolConfig, "user" | "password"> = {}, fields: LoginFields = {}) {
    const generations = new Map<object, number>();
    class Authenticated extends pg.Client {
      constructor(options?: pg.ClientConfig) {
        const secret = live.current;
        super(authenticated(options, loginOf(secret, fields)));
        generations.set(this, secret.generation);
        this.once("end", () => generations.delete(this));
      }
    }
    super({ ...config, Client: Authenticated });
    this.#live = live;
    this.#generations = generations;
    this.on("remove", (client) => generations.delete(client));
    this.#unfollow = follow(live, {
      retire: () => this.#retire(),
      behind: (generation) => [...generations.values()].some((of) => of !== generation),
    });
  }

  override connect(): Promise<pg.PoolClient>;
  override connect(callback: Callback): void;
  override connect(callback?: Callback): Promise<pg.PoolClient> | void {
    const acquired = this.#acquire();
    if (callback === undefined) {
      return acquired;
    }
    acquired.then(
      // Out of the promise, so that what the callback throws is not taken for ours.
      (client) =>
        setImmediate(callback, undefined, client, (error?: Error | boolean) => {
          client.release(error);
        }),
      (error: unknown) => setImmediate(callback, error as Error, undefined, () => undefined),
    );
  }

  override end(): Promise<void>;
  override end(callback: () => void): void;
  override end(callback?: () => void): Promise<void> | void {
    this.#unfollow();
    const ended = super.end();
    if (callback === undefined) {
      return ended;
    }
    void ended.then(callback);
  }

  async #acquire(): Promise<pg.PoolClient> {
    for (let attempt = 1; ; attempt += 1) {
      const secret = this.#live.current;
      try {
        const client = await super.connect();
        if (!this.#isOutdated(client)) {
          return this.#watched(client);
        }
        client.release(true);
      } catch (error) {
        if (attempt >= ATTEMPTS || !(await this.#hasSuccessor(secret, error))) {
          throw error;
        }
      }
    }
  }

  async #hasSuccessor(tried: Secret, error: unknown): Promise<boolean> {
    const state = String((error as { code?: unknown }).code);
    const refused = state.startsWith(AUTHORIZATION);
    return this.#live.generation !== tried.generation || (refused && this.#live.refused(tried, `SQLSTATE ${state}`));
  }

  /** Closes the client when it is released after its version was replaced. */
  #watched(client: pg.PoolClient): pg.PoolClient {
    const release = client.release.bind(client);
    client.release = (error) => {
      release(error ?? this.#isOutdated(client));
    };
    return client;
  }

  async #retire(): Promise<void> {
    const taken: pg.PoolClient[] = [];
    try {
      // No more than are idle, so that none is made and nobody is kept waiting.
      for (let left = this.idleCount; left > 0 && this.idleCount > 0 && this.waitingCount === 0; left -= 1) {
        taken.push(await super.connect());
      }
    } finally {
      for (const client of taken) {
        client.release(this.#isOutdated(client));
      }
    }
  }

  #isOutdated(client: object): boolean {
    return (this.#generations.get(client) ?? this.#live.generation) !== this.#live.generation;
  }
}

/** A connection string has the last word in pg, so the login has to stand in it. */
function authenticated(options: pg.ClientConfig = {}, login: { user: string; password: string }): pg.ClientConfig {
  if (options.connectionString === undefined) {
    return { ...options, ...login };
  }
  const url = new URL(options.connectionString);
  url.username = encodeURIComponent(login.user);
  url.password = encodeURIComponent(login.password);
  return { ...options, connectionString: url.href };
}
