import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";

import { Client, type Event, type RefusedError, Secret, type Watch } from "../../src/index.js";
import { Authority, Broker, event, secret, snapshot } from "../fake.js";

async function served(t: TestContext): Promise<{ broker: Broker; client: Client }> {
  const certDir = await (await Authority.create()).write();
  const broker = await Broker.tls(certDir);
  const client = new Client({ address: broker.address, certDir, deadlineMs: 5000 });
  t.after(() => {
    client.close();
    broker.stop();
  });
  return { broker, client };
}

async function told(watch: Watch, count: number): Promise<string[]> {
  const events: string[] = [];
  while (events.length < count) {
    const { value, done } = await watch.next();
    assert.ok(!done);
    events.push(`${value.type} ${value.name}`);
  }
  return events;
}

test("a watch resumes after what it has seen", async (t) => {
  const { broker, client } = await served(t);
  const watch = client.watch(["DB", "CACHE"]);
  const events = told(watch, 5);
  const first = await broker.streams.take();
  assert.deepEqual(first.request, { names: ["DB", "CACHE"], seenGenerations: {} });
  first.write(snapshot([secret("DB", 1), secret("CACHE", 1)]));
  first.write(event("ROTATED", secret("DB", 2)));
  first.end();
  const second = await broker.streams.take();
  assert.deepEqual(second.request.seenGenerations, { DB: 2, CACHE: 1 });
  second.write(snapshot([secret("CACHE", 4)], ["DB"]));
  second.write(event("RENEWED", secret("DB", 2)));
  assert.deepEqual(await events, ["CURRENT DB", "CURRENT CACHE", "ROTATED DB", "ROTATED CACHE", "RENEWED DB"]);
  await watch.return();
});

test("a watch starts after what its caller holds", async (t) => {
  const { broker, client } = await served(t);
  const watch = client.watch(["DB"], { holding: [new Secret(secret("DB", 1))] });
  const events = told(watch, 2);
  const stream = await broker.streams.take();
  assert.deepEqual(stream.request.seenGenerations, { DB: 1 });
  stream.write(snapshot([secret("DB", 2)]));
  stream.end();
  (await broker.streams.take()).write(snapshot([]));
  assert.deepEqual(await events, ["ROTATED DB", "REVOKED DB"]);
  watch.close();
});

test("a watch survives the broker's restart", async (t) => {
  const { broker, client } = await served(t);
  const watch = client.watch(["DB"]);
  const first = told(watch, 1);
  (await broker.streams.take()).write(snapshot([secret("DB", 1)]));
  assert.deepEqual(await first, ["CURRENT DB"]);
  broker.stop();
  const second = told(watch, 1);
  await broker.start();
  (await broker.streams.take()).write(snapshot([secret("DB", 5)]));
  assert.deepEqual(await second, ["ROTATED DB"]);
  watch.close();
});

test("a watch is closed under its reader", async (t) => {
  const { broker, client } = await served(t);
  const watch = client.watch(["DB"]);
  const events: Event[] = [];
  const reader = (async () => {
    for await (const event of watch) {
      events.push(event);
    }
  })();
  await broker.streams.take();
  watch.close();
  await reader;
  assert.deepEqual(events, []);
  assert.ok((await watch.next()).done);
});

test("leaving the loop ends the stream", async (t) => {
  const { broker, client } = await served(t);
  const left = (async () => {
    for await (const event of client.watch(["DB"])) {
      return event.type;
    }
    return undefined;
  })();
  const stream = await broker.streams.take();
  const cancelled = new Promise((resolve) => stream.once("cancelled", resolve));
  stream.write(snapshot([secret("DB", 1)]));
  assert.equal(await left, "CURRENT");
  await cancelled;
});

test("an error that stays ends the watch", async (t) => {
  const { broker, client } = await served(t);
  broker.deniesWatches = true;
  const watch = client.watch(["DB"]);
  await assert.rejects(watch.next(), (error: RefusedError) => error.reason === "UNAUTHENTICATED");
  assert.ok((await watch.next()).done);
});
