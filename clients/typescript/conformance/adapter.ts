/** The adapter of the conformance runner: the protocol's operations by the client's verbs, as JSON lines. */

import { createInterface } from "node:readline";
import { format, inspect } from "node:util";

import { errors } from "jose";

import {
  Client,
  ConfigurationError,
  type Event,
  type Live,
  type Outcome,
  Secret,
  type SecretBytes,
  SecretBrokerError,
  type Watch,
} from "../src/index.js";
import { Jwt } from "../src/jwt.js";

interface Request {
  readonly id: number;
  readonly op: string;
  readonly address: string;
  readonly cert_dir?: string | null;
  readonly server_name?: string | null;
  readonly deadline_ms?: number | null;
  readonly name: string;
  readonly names: string[];
  readonly category?: string | null;
  readonly watch: string;
  readonly live: string;
  readonly outcome: Outcome;
  readonly detail?: string | null;
  readonly claims: Record<string, unknown>;
  readonly token: string;
}

let client: Client | undefined;
const secrets = new Map<string, Secret>();
const watches = new Map<string, Watch>();
const lives = new Map<string, { live: Live; remove: () => void }>();

const write = (line: object): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`);
};

function connected(): Client {
  if (client === undefined) {
    throw new ConfigurationError("connect comes first");
  }
  return client;
}

function liveOf(key: string): Live {
  const found = lives.get(key);
  if (found === undefined) {
    throw new ConfigurationError(`there is no handle ${key}`);
  }
  return found.live;
}

async function close(): Promise<void> {
  for (const watch of watches.values()) {
    watch.close();
  }
  for (const { live } of lives.values()) {
    await live.close();
  }
  watches.clear();
  lives.clear();
  client?.close();
}

const operations: Record<string, (request: Request) => Promise<unknown>> = {
  async connect(request) {
    const made = new Client({
      address: request.address,
      certDir: request.cert_dir ?? undefined,
      serverName: request.server_name ?? undefined,
      deadlineMs: request.deadline_ms ?? undefined,
    });
    await close();
    client = made;
    return {};
  },

  async get({ name, deadline_ms }) {
    const secret = await connected().get(name, { deadlineMs: deadline_ms ?? undefined });
    secrets.set(name, secret);
    return shown(secret);
  },

  async get_many({ names }) {
    return [...(await connected().getMany(names))].map(([name, result]) =>
      result instanceof Secret ? { name, ok: shown(result) } : { name, error: failed(result) },
    );
  },

  async list({ category }) {
    return (await connected().list(category ?? undefined)).map(({ name, category, state, generation }) => ({
      ...{ name, category, state, generation },
    }));
  },

  watch({ watch: key, names }) {
    const watch = connected().watch(names);
    watches.set(key, watch);
    void tell(key, watch);
    return Promise.resolve({});
  },

  unwatch({ watch: key }) {
    watches.get(key)?.close();
    watches.delete(key);
    return Promise.resolve({});
  },

  async report({ name, outcome, detail }) {
    const secret = secrets.get(name);
    if (secret === undefined) {
      throw new ConfigurationError(`${name} was not got yet`);
    }
    return { current_generation: await connected().report(secret, outcome, detail ?? undefined) };
  },

  async live({ live: key, name, deadline_ms }) {
    const live = await connected().live(name, { deadlineMs: deadline_ms ?? undefined });
    const remove = live.onChange((secret) => {
      write({ live: key, changed: secret.generation });
    });
    lives.set(key, { live, remove });
    return { generation: live.current.generation };
  },

  live_value({ live: key }) {
    const { current, previous, standing } = liveOf(key);
    const { generation, fields } = current;
    return Promise.resolve({
      generation,
      fields: encoded(fields),
      previous_generation: previous?.generation ?? null,
      standing: standing ? failed(standing) : null,
    });
  },

  async unlive({ live: key }) {
    const found = lives.get(key);
    lives.delete(key);
    found?.remove();
    await found?.live.close();
    return {};
  },

  async print({ name }) {
    const secret = await connected().get(name);
    const live = await connected().live(name);
    const subjects = [secret, live, live.current, secret.previous, secret.fields, ...secret.fields.values()];
    const texts = subjects.flatMap((subject) => [
      String(subject as unknown),
      JSON.stringify(subject),
      inspect(subject, { depth: 9, showHidden: true, getters: true }),
      format("%s %o %O %j", subject, subject, subject, subject),
    ]);
    await live.close();
    return { text: [...texts, inspect({ subjects }, { depth: 9 }), JSON.stringify({ subjects })].join("\n") };
  },

  async jwt_sign({ live: key, claims }) {
    return { token: await new Jwt(liveOf(key)).sign(claims) };
  },

  async jwt_verify({ live: key, token }) {
    return { claims: await new Jwt(liveOf(key)).verify(token) };
  },
};

async function tell(key: string, watch: Watch): Promise<void> {
  try {
    for await (const event of watch) {
      write({ watch: key, ...told(event) });
    }
  } catch (error) {
    write({ watch: key, error: failed(error) });
  }
}

function told(event: Event): object {
  const { type, name } = event;
  switch (event.type) {
    case "REVOKED":
      return { event: type, name, generation: null, reason: event.reason };
    case "UNAVAILABLE":
      return { event: type, name, generation: null, reason: event.error.reason ?? null };
    default:
      return { event: type, name, generation: event.secret.generation, reason: null };
  }
}

function shown({ name, version, generation, fields, freshness, timeLeftMs, previous }: Secret): object {
  return {
    ...{ name, version, generation, freshness },
    fields: encoded(fields),
    time_left_ms: timeLeftMs === undefined ? null : Math.floor(timeLeftMs),
    previous: previous
      ? { version: previous.version, generation: previous.generation, fields: encoded(previous.fields) }
      : null,
  };
}

function encoded(fields: ReadonlyMap<string, SecretBytes>): object {
  return Object.fromEntries([...fields].map(([name, value]) => [name, Buffer.from(value).toString("base64")]));
}

function failed(error: unknown): object {
  if (error instanceof errors.JOSEError) {
    return { kind: "refused", reason: null, transient: false, retry_after_ms: null };
  }
  if (error instanceof SecretBrokerError) {
    return {
      kind: error.name.replace("Error", "").toLowerCase(),
      reason: error.reason ?? null,
      transient: error.isTransient,
      retry_after_ms: error.retryAfterMs === undefined ? null : Math.floor(error.retryAfterMs),
    };
  }
  console.error(error);
  return { kind: "adapter", reason: null, transient: false, retry_after_ms: null };
}

async function answer(request: Request): Promise<void> {
  const { id, op } = request;
  try {
    const operation = operations[op];
    if (operation === undefined) {
      throw new Error(`there is no operation ${op}`);
    }
    write({ id, ok: await operation(request) });
  } catch (error) {
    write({ id, error: failed(error) });
  }
}

createInterface(process.stdin)
  .on("line", (line) => void answer(JSON.parse(line) as Request))
  .on("close", () => void close());
