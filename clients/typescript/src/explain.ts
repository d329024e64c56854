/** What a status means: the broker's answer, or what broke on the way to it. */

import { connect, type SecureContext } from "node:tls";

import { BinaryReader } from "@bufbuild/protobuf/wire";
import { type Metadata, status as Code } from "@grpc/grpc-js";

import { type Address, printAddress } from "./address.js";
import {
  DeadlineError,
  type Reason,
  RefusedError,
  type SecretBrokerError,
  TlsError,
  UnreachableError,
  reasonOf,
} from "./errors.js";
import { Duration } from "./generated/google/protobuf/duration.js";
import { milliseconds } from "./secret.js";
import { identityCheck, sniOf } from "./server_name.js";

const DOMAIN = "secretbroker.v1";
const DETAILS = "grpc-status-details-bin";
/** Milliseconds that finding out why a connection broke may take. */
const PROBE = 2000;
const TLS = /certificate|altnames|ssl|tlsv1|TLS|handshake|alert/i;

/** For answers of proxies and libraries that give no reason. */
const BY_CODE = new Map<Code, Reason>([
  [Code.UNAUTHENTICATED, "UNAUTHENTICATED"],
  [Code.PERMISSION_DENIED, "DENIED"],
  [Code.NOT_FOUND, "DENIED"],
  [Code.INVALID_ARGUMENT, "INVALID_REQUEST"],
  [Code.OUT_OF_RANGE, "INVALID_REQUEST"],
  [Code.UNIMPLEMENTED, "INVALID_REQUEST"],
  [Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"],
  [Code.INTERNAL, "INTERNAL"],
  [Code.DATA_LOSS, "INTERNAL"],
]);

/** How a call of gRPC ended. */
export interface Ended {
  readonly code: Code;
  readonly details: string;
  readonly metadata: Metadata;
}

/** Names what a status is about; a connection that broke over certificates needs `probe` to be told. */
export function explain(ended: Ended, address: Address, deadlineMs: number): SecretBrokerError {
  const { reason, retryAfterMs } = answered(ended.metadata);
  const at = printAddress(address);
  if (reason === undefined && ended.code === Code.DEADLINE_EXCEEDED) {
    return new DeadlineError(at, deadlineMs);
  }
  // A stream that was torn down is no answer of the broker's.
  const torn = ended.code === Code.INTERNAL && /RST_STREAM|GOAWAY|session|socket|ECONN/i.test(ended.details);
  const named = reason ?? (torn ? undefined : BY_CODE.get(ended.code));
  if (named !== undefined) {
    return new RefusedError(named, ended.details, retryAfterMs);
  }
  return address.kind === "tls" && TLS.test(ended.details)
    ? new TlsError(at, ended.details)
    : new UnreachableError(at, ended.details);
}

/**
 * Asks by a connection of its own whether it is certificates that the two sides refuse.
 *
 * A broker says so only after its handshake, when gRPC has swallowed the cause. Takes at most 2 seconds.
 */
export function probe(
  address: Address,
  serverName: string | undefined,
  context: SecureContext | undefined,
): Promise<TlsError | undefined> {
  if (address.kind === "unix" || context === undefined) {
    return Promise.resolve(undefined);
  }
  const at = printAddress(address);
  return new Promise((resolve) => {
    const name = serverName ?? address.host;
    const socket = connect({
      host: address.host,
      port: address.port,
      secureContext: context,
      servername: sniOf(name),
      checkServerIdentity: identityCheck(name),
      ALPNProtocols: ["h2"],
    });
    let shaken = false;
    const end = (error?: TlsError): void => {
      socket.destroy();
      resolve(error);
    };
    const silent = "the broker closed the connection after the handshake; does it trust client.pem?";
    socket.setTimeout(PROBE, end);
    socket.once("secureConnect", () => (shaken = true));
    // A broker that accepts us speaks first.
    socket.once("data", () => {
      end();
    });
    socket.once("close", () => {
      end(shaken ? new TlsError(at, silent) : undefined);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => {
      const network = error.code === undefined || /^E[A-Z]+$/.test(error.code);
      end(network ? (shaken ? new TlsError(at, silent) : undefined) : new TlsError(at, error.message));
    });
  });
}

function answered(metadata: Metadata): { reason?: Reason; retryAfterMs?: number } {
  const found: { reason?: Reason; retryAfterMs?: number } = {};
  for (const value of metadata.get(DETAILS)) {
    if (typeof value === "string") {
      continue;
    }
    // google.rpc.Status: details = 3. Any: type_url = 1, value = 2.
    for (const detail of fieldsOf(value).get(3) ?? []) {
      const any = fieldsOf(detail);
      const content = any.get(2)?.[0] ?? new Uint8Array();
      const type = textOf(any.get(1)).split("/").at(-1);
      if (type === "google.rpc.ErrorInfo") {
        // reason = 1, domain = 2.
        const info = fieldsOf(content);
        if (textOf(info.get(2)) === DOMAIN) {
          found.reason = reasonOf(textOf(info.get(1)));
        }
      } else if (type === "google.rpc.RetryInfo") {
        // retry_delay = 1.
        const delay = fieldsOf(content).get(1)?.[0];
        const wait = delay && milliseconds(Duration.decode(delay));
        if (wait !== undefined) {
          found.retryAfterMs = wait;
        }
      }
    }
  }
  return found;
}

/** The length-delimited fields of a message, by number. */
function fieldsOf(message: Uint8Array): Map<number, Uint8Array[]> {
  const found = new Map<number, Uint8Array[]>();
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if ((wireType as number) === 2) {
      found.set(number, [...(found.get(number) ?? []), reader.bytes()]);
    } else {
      reader.skip(wireType);
    }
  }
  return found;
}

function textOf(values: readonly Uint8Array[] | undefined): string {
  return new TextDecoder().decode(values?.[0]);
}
