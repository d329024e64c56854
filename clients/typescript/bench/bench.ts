/**
 * What a handle costs: reads per second, and the time from a change to the hook.
 *
 * The hook's time is taken against the moment at which another client, asking over and over, first saw the version.
 */

import { Client, type Live } from "../src/index.js";
import { rig } from "../tests/rig.js";

const READS = 20_000_000;
const CHANGES = 10;

function reads(live: Live): number {
  let sum = 0;
  const started = performance.now();
  for (let read = 0; read < READS; read += 1) {
    sum += live.current.generation;
  }
  const seconds = (performance.now() - started) / 1000;
  return sum > 0 ? READS / seconds : 0;
}

/** Milliseconds from the first sight of a version to its hook; less than zero where the hook was first. */
async function change(client: Client, live: Live): Promise<number> {
  const before = live.generation;
  const hooked = new Promise<number>((resolve) => {
    const remove = live.onChange(() => {
      remove();
      resolve(performance.now());
    });
  });
  const rotated = rig.rotate("DB");
  while ((await client.get("DB")).generation === before);
  const seen = performance.now();
  await rotated;
  return (await hooked) - seen;
}

const client = Client.fromEnv();
const live = await client.live("DB");
reads(live);
console.log(`reads per second: ${Math.round(reads(live)).toLocaleString("en")}`);
const found: number[] = [];
for (let time = 0; time < CHANGES; time += 1) {
  found.push(await change(client, live));
}
found.sort((a, b) => a - b);
const [median, worst] = [found[CHANGES / 2] ?? 0, found.at(-1) ?? 0];
console.log(`change to hook, ms: median ${median.toFixed(2)}, worst ${worst.toFixed(2)}`);
await live.close();
client.close();
