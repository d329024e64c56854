package secretbroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/brokerjwt"
	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
	"github.com/secret-broker/secret-broker/clients/go/internal/testbroker"

	"github.com/golang-jwt/jwt/v5"
)

func clientOf(t *testing.T, options secretbroker.Options) *secretbroker.Client {
	t.Helper()
	client, err := secretbroker.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func started(t *testing.T) (*testbroker.Broker, *secretbroker.Client) {
	t.Helper()
	broker := testbroker.New(t)
	broker.Set("DB", 1, map[string]string{"password": "hunter1"})
	return broker, clientOf(t, secretbroker.Options{Address: broker.Address(), CertDir: broker.CertDir()})
}

func errorAs[E error](t *testing.T, err error) E {
	t.Helper()
	as, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	return as
}

func TestAddressesThatAreNoneAreRefused(t *testing.T) {
	for _, bad := range []string{"http://localhost:1", "https://", "https://:1", "https://h", "https://h:99999", "unix://rel", "x"} {
		_, err := secretbroker.New(secretbroker.Options{Address: bad, CertDir: "."})
		errorAs[*secretbroker.ConfigurationError](t, err)
	}
	_, err := secretbroker.New(secretbroker.Options{Address: "https://h:1"})
	errorAs[*secretbroker.ConfigurationError](t, err)
	for _, good := range []string{"https://127.0.0.1:7443", "https://[::1]:7443", "unix:///run/broker.sock"} {
		client := clientOf(t, secretbroker.Options{Address: good, CertDir: "."})
		if client.Address() != good {
			t.Error(client.Address())
		}
	}
}

func TestTheVerbsAnswerByTCPAndByUnixSocket(t *testing.T) {
	broker, client := started(t)
	verbs(t, client)
	verbs(t, clientOf(t, secretbroker.Options{Address: broker.ListenUnix()}))
}

func verbs(t *testing.T, client *secretbroker.Client) {
	t.Helper()
	secret, err := client.Get(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	if left, ends := secret.TimeLeft(); secret.Text("password") != "hunter1" || !ends || left > time.Hour || left < 59*time.Minute {
		t.Error(secret, left)
	}
	many, err := client.GetMany(t.Context(), "DB", "NONE")
	if err != nil || many[0].Secret == nil || secretbroker.ReasonOf(many[1].Err) != secretbroker.ReasonDenied {
		t.Error(many, err)
	}
	list, err := client.List(t.Context(), "")
	if err != nil || len(list) != 2 || list[0].State != "FRESH" {
		t.Error(list, err)
	}
	generation, err := client.Report(t.Context(), secret, secretbroker.RefusedBecause(strings.Repeat("é", 300)))
	if err != nil || generation != 1 {
		t.Error(generation, err)
	}
}

func TestADetailIsCutAt256Characters(t *testing.T) {
	broker, client := started(t)
	verbs(t, client)
	if detail := broker.Reports()[0].GetDetail(); detail != strings.Repeat("é", 256) {
		t.Error(len(detail))
	}
}

func TestEachFailureHasItsOwnError(t *testing.T) {
	broker, client := started(t)
	_, err := client.Get(t.Context(), "NONE")
	refused := errorAs[*secretbroker.RefusedError](t, err)
	if refused.Reason != secretbroker.ReasonDenied || refused.RetryAfter != 2*time.Second || secretbroker.IsTransient(err) {
		t.Error(refused)
	}
	_, err = client.WithDeadline(50*time.Millisecond).Get(t.Context(), "SLOW")
	errorAs[*secretbroker.DeadlineError](t, err)
	if !errors.Is(err, context.DeadlineExceeded) || !secretbroker.IsTransient(err) {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = client.Get(cancelled, "DB"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, err = clientOf(t, secretbroker.Options{Address: broker.Address(), CertDir: t.TempDir()}).Get(t.Context(), "DB")
	errorAs[*secretbroker.TLSError](t, err)
	broker.Stop()
	_, err = client.Get(t.Context(), "DB")
	errorAs[*secretbroker.UnreachableError](t, err)
	broker.Start()
	if _, err = client.Get(t.Context(), "DB"); err != nil {
		t.Error(err)
	}
}

func TestCertificatesOfAnotherAuthorityAreRefusedByEitherSide(t *testing.T) {
	broker, _ := started(t)
	wrong := t.TempDir()
	testbroker.NewAuthority(t).Issue(t, wrong, "stranger")
	_, err := clientOf(t, secretbroker.Options{Address: broker.Address(), CertDir: wrong}).Get(t.Context(), "DB")
	errorAs[*secretbroker.TLSError](t, err)

	mixed := t.TempDir()
	testbroker.NewAuthority(t).Issue(t, mixed, "stranger")
	copyFile(t, filepath.Join(broker.CertDir(), "ca.pem"), filepath.Join(mixed, "ca.pem"))
	_, err = clientOf(t, secretbroker.Options{Address: broker.Address(), CertDir: mixed}).Get(t.Context(), "DB")
	errorAs[*secretbroker.TLSError](t, err)
}

func TestChangedCertificatesAreReadAtTheNextConnection(t *testing.T) {
	broker, client := started(t)
	if _, err := client.Get(t.Context(), "DB"); err != nil {
		t.Fatal(err)
	}
	broker.Renew("renewed")
	broker.Stop()
	broker.Start()
	if _, err := client.Get(t.Context(), "DB"); err != nil {
		t.Fatal(err)
	}
	if peers := broker.Peers(); !slices.Equal(peers, []string{"client", "renewed"}) {
		t.Error(peers)
	}
}

func TestAWatchResumesAndTellsEachVersionOnce(t *testing.T) {
	broker, client := started(t)
	var told []string
	for event, err := range client.Watch("DB").Events(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		told = append(told, fmt.Sprintf("%s %d", event.Type, event.Secret.Generation()))
		switch event.Secret.Generation() {
		case 1:
			broker.Set("DB", 2, nil)
		case 2:
			broker.Stop()
			broker.Set("DB", 3, nil)
			broker.Start()
		case 3:
			if want := []string{"CURRENT 1", "ROTATED 2", "ROTATED 3"}; !slices.Equal(told, want) {
				t.Error(told)
			}
			if last := broker.Watches()[1].GetSeenGenerations()["DB"]; last != 2 {
				t.Error(last)
			}
			return
		}
	}
}

func TestAWatchThatIsDeniedEnds(t *testing.T) {
	_, client := started(t)
	for _, err := range client.Watch("NONE").Events(t.Context()) {
		if secretbroker.ReasonOf(err) != secretbroker.ReasonDenied {
			t.Error(err)
		}
	}
}

func TestALiveHandleFollowsReportsAndForgets(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan uint64)
	live.OnChange(func(_ context.Context, secret *secretbroker.Secret) { changed <- secret.Generation() })
	broker.Set("DB", 2, map[string]string{"password": "hunter2"})
	if generation := <-changed; generation != 2 {
		t.Error(generation)
	}
	if current := live.Current(); current.Text("password") != "hunter2" || live.Previous().Text("password") != "hunter1" {
		t.Error(current)
	}
	broker.AwaitReport(2, brokerpb.Outcome_OUTCOME_APPLIED)
	if first := broker.Reports()[0]; first.GetGeneration() != 2 {
		t.Error("a version that replaced none was reported", first)
	}
	same, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	live.Close()
	if same.Current().Text("password") != "hunter2" {
		t.Error("closed with another handle")
	}
	same.Close()
	if same.Current().Text("password") != "" || !errors.Is(same.Standing(), secretbroker.ErrClosed) {
		t.Error("still there")
	}
}

func TestAHookThatWaitsIsToldOfANewerVersionAndHoldsTheReportBack(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	began := make(chan uint64, 2)
	live.OnChange(func(ctx context.Context, secret *secretbroker.Secret) {
		began <- secret.Generation()
		if secret.Generation() == 2 {
			<-ctx.Done()
		}
	})
	broker.Set("DB", 2, nil)
	<-began
	broker.Set("DB", 3, nil)
	if generation := <-began; generation != 3 {
		t.Error(generation)
	}
	broker.AwaitReport(3, brokerpb.Outcome_OUTCOME_APPLIED)
	for _, report := range broker.Reports() {
		if report.GetGeneration() == 2 {
			t.Error("a version was reported that was never taken over alone")
		}
	}
}

func TestAHookThatDoesNotReturnKeepsNeitherTheHandleNorAnotherHookWaiting(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	ends, others := make(chan struct{}), make(chan uint64, 2)
	live.OnChange(func(context.Context, *secretbroker.Secret) { <-ends })
	live.OnChange(func(_ context.Context, secret *secretbroker.Secret) { others <- secret.Generation() })
	for generation := uint64(2); generation < 4; generation++ {
		broker.Set("DB", generation, nil)
		if told := <-others; told != generation {
			t.Error(told)
		}
	}
	if live.Current().Generation() != 3 || len(broker.Reports()) > 0 {
		t.Error(live.Current(), broker.Reports())
	}
	close(ends)
	broker.AwaitReport(3, brokerpb.Outcome_OUTCOME_APPLIED)
}

func TestAHookThatIsBehindSkipsToTheLatestVersion(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	ends, began := make(chan struct{}), make(chan uint64, 8)
	live.OnChange(func(_ context.Context, secret *secretbroker.Secret) {
		began <- secret.Generation()
		<-ends
	})
	broker.Set("DB", 2, nil)
	if generation := <-began; generation != 2 {
		t.Error(generation)
	}
	for generation := uint64(3); generation < 6; generation++ {
		broker.Set("DB", generation, nil)
		if _, err := live.After(t.Context(), generation-1); err != nil {
			t.Fatal(err)
		}
	}
	close(ends)
	if generation := <-began; generation != 5 {
		t.Error(generation)
	}
	broker.AwaitReport(5, brokerpb.Outcome_OUTCOME_APPLIED)
}

func TestAHandleThatIsClosedWhileAHookWaitsReportsNothing(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	live.OnChange(func(ctx context.Context, _ *secretbroker.Secret) { <-ctx.Done() })
	// Each takes its time to be taken away, in which a report could be sent.
	var others sync.WaitGroup
	for range 2000 {
		others.Add(1)
		live.OnChange(func(context.Context, *secretbroker.Secret) { others.Done() })
	}
	broker.Set("DB", 2, nil)
	others.Wait()
	live.Close()
	if reports := broker.Reports(); len(reports) > 0 {
		t.Error(reports)
	}
}

func TestAClosedClientEndsItsHandlesAndSaysSo(t *testing.T) {
	_, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	if !errors.Is(live.Standing(), secretbroker.ErrClosed) {
		t.Error(live.Standing())
	}
	_, err = client.Get(t.Context(), "DB")
	errorAs[*secretbroker.ConfigurationError](t, err)
	_, err = client.Live(t.Context(), "DB")
	errorAs[*secretbroker.ConfigurationError](t, err)
	live.Close()
}

func TestARefusedVersionIsReportedAndItsSuccessorWaitedFor(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	go func() {
		broker.AwaitReport(1, brokerpb.Outcome_OUTCOME_REFUSED)
		broker.Set("DB", 2, nil)
	}()
	if !live.Refused(t.Context(), live.Current(), "SQLSTATE 28P01") || live.Current().Generation() != 2 {
		t.Error(live)
	}
}

func TestARevokedValueIsToldOfUntilThereIsAnother(t *testing.T) {
	broker, client := started(t)
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	broker.Revoke("DB", brokerpb.ErrorReason_ERROR_REASON_REVOKED)
	for live.Standing() == nil {
		runtime.Gosched()
	}
	if secretbroker.ReasonOf(live.Standing()) != secretbroker.ReasonRevoked {
		t.Error(live.Standing())
	}
	broker.Set("DB", 2, nil)
	if _, err := live.After(t.Context(), 1); err != nil || live.Standing() != nil {
		t.Error(err, live.Standing())
	}
}

func TestALiveHandleOfNothingFailsWithTheReasonAndOneWithoutABrokerWithWhatIsWrong(t *testing.T) {
	broker, client := started(t)
	_, err := client.Live(t.Context(), "NONE")
	if secretbroker.ReasonOf(err) != secretbroker.ReasonDenied {
		t.Error(err)
	}
	broker.Stop()
	_, err = client.WithDeadline(300*time.Millisecond).Live(t.Context(), "DB")
	if !secretbroker.IsTransient(err) {
		t.Error(err)
	}
}

func TestNoWayOfPrintingShowsAValue(t *testing.T) {
	broker, client := started(t)
	broker.Set("DB", 2, map[string]string{"password": "hunter2"})
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	secret := live.Current()
	var text strings.Builder
	holder := struct {
		hidden  *secretbroker.Secret
		Visible any
	}{secret, secret}
	logger := slog.New(slog.NewJSONHandler(&text, nil))
	for _, value := range []any{secret, live, secret.Previous(), *secret, *secret.Previous(), holder, &holder, []any{secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", value)
		}
		encoded, _ := json.Marshal(value)
		text.Write(encoded)
		logger.Info("shown", "value", value)
	}
	for _, trace := range []string{"hunter", "68756e", "104 117", "0x68", "aHVud"} {
		if strings.Contains(text.String(), trace) {
			t.Errorf("%s in %s", trace, text.String())
		}
	}
}

func TestAClosedSecretHasNoValues(t *testing.T) {
	_, client := started(t)
	secret, err := client.Get(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	secret.Close()
	if _, ok := secret.Field("password"); ok || secret.Text("password") != "" {
		t.Error("still there")
	}
}

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
