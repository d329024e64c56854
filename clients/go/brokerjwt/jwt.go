// Package brokerjwt signs and verifies tokens with a secret that rotates.
//
// The secret's field "value" signs. A token is good when it was signed with it, with the field "next", which other
// signers may have taken over already, or with the version before while that overlaps. The algorithm is HS256; a key has
// 32 bytes or more, and shorter ones neither sign nor verify.
package brokerjwt

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
)

const (
	signing = "value"
	coming  = "next"

	smallestKey = 32 // bytes
	leeway      = time.Minute
)

var method = jwt.SigningMethodHS256

// Sign signs claims with the current version.
func Sign(live *secretbroker.Live, claims jwt.Claims) (string, error) {
	key, ok := live.Current().Field(signing)
	defer clear(key)
	if !ok || len(key) < smallestKey {
		return "", fmt.Errorf("%s has no field `value` of at least %d bytes", live.Name(), smallestKey)
	}
	return jwt.NewWithClaims(method, claims).SignedString(key)
}

// Verify verifies a token and fills the claims, which are a [jwt.MapClaims] or a pointer to a struct that embeds
// [jwt.RegisteredClaims]. Claims of time are checked with a leeway of a minute; more can be demanded by options such as
// [jwt.WithIssuer]. A token for an audience is refused unless [jwt.WithAudience] names it.
func Verify(live *secretbroker.Live, token string, claims jwt.Claims, options ...jwt.ParserOption) error {
	secret := live.Current()
	var keys jwt.VerificationKeySet
	defer func() {
		for _, key := range keys.Keys {
			clear(key.([]byte))
		}
	}()
	add := func(key []byte, ok bool) {
		if ok && len(key) >= smallestKey {
			keys.Keys = append(keys.Keys, key)
		}
	}
	add(secret.Field(signing))
	add(secret.Field(coming))
	if previous := secret.Previous(); previous != nil {
		add(previous.Field(signing))
	}
	if len(keys.Keys) == 0 {
		return jwt.ErrTokenSignatureInvalid
	}
	options = append([]jwt.ParserOption{jwt.WithLeeway(leeway)}, options...)
	options = append(options, jwt.WithValidMethods([]string{method.Alg()}))
	_, err := jwt.ParseWithClaims(token, claims, func(*jwt.Token) (any, error) { return keys, nil }, options...)
	if err == nil && !nameAudience(options) {
		return forNobody(claims)
	}
	return err
}

// nameAudience tells whether the options demand an audience: then they refuse one that nobody has.
func nameAudience(options []jwt.ParserOption) bool {
	nobodys := jwt.RegisteredClaims{Audience: jwt.ClaimStrings{rand.Text()}}
	return errors.Is(jwt.NewValidator(options...).Validate(nobodys), jwt.ErrTokenInvalidAudience)
}

// forNobody refuses claims that are addressed to an audience (RFC 7519, 4.1.3).
func forNobody(claims jwt.Claims) error {
	audience, err := claims.GetAudience()
	if err == nil && len(audience) > 0 {
		err = jwt.ErrTokenInvalidAudience
	}
	return err
}
