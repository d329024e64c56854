package secretbroker

import (
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

func isZero(value []byte) bool {
	for _, b := range value {
		if b != 0 {
			return false
		}
	}
	return true
}

func TestValuesAreTakenOverWithoutACopyAndZeroedWhenClosed(t *testing.T) {
	current, before := []byte("hunter2"), []byte("hunter1")
	secret := secretOf(&brokerpb.Secret{
		Fields:   map[string][]byte{"password": current},
		Previous: &brokerpb.PreviousSecret{Fields: map[string][]byte{"password": before}},
	})
	if isZero(current) || isZero(before) {
		t.Error("wiped too early")
	}
	secret.Close()
	if !isZero(current) || !isZero(before) {
		t.Error("left behind")
	}
}

func TestValuesAreZeroedOnceNothingRefersToThem(t *testing.T) {
	value := []byte("hunter2")
	secret := secretOf(&brokerpb.Secret{Fields: map[string][]byte{"password": value}})
	if runtime.GC(); isZero(value) {
		t.Error("wiped too early")
	}
	runtime.KeepAlive(secret)
	secret = nil
	for deadline := time.Now().Add(10 * time.Second); !isZero(value); runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("left behind")
		}
	}
}

func TestReceivedBuffersAreClearedBeforeTheyAreUsedAgain(t *testing.T) {
	buffer := wipingPool{}.Get(64)
	kept := *buffer
	copy(kept, "hunter2")
	wipingPool{}.Put(buffer)
	if !isZero(kept[:7]) {
		t.Error("left behind")
	}
}

func TestThePreviousVersionIsShownUntilItsOverlapEndsByTheBrokersClock(t *testing.T) {
	// The broker's clock is decades behind ours.
	secret := func(untilEnd int64) *Secret {
		return secretOf(&brokerpb.Secret{
			ExpireTime: &timestamppb.Timestamp{Seconds: 1_000_060},
			TimeLeft:   &durationpb.Duration{Seconds: 60},
			Previous:   &brokerpb.PreviousSecret{ValidUntil: &timestamppb.Timestamp{Seconds: 1_000_000 + untilEnd}},
		})
	}
	if secret(30).Previous() == nil || secret(-2).Previous() != nil {
		t.Error(secret(30).Previous(), secret(-2).Previous())
	}
}
