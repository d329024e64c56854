/** A broker in this process, told by the test what to answer, and certificates for it. */

import "reflect-metadata";

import { randomBytes, webcrypto } from "node:crypto";
import { mkdtempSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

import * as x509 from "@peculiar/x509";
import { BinaryWriter } from "@bufbuild/protobuf/wire";
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from "@grpc/grpc-js";

import {
  ErrorReason,
  type ListSecretsResponse,
  type ReportOutcomeRequest,
  type Secret,
  SecretBrokerService,
  WatchEventType,
  type WatchSecretsRequest,
  type WatchSecretsResponse,
} from "../src/generated/secretbroker/v1/broker.js";

/** Values handed over in order, to whoever waits. */
export class Queue<T> {
  readonly #ready: T[] = [];
  readonly #waiting: ((value: T) => void)[] = [];

  get size(): number {
    return this.#ready.length;
  }

  readonly put = (value: T): void => {
    const waiting = this.#waiting.shift();
    if (waiting) {
      waiting(value);
    } else {
      this.#ready.push(value);
    }
  };

  take(): Promise<T> {
    const ready = this.#ready.shift();
    return ready === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(ready);
  }
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

export function secret(name = "DB", generation = 1, more: Partial<Secret> = {}): Secret {
  return {
    name,
    fields: { username: bytes(`user${generation}`), password: bytes(`hunter${generation}`) },
    version: `v${generation}`,
    generation,
    issueTime: undefined,
    expireTime: undefined,
    timeLeft: undefined,
    freshness: 1,
    staleReason: 0,
    staleFor: undefined,
    previous: undefined,
    ...more,
  };
}

export function message(more: Partial<WatchSecretsResponse>): WatchSecretsResponse {
  return { type: 0, secrets: [], unchanged: [], name: "", unavailable: [], reason: 0, ...more };
}

export function snapshot(secrets: Secret[], unchanged: string[] = []): WatchSecretsResponse {
  return message({ type: WatchEventType.WATCH_EVENT_TYPE_SNAPSHOT, secrets, unchanged });
}

export function event(kind: string, of: Secret): WatchSecretsResponse {
  const type = WatchEventType[`WATCH_EVENT_TYPE_${kind}` as keyof typeof WatchEventType];
  return message({ type, name: of.name, secrets: [of] });
}

type Stream = ServerWritableStream<WatchSecretsRequest, WatchSecretsResponse>;

export class Broker {
  secrets: Record<string, Secret> = {};
  pages: ListSecretsResponse[] = [];
  deniesWatches = false;
  slow: (() => void)[] = [];
  readonly streams = new Queue<Stream>();
  readonly reports = new Queue<ReportOutcomeRequest>();
  readonly gets = new Queue<string>();
  readonly peers: string[] = [];
  #server: Server | undefined;

  private constructor(
    readonly address: string,
    readonly bind: string,
    readonly certificates: string | undefined,
  ) {}

  static async tls(certificates: string): Promise<Broker> {
    const port = await freePort();
    return new Broker(`https://127.0.0.1:${port}`, `127.0.0.1:${port}`, certificates).start();
  }

  static async unix(): Promise<Broker> {
    const path = join(mkdtempSync("/tmp/sb-"), "s");
    return new Broker(`unix://${path}`, `unix:${path}`, undefined).start();
  }

  async start(): Promise<this> {
    const server = new Server();
    server.addService(SecretBrokerService, {
      getSecret: this.#get,
      batchGetSecrets: (call: ServerUnaryCall<{ names: string[] }, unknown>, done: sendUnaryData<unknown>) => {
        const denied = { reason: ErrorReason.ERROR_REASON_DENIED, message: "no", retryAfter: undefined };
        const results = call.request.names.map((name) => ({
          name,
          outcome: this.secrets[name]
            ? { $case: "secret", value: this.secrets[name] }
            : { $case: "error", value: denied },
        }));
        done(null, { results });
      },
      listSecrets: (call: ServerUnaryCall<{ pageToken: string }, unknown>, done: sendUnaryData<unknown>) => {
        done(null, this.pages[Number(call.request.pageToken)]);
      },
      watchSecrets: (stream: Stream) => {
        this.#note(stream);
        if (this.deniesWatches) {
          stream.emit("error", refused(status.UNAUTHENTICATED, "UNAUTHENTICATED", "who are you?"));
          return;
        }
        this.streams.put(stream);
      },
      reportOutcome: (call: ServerUnaryCall<ReportOutcomeRequest, unknown>, done: sendUnaryData<unknown>) => {
        this.reports.put(call.request);
        done(null, { currentGeneration: call.request.generation });
      },
    });
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(this.bind, this.#credentials(), (error) => {
        if (error) {
          reject(error);
        } else {
          resolve();
        }
      });
    });
    this.#server = server;
    return this;
  }

  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
  }

  readonly #get = (call: ServerUnaryCall<{ name: string }, unknown>, done: sendUnaryData<unknown>): void => {
    const { name } = call.request;
    this.gets.put(name);
    this.#note(call);
    const answer = (): void => {
      const found = this.secrets[name];
      if (found) {
        done(null, { secret: found });
      } else if (name === "LATE") {
        done(refused(status.UNAVAILABLE, "SOURCE_NOT_FOUND", "the source has none"));
      } else {
        done(refused(status.PERMISSION_DENIED, "DENIED", `no access to ${name}`));
      }
    };
    if (name === "SLOW") {
      this.slow.push(answer);
    } else if (name === "SEALED") {
      done(refused(status.UNAVAILABLE, "SOURCE_SEALED", "the source is sealed", 1.5));
    } else {
      answer();
    }
  };

  #note(call: { getAuthContext(): { sslPeerCertificate?: { subject: { CN?: string | string[] } } } }): void {
    this.peers.push(call.getAuthContext().sslPeerCertificate?.subject.CN?.toString() ?? "");
  }

  #credentials(): ServerCredentials {
    if (this.certificates === undefined) {
      return ServerCredentials.createInsecure();
    }
    const [ca, key, chain] = ["ca.pem", "server.key", "server.pem"].map((file) =>
      readFileSync(join(this.certificates!, file)),
    );
    return ServerCredentials.createSsl(ca!, [{ private_key: key!, cert_chain: chain! }], true);
  }
}

function refused(code: status, reason: string, details: string, retrySecs?: number): object {
  const any = (type: string, value: Uint8Array): Uint8Array =>
    new BinaryWriter().uint32(10).string(`type.googleapis.com/${type}`).uint32(18).bytes(value).finish();
  const info = new BinaryWriter().uint32(10).string(reason).uint32(18).string("secretbroker.v1").finish();
  const wire = new BinaryWriter().uint32(8).int32(code).uint32(18).string(details);
  wire.uint32(26).bytes(any("google.rpc.ErrorInfo", info));
  if (retrySecs !== undefined) {
    const nanos = Math.round((retrySecs % 1) * 1e9);
    const delay = new BinaryWriter().uint32(8).int64(Math.trunc(retrySecs)).uint32(16).int32(nanos).finish();
    wire.uint32(26).bytes(any("google.rpc.RetryInfo", new BinaryWriter().uint32(10).bytes(delay).finish()));
  }
  const metadata = new Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(wire.finish()));
  return { code, details, metadata };
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address() as { port: number };
      probe.close(() => {
        resolve(port);
      });
    });
  });
}

/** A certificate authority that writes what a broker and its client need into a directory. */
type CryptoKeyPair = webcrypto.CryptoKeyPair;

export class Authority {
  private constructor(
    readonly keys: CryptoKeyPair,
    readonly certificate: x509.X509Certificate,
  ) {}

  static async create(): Promise<Authority> {
    const keys = await newKeys();
    const extensions = [new x509.BasicConstraintsExtension(true, undefined, true)];
    const named = { name: "CN=authority", serialNumber: "01", ...validity(), signingAlgorithm: SIGNING, extensions };
    return new Authority(keys, await x509.X509CertificateGenerator.createSelfSigned({ ...named, keys }));
  }

  async write(client = "app"): Promise<string> {
    const directory = mkdtempSync(join(tmpdir(), "tls-"));
    writeFileSync(join(directory, "ca.pem"), this.certificate.toString("pem"));
    await this.#issue(directory, "server", "127.0.0.1");
    await this.writeClient(directory, client);
    return directory;
  }

  async writeClient(directory: string, name: string): Promise<void> {
    await this.#issue(directory, "client", name);
  }

  async #issue(directory: string, file: string, name: string): Promise<void> {
    const keys = await newKeys();
    const certificate = await x509.X509CertificateGenerator.create({
      subject: `CN=${name}`,
      issuer: this.certificate.subject,
      serialNumber: randomBytes(8).toString("hex"),
      ...validity(),
      signingAlgorithm: SIGNING,
      publicKey: keys.publicKey,
      signingKey: this.keys.privateKey,
      extensions: [
        new x509.SubjectAlternativeNameExtension([
          { type: "ip", value: "127.0.0.1" },
          { type: "dns", value: "localhost" },
        ]),
      ],
    });
    const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
    for (const [kind, content] of Object.entries({ key, pem: certificate.toString("pem") })) {
      writeFileSync(join(directory, `${file}.part`), content);
      renameSync(join(directory, `${file}.part`), join(directory, `${file}.${kind}`));
    }
  }
}

const SIGNING = { name: "ECDSA", hash: "SHA-256", namedCurve: "P-256" };

function newKeys(): Promise<CryptoKeyPair> {
  return webcrypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
}

function validity(): { notBefore: Date; notAfter: Date } {
  const hour = 3_600_000;
  return { notBefore: new Date(Date.now() - hour), notAfter: new Date(Date.now() + 24 * hour) };
}
