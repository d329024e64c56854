package secretbroker

import (
	"slices"
	"testing"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

const (
	snapshot  = brokerpb.WatchEventType_WATCH_EVENT_TYPE_SNAPSHOT
	rotated   = brokerpb.WatchEventType_WATCH_EVENT_TYPE_ROTATED
	renewed   = brokerpb.WatchEventType_WATCH_EVENT_TYPE_RENEWED
	recovered = brokerpb.WatchEventType_WATCH_EVENT_TYPE_RECOVERED
)

func message(kind brokerpb.WatchEventType, secrets ...*brokerpb.Secret) *brokerpb.WatchSecretsResponse {
	return &brokerpb.WatchSecretsResponse{Type: kind, Secrets: secrets}
}

func version1(name string, generation uint64) *brokerpb.Secret {
	return &brokerpb.Secret{Name: name, Generation: generation}
}

func expect(t *testing.T, events []Event, want ...string) {
	t.Helper()
	var shown []string
	for _, event := range events {
		shown = append(shown, string(event.Type)+" "+event.Name)
	}
	if !slices.Equal(shown, want) {
		t.Errorf("%v instead of %v", shown, want)
	}
}

func TestAVersionIsToldOnceHoweverOftenItIsSent(t *testing.T) {
	l := make(ledger)
	expect(t, l.take(message(snapshot, version1("A", 1))), "CURRENT A")
	expect(t, l.take(message(snapshot, version1("A", 1))))
	expect(t, l.take(message(rotated, version1("A", 1))))
	expect(t, l.take(message(rotated, version1("A", 2))), "ROTATED A")
}

func TestARotationHiddenInAnotherMessageIsToldAsOne(t *testing.T) {
	l := make(ledger)
	l.take(message(snapshot, version1("A", 1)))
	expect(t, l.take(message(renewed, version1("A", 3))), "ROTATED A")
	expect(t, l.take(message(renewed, version1("A", 3))), "RENEWED A")
}

func TestWhatASnapshotLeavesOutIsWithdrawn(t *testing.T) {
	l := make(ledger)
	l.take(message(snapshot, version1("A", 1), version1("B", 1), version1("C", 1)))
	again := message(snapshot, version1("B", 2))
	again.Unchanged = []string{"A"}
	expect(t, l.take(again), "ROTATED B", "REVOKED C")
}

func TestAfterItWasUnavailableAValueIsToldAgain(t *testing.T) {
	l := make(ledger)
	l.take(message(snapshot, version1("A", 1)))
	gone := message(snapshot)
	gone.Unavailable = []*brokerpb.SecretResult{
		{Name: "A", Outcome: &brokerpb.SecretResult_Error{Error: &brokerpb.SecretError{}}},
	}
	expect(t, l.take(gone), "UNAVAILABLE A")
	expect(t, l.take(message(recovered, version1("A", 1))), "CURRENT A")
}

func TestValuesAreZeroedWhenASecretIsClosed(t *testing.T) {
	buffer := []byte("hunter2")
	secret := secretOf(&brokerpb.Secret{Fields: map[string][]byte{"password": buffer}})
	secret.Close()
	if !slices.Equal(buffer, make([]byte, 7)) {
		t.Error("not wiped")
	}
}
