/**
 * The client's certificates: read when first needed, and again whenever their files changed.
 *
 * While the files are half replaced or unreadable, the last good ones stay in use; nothing is cached of a failure.
 */

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { type SecureContext, createSecureContext } from "node:tls";

import { ConfigurationError } from "./errors.js";

/** A context of one content of the files. */
export interface Loaded {
  /** What tells one content of the three files from the next: inode, size, and change time of each. */
  readonly stamp: string;
  readonly context: SecureContext;
}

/** `ca.pem`, `client.pem` and `client.key` in a directory. */
export class Certificates {
  readonly #files: { ca: string; cert: string; key: string };
  #loaded: Loaded | undefined;

  constructor(directory: string) {
    this.#files = {
      ca: join(directory, "ca.pem"),
      cert: join(directory, "client.pem"),
      key: join(directory, "client.key"),
    };
  }

  /** Gives the context for a new connection. Reads small local files when they changed. */
  current(): Loaded {
    try {
      // Taken before reading: a change in between is seen at the next connection.
      const stamp = Object.values(this.#files).map(stampOf).join();
      if (this.#loaded?.stamp !== stamp) {
        this.#loaded = { stamp, context: this.#load() };
      }
    } catch (error) {
      if (this.#loaded === undefined) {
        throw new ConfigurationError(`the certificates can't be read: ${(error as Error).message}`);
      }
    }
    return this.#loaded;
  }

  #load(): SecureContext {
    const { ca, cert, key } = this.#files;
    const [authorities, chain, secret] = [readFileSync(ca), readFileSync(cert), readFileSync(key)];
    if (!authorities.includes("-----BEGIN CERTIFICATE-----")) {
      throw new Error(`${ca}: it holds no PEM certificate`);
    }
    try {
      return createSecureContext({ ca: authorities, cert: chain, key: secret, minVersion: "TLSv1.3" });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new Error(`${ca}, ${cert} and ${key} do not make a TLS client: ${code ?? "they can't be read"}`);
    } finally {
      secret.fill(0);
    }
  }
}

function stampOf(file: string): string {
  const { ino, size, mtimeNs } = statSync(file, { bigint: true });
  return `${ino.toString()}.${size.toString()}.${mtimeNs.toString()}`;
}
