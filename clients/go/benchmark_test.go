package secretbroker_test

import (
	"context"
	"testing"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/internal/testbroker"
)

func benchmarked(b *testing.B) (*testbroker.Broker, *secretbroker.Live) {
	b.Helper()
	broker := testbroker.New(b)
	broker.Set("DB", 1, map[string]string{"password": "hunter1"})
	client, err := secretbroker.New(secretbroker.Options{Address: broker.Address(), CertDir: broker.CertDir()})
	if err != nil {
		b.Fatal(err)
	}
	live, err := client.Live(b.Context(), "DB")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { live.Close(); _ = client.Close() })
	return broker, live
}

func BenchmarkReadingAHandle(b *testing.B) {
	_, live := benchmarked(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if live.Current().Generation() != 1 {
				b.Fail()
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}

func BenchmarkReadingAField(b *testing.B) {
	_, live := benchmarked(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if live.Current().Text("password") == "" {
				b.Fail()
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
}

func BenchmarkFromAChangeToTheHook(b *testing.B) {
	broker, live := benchmarked(b)
	changed := make(chan uint64)
	live.OnChange(func(_ context.Context, secret *secretbroker.Secret) { changed <- secret.Generation() })
	generation := uint64(1)
	for b.Loop() {
		generation++
		broker.Set("DB", generation, map[string]string{"password": "hunter2"})
		for <-changed != generation {
		}
	}
}
