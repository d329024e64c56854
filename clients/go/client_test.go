package secretbroker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/internal/testbroker"
)

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
