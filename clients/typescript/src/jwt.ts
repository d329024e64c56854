/**
 * Tokens that are signed with the current version of a secret, and verified with its neighbours as well.
 *
 * The secret has the field `value`, which signs, and optionally `next`, which will sign after the next rotation. A
 * token is accepted if `value`, the previous version's `value` while it overlaps, or `next` signed it: no rotation logs
 * anybody out, and no order of rollout matters. A key has 32 bytes or more; shorter ones neither sign nor verify.
 */

import { type JWTPayload, type JWTVerifyOptions, SignJWT, errors, jwtVerify } from "jose";

import { ConfigurationError } from "./errors.js";
import type { Live } from "./live.js";
import type { Previous, Secret, SecretBytes } from "./secret.js";

const ALGORITHM = "HS256";
const SMALLEST_KEY = 32;
/** How far the clocks of those who sign and verify may differ. */
const TOLERANCE = "60 seconds";

/** Signs and verifies HS256 tokens with the keys of a handle, without a call. */
export class Jwt {
  readonly #live: Live;

  constructor(live: Live) {
    this.#live = live;
  }

  /** Signs the claims with the current key; `lifetimeSecs` sets `iat` and `exp`. */
  async sign(claims: JWTPayload, options: { lifetimeSecs?: number } = {}): Promise<string> {
    const key = keyOf(this.#live.current, "value");
    if (key === undefined) {
      throw new ConfigurationError(`${this.#live.name} has no field \`value\` of at least ${SMALLEST_KEY} bytes`);
    }
    const token = new SignJWT(claims).setProtectedHeader({ alg: ALGORITHM, typ: "JWT" });
    if (options.lifetimeSecs !== undefined) {
      const now = Math.floor(Date.now() / 1000);
      token.setIssuedAt(now).setExpirationTime(now + options.lifetimeSecs);
    }
    return token.sign(key);
  }

  /**
   * The claims of a token; throws jose's `JOSEError` when its signature, time, audience or issuer is wrong. `exp` and
   * `nbf` are checked where the token has them, audience and issuer where the options name them; a token for an audience
   * is refused where they name none.
   */
  async verify(token: string, options: JWTVerifyOptions = {}): Promise<JWTPayload> {
    const { current } = this.#live;
    let refused: unknown = new errors.JWSSignatureVerificationFailed();
    for (const key of [keyOf(current, "value"), keyOf(current.previous, "value"), keyOf(current, "next")]) {
      if (key === undefined) {
        continue;
      }
      try {
        const checks = { clockTolerance: TOLERANCE, ...options, algorithms: [ALGORITHM] };
        const { payload } = await jwtVerify(token, key, checks);
        if (options.audience === undefined && payload.aud !== undefined) {
          throw new errors.JWTClaimValidationFailed('unexpected "aud" claim value', payload, "aud", "check_failed");
        }
        return payload;
      } catch (error) {
        if (!(error instanceof errors.JWSSignatureVerificationFailed)) {
          throw error;
        }
        refused = error;
      }
    }
    throw refused;
  }
}

function keyOf(version: Secret | Previous | undefined, field: string): SecretBytes | undefined {
  const key = version?.field(field);
  return key !== undefined && key.length >= SMALLEST_KEY ? key : undefined;
}
