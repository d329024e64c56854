/**
 * The connection to the broker: made at the first call, and again when it broke or the certificates changed.
 *
 * A channel that is replaced is handed out no more, and is closed when the last call on it has ended.
 */

import { type ChannelCredentials, type ClientOptions, credentials } from "@grpc/grpc-js";

import { type Address, printAddress, targetOf } from "./address.js";
import { ConfigurationError } from "./errors.js";
import { SecretBrokerClient as Stub } from "./generated/secretbroker/v1/broker.js";
import { identityCheck, sniOf } from "./server_name.js";
import type { Certificates, Loaded } from "./tls.js";

/** Larger than any batch of secrets that a broker is configured to send. */
const LARGEST_REPLY = 64 << 20;

const OPTIONS: ClientOptions = {
  "grpc.max_receive_message_length": LARGEST_REPLY,
  "grpc.keepalive_time_ms": 20_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 1,
  "grpc.enable_retries": 0,
  "grpc.enable_http_proxy": 0,
  // A channel with other certificates must not share the connection of the one before.
  "grpc.use_local_subchannel_pool": 1,
};

/** A channel while calls are made on it. */
export interface Lease {
  readonly stub: Stub;
  readonly loaded: Loaded | undefined;
  calls: number;
}

/** Hands out the channel of the present certificates. */
export class Channels {
  readonly #address: Address;
  readonly #serverName: string | undefined;
  readonly #certificates: Certificates | undefined;
  #current: Lease | undefined;
  #closed = false;

  constructor(address: Address, serverName: string | undefined, certificates: Certificates | undefined) {
    this.#address = address;
    this.#serverName = serverName;
    this.#certificates = certificates;
  }

  /** Gives the channel for one call; `release` must follow. */
  lease(): Lease {
    if (this.#closed) {
      throw new ConfigurationError("the client is closed");
    }
    const loaded = this.#certificates?.current();
    if (this.#current !== undefined && this.#current.loaded !== loaded) {
      this.#retire(this.#current);
    }
    this.#current ??= { stub: this.#open(loaded), loaded, calls: 0 };
    this.#current.calls += 1;
    return this.#current;
  }

  /** Ends a call. After a broken one the next call connects at once, instead of waiting for gRPC's back-off. */
  release(lease: Lease, broken: boolean): void {
    lease.calls -= 1;
    if (lease === this.#current) {
      if (broken) {
        this.#retire(lease);
      }
    } else if (lease.calls === 0) {
      lease.stub.close();
    }
  }

  /** Ends all use. */
  close(): void {
    this.#closed = true;
    this.#current?.stub.close();
    this.#current = undefined;
  }

  #retire(lease: Lease): void {
    this.#current = undefined;
    if (lease.calls === 0) {
      lease.stub.close();
    }
  }

  #open(loaded: Loaded | undefined): Stub {
    const target = targetOf(this.#address);
    if (this.#address.kind === "unix" || loaded === undefined) {
      return new Stub(target, credentials.createInsecure(), {
        ...OPTIONS,
        "grpc.default_authority": "secret-broker",
      });
    }
    const name = this.#serverName ?? this.#address.host;
    return new Stub(target, tls(loaded, name), {
      ...OPTIONS,
      "grpc.ssl_target_name_override": sniOf(name),
      "grpc.default_authority": new URL(printAddress(this.#address)).host,
    });
  }
}

function tls(loaded: Loaded, name: string): ChannelCredentials {
  return credentials.createFromSecureContext(loaded.context, { checkServerIdentity: identityCheck(name) });
}
