//go:build rig

// Package rigtest proves the client on the real sidecar, Vault and PostgreSQL, which its environment names.
package rigtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
)

func TestMain(m *testing.M) {
	database, err := url.Parse(os.Getenv("RIG_PG"))
	if err != nil {
		panic(err)
	}
	for variable, value := range map[string]string{
		"PGHOST": database.Hostname(), "PGPORT": database.Port(), "PGDATABASE": database.Path[1:], "PGSSLMODE": "disable",
	} {
		_ = os.Setenv(variable, value)
	}
	os.Exit(m.Run())
}

func control(t *testing.T, verb string, body any) map[string]any {
	t.Helper()
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.Post(os.Getenv("RIG_CONTROL")+"/"+verb, "application/json", bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatal(verb, reply.StatusCode, string(text), err)
	}
	var answer map[string]any
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

type named struct {
	Name string `json:"name"`
}

func rotate(t *testing.T, name string) uint64 {
	t.Helper()
	return uint64(control(t, "rotate", named{name})["generation"].(float64))
}

func fromEnv(t *testing.T) *secretbroker.Client {
	t.Helper()
	client, err := secretbroker.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func liveOf(t *testing.T, client *secretbroker.Client, name string) *secretbroker.Live {
	t.Helper()
	live, err := client.Live(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(live.Close)
	return live
}

func TestStartUpByTCPAndBySocket(t *testing.T) {
	socket, err := secretbroker.New(secretbroker.Options{Address: os.Getenv("RIG_SOCKET")})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, client := range []*secretbroker.Client{fromEnv(t), socket} {
		key, err := client.Get(t.Context(), "API_KEY")
		if err != nil || key.Text("value") != "api-key-of-the-rig" {
			t.Error(key, err)
		}
		many, err := client.GetMany(t.Context(), "DB", "FORBIDDEN")
		if err != nil || many[0].Err != nil || secretbroker.ReasonOf(many[1].Err) != secretbroker.ReasonDenied {
			t.Error(many, err)
		}
		list, err := client.List(t.Context(), "")
		if err != nil || len(list) < 4 {
			t.Error(list, err)
		}
	}
}

func TestWhatIsRefusedSaysWhy(t *testing.T) {
	client := fromEnv(t)
	_, err := client.Get(t.Context(), "FORBIDDEN")
	if secretbroker.ReasonOf(err) != secretbroker.ReasonDenied || secretbroker.IsTransient(err) {
		t.Error(err)
	}
	_, err = client.Live(t.Context(), "FORBIDDEN")
	if secretbroker.ReasonOf(err) != secretbroker.ReasonDenied {
		t.Error(err)
	}
	_, err = client.Get(t.Context(), "MISSING_AT_SOURCE")
	if secretbroker.ReasonOf(err) != secretbroker.ReasonSourceNotFound {
		t.Error(err)
	}
	start := time.Now()
	_, err = client.WithDeadline(time.Second).Get(t.Context(), "SLOW")
	if !secretbroker.IsTransient(err) || time.Since(start) > 3*time.Second {
		t.Error(err, time.Since(start))
	}
	wrong, err := secretbroker.New(secretbroker.Options{
		Address: os.Getenv(secretbroker.AddressVariable), CertDir: os.Getenv("RIG_WRONG_CERT_DIR"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer wrong.Close()
	_, err = wrong.Get(t.Context(), "API_KEY")
	if _, ok := errors.AsType[*secretbroker.TLSError](err); !ok {
		t.Errorf("%T %v", err, err)
	}
}

func TestAHandleSurvivesTheSidecar(t *testing.T) {
	client := fromEnv(t)
	live := liveOf(t, client, "DB")
	before := live.Current().Generation()
	control(t, "kill", struct{}{})
	if _, err := client.Get(t.Context(), "API_KEY"); !secretbroker.IsTransient(err) {
		t.Error(err)
	}
	if live.Current().Generation() != before || live.Current().Text("password") == "" {
		t.Error("the value was lost with the sidecar")
	}
	control(t, "start", struct{}{})
	if _, err := client.Get(t.Context(), "API_KEY"); err != nil {
		t.Error(err)
	}
	await(t, live, rotate(t, "DB"))
}

func await(t *testing.T, live *secretbroker.Live, generation uint64) {
	t.Helper()
	if _, err := live.After(t.Context(), generation-1); err != nil {
		t.Fatal(err)
	}
}

func TestCertificatesTurnOverUnderARunningClient(t *testing.T) {
	client := fromEnv(t)
	live := liveOf(t, client, "DB")
	control(t, "certs", map[string]bool{"forget_old": true})
	control(t, "restart", struct{}{}) // every connection is new
	if _, err := client.Get(t.Context(), "API_KEY"); err != nil {
		t.Error(err)
	}
	await(t, live, rotate(t, "DB"))
}

func TestAGrantThatIsTakenAwayAndGivenBack(t *testing.T) {
	live := liveOf(t, fromEnv(t), "DB")
	control(t, "revoke-access", named{"DB"})
	for live.Standing() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	control(t, "grant-access", named{"DB"})
	for live.Standing() != nil {
		time.Sleep(10 * time.Millisecond)
	}
	await(t, live, rotate(t, "DB"))
}
