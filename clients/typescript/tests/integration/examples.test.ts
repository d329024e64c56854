import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";

import { rig } from "../rig.js";

test("the README's example works as it stands", (t) => {
  const example = /```ts\n(.*?)```/s.exec(readFileSync("README.md", "utf8"))?.[1] ?? "";
  assert.ok(example.split("\n").filter(Boolean).length <= 10);
  // In the package, so that its own name is found.
  const directory = mkdtempSync(".build/readme-");
  t.after(() => {
    rmSync(directory, { recursive: true });
  });
  const file = join(directory, "example.mjs");
  writeFileSync(file, `const DATABASE_URL = ${JSON.stringify(rig.pg)};\n${example}`);
  assert.equal(execFileSync(process.execPath, [file], { encoding: "utf8", timeout: 60_000 }), "it works\n");
});

test("the web service lives through rotations", async (t) => {
  const service = spawn(process.execPath, [".build/examples/web_service.js", "0", rig.pg], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => service.kill());
  const line = await new Promise<string>((resolve) => {
    createInterface(service.stdout).once("line", resolve);
  });
  const address = `http://127.0.0.1:${line.split(" ").at(-1)!}`;
  const issued = async (): Promise<string> => {
    const answer = await fetch(address, { method: "POST" });
    return ((await answer.json()) as { token: string }).token;
  };
  const asked = async (token: string): Promise<string> => {
    const answer = await fetch(address, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(answer.status, 200);
    return ((await answer.json()) as { user: string }).user;
  };
  let token = await issued();
  const users = new Set([await asked(token)]);
  for (let time = 0; time < 3; time += 1) {
    await rig.rotate("JWT");
    await rig.rotate("DB");
    users.add(await asked(token));
    token = await issued();
  }
  assert.ok(users.size >= 2);
  assert.equal((await fetch(address)).status, 401);
});
