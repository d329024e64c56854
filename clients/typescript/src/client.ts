/**
 * The verbs of the contract.
 *
 * Every call ends by its deadline, and may be aborted by a signal.
 */

import type { CallOptions as GrpcOptions, ClientUnaryCall, Metadata as Headers, ServiceError } from "@grpc/grpc-js";
import { Metadata as Header } from "@grpc/grpc-js";

import { type Address, parseAddress, printAddress } from "./address.js";
import { Channels, type Lease } from "./channels.js";
import { ConfigurationError, RefusedError, type SecretBrokerError, UnreachableError } from "./errors.js";
import { type Ended, explain, probe } from "./explain.js";
import { Outcome as WireOutcome, type SecretBrokerClient as Stub } from "./generated/secretbroker/v1/broker.js";
import type { Hook } from "./hooks.js";
import { Live } from "./live.js";
import { type Metadata, Secret, metadataOf } from "./secret.js";
import { Certificates } from "./tls.js";
import { Watch } from "./watch.js";
import { refusal } from "./watched.js";

/** Names the broker's address; `https://127.0.0.1:7443` when it is not set. */
export const ADDRESS_VARIABLE = "SECRET_BROKER_ADDRESS";
/** Names the directory of `ca.pem`, `client.pem` and `client.key`; needed for `https` addresses. */
export const CERT_DIR_VARIABLE = "SECRET_BROKER_CERT_DIR";

const DEFAULT_ADDRESS = "https://127.0.0.1:7443";
const DEADLINE = 10_000;
/** The most names that the contract takes in one batch. */
const BATCH = 1000;
/** The most characters of a report's detail. */
const DETAIL = 256;

/** Where the broker is and who we are. */
export interface ClientOptions {
  /** `https://HOST:PORT` or `unix:///PATH`. */
  readonly address?: string | undefined;
  /** The directory of `ca.pem`, `client.pem` and `client.key`. */
  readonly certDir?: string | undefined;
  /** The name that the broker's certificate has to carry, if not the address's host. */
  readonly serverName?: string | undefined;
  /** Milliseconds for one call, connecting included; 10,000 unless told. */
  readonly deadlineMs?: number | undefined;
}

/** How one call is made. */
export interface CallOptions {
  /** Milliseconds, if not the client's. */
  readonly deadlineMs?: number | undefined;
  /** Ends the call with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** How a handle is made; `deadlineMs` and `signal` are for the wait for the first value. */
export interface LiveOptions extends CallOptions {
  /** Is called with each later version. */
  readonly onChange?: Hook | undefined;
  /** Whether the broker is told that a version is applied, once hooks and holders are done; true unless told. */
  readonly reportApplied?: boolean | undefined;
}

/**
 * What became of a version at the application: `APPLIED`, it was taken over and none before it is in use any more;
 * `WORKED`, the target accepted it, which implies `APPLIED`; `REFUSED`, the target refused it.
 */
export type Outcome = "APPLIED" | "WORKED" | "REFUSED";

const OUTCOMES: Record<Outcome, WireOutcome> = {
  APPLIED: WireOutcome.OUTCOME_APPLIED,
  WORKED: WireOutcome.OUTCOME_WORKED,
  REFUSED: WireOutcome.OUTCOME_REFUSED,
};

type Answer<T> = (error: ServiceError | null, reply: T) => void;
type Unary<Q, R> = (this: Stub, q: Q, h: Headers, o: Partial<GrpcOptions>, done: Answer<R>) => ClientUnaryCall;

/** A client of the broker; connects at its first call. */
export class Client {
  readonly #address: Address;
  readonly #serverName: string | undefined;
  readonly #deadlineMs: number;
  readonly #channels: Channels;
  readonly #lives = new Map<string, Live>();
  readonly #watches = new Set<Watch>();

  /** Throws `ConfigurationError` when the options can't work. */
  constructor(options: ClientOptions = {}) {
    this.#address = parseAddress(options.address ?? DEFAULT_ADDRESS);
    this.#serverName = options.serverName;
    this.#deadlineMs = options.deadlineMs ?? DEADLINE;
    if (!(this.#deadlineMs > 0)) {
      throw new ConfigurationError(`a deadline of ${this.#deadlineMs} ms leaves no time for a call`);
    }
    this.#channels = new Channels(this.#address, this.#serverName, certificates(this.#address, options.certDir));
  }

  /** A client as SECRET_BROKER_ADDRESS and SECRET_BROKER_CERT_DIR say; throws `ConfigurationError`. */
  static fromEnv(options: Pick<ClientOptions, "deadlineMs"> = {}): Client {
    const set = (name: string): string | undefined => process.env[name] || undefined; // eslint-disable-line @typescript-eslint/prefer-nullish-coalescing -- empty is not set
    return new Client({ ...options, address: set(ADDRESS_VARIABLE), certDir: set(CERT_DIR_VARIABLE) });
  }

  /** The broker's address. */
  get address(): string {
    return printAddress(this.#address);
  }

  /** Milliseconds for a call that is given no other deadline. */
  get deadlineMs(): number {
    return this.#deadlineMs;
  }

  /** The current version of a secret. */
  async get(name: string, options: CallOptions = {}): Promise<Secret> {
    const { secret } = await this.#call((stub) => stub.getSecret.bind(stub), { name }, options);
    if (secret === undefined) {
      throw new UnreachableError(this.address, "a reply without a secret came back");
    }
    return new Secret(secret);
  }

  /** Several secrets at once, each with its own result, in the order of the names. */
  async getMany(names: Iterable<string>, options: CallOptions = {}): Promise<Map<string, Secret | RefusedError>> {
    const unique = [...new Set(names)];
    const found = new Map<string, Secret | RefusedError>();
    for (let start = 0; start < unique.length; start += BATCH) {
      const request = { names: unique.slice(start, start + BATCH) };
      const { results } = await this.#call((stub) => stub.batchGetSecrets.bind(stub), request, options);
      for (const { name, outcome } of results) {
        if (outcome === undefined) {
          throw new UnreachableError(this.address, "a result without an outcome came back");
        }
        found.set(name, outcome.$case === "secret" ? new Secret(outcome.value) : refusal(outcome.value));
      }
    }
    return found;
  }

  /** What this caller may read, without values: of one category, or all. */
  async list(category?: string, options: CallOptions = {}): Promise<Metadata[]> {
    const found: Metadata[] = [];
    let pageToken = "";
    do {
      const request = { category: category ?? "", pageSize: 0, pageToken };
      const page = await this.#call((stub) => stub.listSecrets.bind(stub), request, options);
      found.push(...page.secrets.map(metadataOf));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    return found;
  }

  /**
   * Watches these secrets, all that may be read when none is named. The watch starts after the versions in `holding`,
   * which the caller has already.
   */
  watch(names: Iterable<string> = [], options: { holding?: Iterable<Secret> } = {}): Watch {
    const connection = {
      lease: () => {
        const lease = this.#channels.lease();
        this.#watches.add(watch);
        return lease;
      },
      release: (lease: Lease, error: SecretBrokerError | undefined) => {
        this.#watches.delete(watch);
        this.#release(lease, error);
      },
      explain: (error: unknown, lease: Lease) => this.#explain(error as Ended, lease, this.#deadlineMs),
    };
    const watch: Watch = new Watch(connection, names, options.holding ?? []);
    return watch;
  }

  /**
   * Tells the broker what became of a version, and gives the generation that is current now. `detail` is what the
   * target said; it must not contain a value, and is cut at 256 characters.
   */
  async report(secret: Secret, outcome: Outcome, detail = "", options: CallOptions = {}): Promise<number> {
    const { name, generation } = secret;
    const cut = Array.from(detail).slice(0, DETAIL).join("");
    const request = { name, generation, outcome: OUTCOMES[outcome], detail: cut };
    return (await this.#call((stub) => stub.reportOutcome.bind(stub), request, options)).currentGeneration;
  }

  /**
   * A handle that always has the current version; waits for the first one until the deadline.
   *
   * All callers that ask for the same name share one handle, which ends when each of them closed it: the broker counts
   * an application's acknowledgements once, so one handle has to know of all that use the secret. `reportApplied` is
   * what the first of them says.
   */
  async live(name: string, options: LiveOptions = {}): Promise<Live> {
    const { deadlineMs = this.#deadlineMs, signal, onChange, reportApplied = true } = options;
    let live = this.#lives.get(name);
    if (!live?.share()) {
      const made = await Live.open(this, name, reportApplied, { deadlineMs, signal });
      live = this.#lives.get(name);
      if (live?.share()) {
        await made.close();
      } else {
        this.#lives.set(name, (live = made));
      }
    }
    if (onChange !== undefined) {
      live.onChange(onChange);
    }
    return live;
  }

  /** Closes the connection once the calls in flight have ended; watches and handles of this client end. */
  close(): void {
    this.#channels.close();
    for (const watch of this.#watches) {
      watch.interrupt();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #call<Q, R>(method: (stub: Stub) => Unary<Q, R>, request: Q, options: CallOptions): Promise<R> {
    const { deadlineMs = this.#deadlineMs, signal } = options;
    signal?.throwIfAborted();
    const lease = this.#channels.lease();
    let failed: SecretBrokerError | undefined;
    try {
      return await unary(lease.stub, method(lease.stub), request, Date.now() + deadlineMs, signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw (failed = await this.#explain(error as Ended, lease, deadlineMs));
    } finally {
      this.#release(lease, failed);
    }
  }

  #release(lease: Lease, error: SecretBrokerError | undefined): void {
    this.#channels.release(lease, error !== undefined && !(error instanceof RefusedError));
  }

  async #explain(ended: Ended, lease: Lease, deadlineMs: number): Promise<SecretBrokerError> {
    const error = explain(ended, this.#address, deadlineMs);
    if (error instanceof UnreachableError) {
      return (await probe(this.#address, this.#serverName, lease.loaded?.context)) ?? error;
    }
    return error;
  }
}

function certificates(address: Address, directory: string | undefined): Certificates | undefined {
  if (address.kind === "unix") {
    return undefined;
  }
  if (directory === undefined) {
    throw new ConfigurationError(
      `${printAddress(address)} needs certificates: set ${CERT_DIR_VARIABLE} to the directory of ca.pem, ` +
        "client.pem and client.key, or use a unix:///PATH address",
    );
  }
  return new Certificates(directory);
}

function unary<Q, R>(
  stub: Stub,
  method: Unary<Q, R>,
  request: Q,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<R> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      call.cancel();
    };
    const call = method.call(stub, request, new Header(), { deadline }, (error, reply) => {
      signal?.removeEventListener("abort", abort);
      if (error === null) {
        resolve(reply);
      } else {
        reject(error);
      }
    });
    signal?.addEventListener("abort", abort);
  });
}
