package secretbroker_test

import (
	"errors"
	"os"
	"testing"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/internal/testbroker"
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

func opened(t *testing.T, client *secretbroker.Client) *secretbroker.Live {
	t.Helper()
	live, err := client.Live(t.Context(), "DB")
	if err != nil {
		t.Fatal(err)
	}
	return live
}

func errorAs[E error](t *testing.T, err error) E {
	t.Helper()
	as, ok := errors.AsType[E](err)
	if !ok {
		t.Fatalf("%T: %v", err, err)
	}
	return as
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
