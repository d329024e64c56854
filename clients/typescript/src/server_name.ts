/** The name that the broker's certificate has to carry. */

import { isIP } from "node:net";
import { type PeerCertificate, checkServerIdentity } from "node:tls";

/** Checks for this name, whatever name the connection was told. */
export function identityCheck(name: string): (host: string, certificate: PeerCertificate) => Error | undefined {
  return (_host, certificate) => checkServerIdentity(name, certificate);
}

/** What is said to the broker before its certificate comes: TLS allows no addresses there. */
export function sniOf(name: string): string {
  return isIP(name) === 0 ? name : "secret-broker";
}
