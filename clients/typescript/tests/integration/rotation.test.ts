/** A hundred rotations under load, with a query on every pool at any time: none fails. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Client } from "../../src/index.js";
import { BrokerRedis } from "../../src/ioredis.js";
import { BrokerPool } from "../../src/pg.js";
import { rig } from "../rig.js";

const ROTATIONS = 100;

/** Queries on every pool, over and over, until it is stopped. */
class Load {
  readonly done = new Map<string, number>();
  readonly users = new Map<string, Set<string>>();
  readonly failed: string[] = [];
  readonly #running: Promise<void>[] = [];
  #stopped = false;

  add(name: string, query: () => Promise<string>): void {
    this.users.set(name, new Set());
    this.#running.push(this.#run(name, query), this.#run(name, query));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#running);
  }

  async #run(name: string, query: () => Promise<string>): Promise<void> {
    while (!this.#isStopped()) {
      try {
        this.users.get(name)!.add(await query());
        this.done.set(name, (this.done.get(name) ?? 0) + 1);
      } catch (error) {
        this.failed.push(`${name}: ${String(error)}`);
      }
      await sleep(5);
    }
  }

  #isStopped(): boolean {
    return this.#stopped;
  }
}

interface Row {
  user: string;
}

test("no query fails while credentials are replaced a hundred times", async () => {
  const client = Client.fromEnv();
  const [db, cache] = [await client.live("DB"), await client.live("CACHE")];
  // Brokers that were killed in other tests left theirs to Vault.
  const others = await rig.users();
  others.delete(db.current.text("username"));

  const pool = new BrokerPool(db, { connectionString: rig.pg, max: 3 });
  const redis = new BrokerRedis(cache, rig.redis);
  const load = new Load();
  load.add("pg pool.query", async () => (await pool.query<Row>('SELECT current_user AS "user"')).rows[0]!.user);
  load.add("pg pool.connect", async () => {
    const connection = await pool.connect();
    try {
      await connection.query("BEGIN");
      await connection.query("SELECT pg_sleep(0.02)");
      const { rows } = await connection.query<Row>('SELECT current_user AS "user"');
      await connection.query("COMMIT");
      return rows[0]!.user;
    } finally {
      connection.release();
    }
  });
  const other = redis.duplicate();
  load.add("ioredis", async () => String(await redis.call("ACL", "WHOAMI")));
  load.add("ioredis duplicate", async () => String(await other.call("ACL", "WHOAMI")));

  for (let number = 0; number < ROTATIONS; number += 1) {
    await rig.rotate("DB");
    await rig.rotate("CACHE");
  }
  await load.stop();

  // Each user that was replaced is revoked, long before its overlap would have ended.
  others.add(db.current.text("username"));
  const left = async (): Promise<string[]> => [...(await rig.users())].filter((user) => !others.has(user));
  for (let tries = 0; tries < 100 && (await left()).length > 0; tries += 1) {
    await sleep(100);
  }
  assert.deepEqual(await left(), []);

  await redis.quit();
  await other.quit();
  await pool.end();
  await db.close();
  await cache.close();
  client.close();
  console.log(Object.fromEntries([...load.done].map(([name, done]) => [name, [done, load.users.get(name)!.size]])));
  assert.deepEqual(load.failed, []);
  for (const [name, users] of load.users) {
    assert.ok(users.size > ROTATIONS / 2, name);
  }
});

test("a login that the database refuses is tried again with a fresh one", async () => {
  const client = Client.fromEnv();
  const db = await client.live("DB");
  const refused = db.current.text("username");
  await rig.do("drop-users");
  const pool = new BrokerPool(db, { connectionString: rig.pg });
  const { rows } = await pool.query<Row>('SELECT current_user AS "user"');
  assert.notEqual(rows[0]!.user, refused);
  await pool.end();
  await db.close();
  client.close();
});
