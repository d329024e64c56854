/**
 * Client of the secret broker that runs beside an application.
 *
 * The integrations stand in modules of their own, so that none of their libraries is needed: `@secret-broker/client/pg`,
 * `/ioredis` and `/jwt`.
 */

export {
  ADDRESS_VARIABLE,
  type CallOptions,
  CERT_DIR_VARIABLE,
  Client,
  type ClientOptions,
  type LiveOptions,
  type Outcome,
} from "./client.js";
export {
  ConfigurationError,
  DeadlineError,
  type Reason,
  RefusedError,
  SecretBrokerError,
  TlsError,
  UnreachableError,
} from "./errors.js";
export { Holder } from "./holders.js";
export type { Hook } from "./hooks.js";
export { Live } from "./live.js";
export { type Freshness, type Metadata, Previous, Secret, SecretBytes, type State } from "./secret.js";
export { Watch } from "./watch.js";
export type { Event } from "./watched.js";
