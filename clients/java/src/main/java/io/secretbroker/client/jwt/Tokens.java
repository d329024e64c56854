package io.secretbroker.client.jwt;

import com.nimbusds.jose.JOSEException;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.MACSigner;
import com.nimbusds.jose.crypto.MACVerifier;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.jwt.proc.BadJWTException;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import io.secretbroker.client.Live;
import io.secretbroker.client.Secret;
import java.text.ParseException;
import java.util.Arrays;
import java.util.Optional;
import java.util.Set;

/**
 * Signs and verifies tokens with a secret that rotates (HS256).
 *
 * <p>The secret's field {@code value} signs. A token is good when it was signed with it, with the field {@code next}, which
 * other signers may have taken over already, or with the version before while that overlaps. Keys have 32 bytes or more;
 * shorter ones neither sign nor verify.
 */
public final class Tokens {
  private static final String SIGNING = "value";
  private static final String COMING = "next";
  private static final int SMALLEST_KEY = 32;

  private final Live live;

  /**
   * Of a live handle.
   *
   * @param live the handle, which stays the caller's to close
   */
  public Tokens(Live live) {
    this.live = live;
  }

  /**
   * Signs claims with the current version.
   *
   * @param claims the claims
   * @return the token
   * @throws JOSEException when the secret can't sign
   */
  public String sign(JWTClaimsSet claims) throws JOSEException {
    byte[] key = live.current().field(SIGNING).filter(Tokens::isLongEnough).orElseThrow(() -> new JOSEException(
        live.name() + " has no field `value` of at least " + SMALLEST_KEY + " bytes"));
    try {
      SignedJWT token = new SignedJWT(new JWSHeader(JWSAlgorithm.HS256), claims);
      token.sign(new MACSigner(key));
      return token.serialize();
    } finally {
      Arrays.fill(key, (byte) 0);
    }
  }

  /**
   * Verifies a token, and its claims of time where it has them, with a leeway of a minute. One for an audience is refused.
   *
   * @param token the token
   * @return its claims
   * @throws BadJWTException when it is no good token
   */
  public JWTClaimsSet verify(String token) throws BadJWTException {
    return verify(token, new DefaultJWTClaimsVerifier<>(null, null, Set.of(), Set.of("aud")));
  }

  /**
   * The same for a token that has to be for this audience.
   *
   * @param token the token
   * @param audience the audience
   * @return its claims
   * @throws BadJWTException when it is no good token
   */
  public JWTClaimsSet verify(String token, String audience) throws BadJWTException {
    return verify(token, new DefaultJWTClaimsVerifier<>(audience, null, Set.of()));
  }

  private JWTClaimsSet verify(String token, DefaultJWTClaimsVerifier<SecurityContext> checks) throws BadJWTException {
    try {
      SignedJWT signed = SignedJWT.parse(token);
      if (!signed.getHeader().getAlgorithm().equals(JWSAlgorithm.HS256) || !isSigned(signed)) {
        throw new BadJWTException("the token was not signed with this secret");
      }
      JWTClaimsSet claims = signed.getJWTClaimsSet();
      checks.verify(claims, null);
      return claims;
    } catch (ParseException error) {
      throw new BadJWTException("this is no token", error);
    } catch (JOSEException error) {
      throw new BadJWTException("the token can't be verified: " + error.getMessage(), error);
    }
  }

  private boolean isSigned(SignedJWT token) throws JOSEException {
    Secret secret = live.current();
    return isSigned(token, secret.field(SIGNING))
        || isSigned(token, secret.field(COMING))
        || isSigned(token, secret.previous().flatMap(previous -> previous.field(SIGNING)));
  }

  private static boolean isSigned(SignedJWT token, Optional<byte[]> key) throws JOSEException {
    if (key.filter(Tokens::isLongEnough).isEmpty()) {
      return false;
    }
    try {
      return token.verify(new MACVerifier(key.get()));
    } finally {
      Arrays.fill(key.get(), (byte) 0);
    }
  }

  private static boolean isLongEnough(byte[] key) {
    return key.length >= SMALLEST_KEY;
  }
}
