/** Where the broker listens: TCP with mTLS, or a Unix socket. */

import { ConfigurationError } from "./errors.js";

/** The address of a broker; a TLS host is without brackets. */
export type Address =
  | { readonly kind: "tls"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

const LARGEST_PORT = 65535;

/** Reads `https://HOST:PORT` or `unix:///PATH`; throws `ConfigurationError` when the text is neither. */
export function parseAddress(text: string): Address {
  const found = unix(text) ?? tls(text);
  if (found === undefined) {
    throw new ConfigurationError(`the address \`${text}\` is none: give https://HOST:PORT or unix:///PATH`);
  }
  return found;
}

/** The address as it is written. */
export function printAddress(address: Address): string {
  return address.kind === "unix" ? `unix://${address.path}` : `https://${bracketed(address.host)}:${address.port}`;
}

/** The name that gRPC resolves. */
export function targetOf(address: Address): string {
  return address.kind === "unix" ? `unix:${address.path}` : `dns:///${bracketed(address.host)}:${address.port}`;
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

function unix(text: string): Address | undefined {
  const path = /^unix:\/\/(\/.+)$/.exec(text)?.[1];
  return path === undefined ? undefined : { kind: "unix", path };
}

function tls(text: string): Address | undefined {
  const parts = /^https:\/\/(?:\[([^[\]/@\s]+)\]|([^[\]:/@\s]+)):(\d+)\/*$/.exec(text);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  return host === undefined || port > LARGEST_PORT ? undefined : { kind: "tls", host, port };
}
