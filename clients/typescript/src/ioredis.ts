/**
 * An ioredis connection that logs in with the current version of a secret.
 *
 * At a change the open connection logs in anew, in line with its commands, so that none fails; a connection that can't,
 * such as a subscriber's, is made again. The broker is told that a version is applied when the server accepted it.
 */

import { Redis, type RedisOptions } from "ioredis";

import type { Live } from "./live.js";
import { type LoginFields, follow, loginOf } from "./retire.js";

/** A `Redis` that follows a handle; its options name no user and no password. */
export class BrokerRedis extends Redis {
  readonly #live: Live;
  readonly #fields: LoginFields;
  readonly #unfollow: () => void;
  /** The generation that the open connection is logged in with. */
  #generation: number;

  constructor(
    live: Live,
    options: Omit<RedisOptions, "username" | "password" | "replyMapping"> = {},
    fields: LoginFields = {},
  ) {
    const { user, password } = loginOf(live.current, fields);
    super({ ...options, username: user, password });
    this.#live = live;
    this.#fields = fields;
    this.#generation = live.generation;
    this.#unfollow = follow(live, {
      retire: () => this.#retire(),
      behind: (generation) => this.#isOpen && this.#generation !== generation,
    });
  }

  /** Logs in with the version that is current when the connection is made. */
  override connect(callback?: (error?: Error | null) => void): Promise<void> {
    // The base class may call this from its constructor, with the login that it was given.
    if (#live in this) {
      this.#generation = this.#live.generation;
      this.#useCurrent();
    }
    return super.connect(callback);
  }

  /** Another connection that follows the same handle, such as for a subscriber. */
  override duplicate<Override extends Partial<RedisOptions> | undefined = undefined>(
    override?: Override,
  ): ReturnType<typeof Redis.prototype.duplicate<Override>> {
    const other: unknown = new BrokerRedis(this.#live, { ...this.options, ...override }, this.#fields);
    return other as ReturnType<typeof Redis.prototype.duplicate<Override>>;
  }

  override quit(...args: Parameters<Redis["quit"]>): ReturnType<Redis["quit"]> {
    this.#unfollow();
    return super.quit(...args);
  }

  override disconnect(reconnect = false): void {
    if (!reconnect) {
      this.#unfollow();
    }
    super.disconnect(reconnect);
  }

  get #isOpen(): boolean {
    return this.status === "ready" || this.status === "connect" || this.status === "connecting";
  }

  async #retire(): Promise<void> {
    const { generation } = this.#live;
    const { user, password } = this.#useCurrent();
    if (this.#generation === generation || this.status !== "ready") {
      return;
    }
    try {
      await this.auth(user, password);
      this.#generation = generation;
    } catch {
      this.disconnect(true);
    }
  }

  #useCurrent(): { user: string; password: string } {
    const login = loginOf(this.#live.current, this.#fields);
    this.options.username = login.user;
    this.options.password = login.password;
    return login;
  }
}
