package secretbroker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/secret-broker/secret-broker/clients/go/brokerjwt"

	"github.com/golang-jwt/jwt/v5"
)

func signed(t *testing.T, key string, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenForAnAudienceIsRefusedUnlessThatIsNamed(t *testing.T) {
	broker, client := started(t)
	key := strings.Repeat("1", 32)
	broker.Set("JWT", 1, map[string]string{"value": key})
	live, err := client.Live(t.Context(), "JWT")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	theirs := signed(t, key, jwt.MapClaims{"aud": "theirs", "sub": "me"})
	for _, options := range [][]jwt.ParserOption{nil, {jwt.WithAudience("mine")}, {jwt.WithSubject("me")}} {
		if err := brokerjwt.Verify(live, theirs, jwt.MapClaims{}, options...); !errors.Is(err, jwt.ErrTokenInvalidAudience) {
			t.Error(err)
		}
	}
	if err := brokerjwt.Verify(live, theirs, &jwt.RegisteredClaims{}, jwt.WithAudience("mine", "theirs")); err != nil {
		t.Error(err)
	}
}

func TestTokensOutliveARotation(t *testing.T) {
	broker, client := started(t)
	one, two, three := strings.Repeat("1", 32), strings.Repeat("2", 32), strings.Repeat("3", 32)
	broker.Set("JWT", 1, map[string]string{"value": one, "next": two})
	live, err := client.Live(t.Context(), "JWT")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	me := jwt.MapClaims{"sub": "me"}
	token, err := brokerjwt.Sign(live, me)
	if err != nil || token != signed(t, one, me) {
		t.Error(err)
	}
	broker.Set("JWT", 2, map[string]string{"value": two, "next": three})
	if _, err := live.After(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for key, good := range map[string]bool{one: true, two: true, three: true, strings.Repeat("4", 32): false} {
		claims := jwt.MapClaims{}
		if err := brokerjwt.Verify(live, signed(t, key, me), claims); (err == nil) != good || good && claims["sub"] != "me" {
			t.Error(key, err)
		}
	}
	for age, good := range map[time.Duration]bool{30 * time.Second: true, 61 * time.Second: false} {
		old := signed(t, two, jwt.MapClaims{"exp": time.Now().Add(-age).Unix()})
		if err := brokerjwt.Verify(live, old, jwt.MapClaims{}); (err == nil) != good {
			t.Error(age, err)
		}
	}
}

func TestAShortKeyNeitherSignsNorVerifies(t *testing.T) {
	broker, client := started(t)
	broker.Set("JWT", 1, map[string]string{"value": "short", "next": ""})
	live, err := client.Live(t.Context(), "JWT")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if token, err := brokerjwt.Sign(live, jwt.MapClaims{}); err == nil {
		t.Error(token)
	}
	for _, key := range []string{"short", ""} {
		if err := brokerjwt.Verify(live, signed(t, key, jwt.MapClaims{}), jwt.MapClaims{}); err == nil {
			t.Errorf("a token by the key %q is accepted", key)
		}
	}
}
