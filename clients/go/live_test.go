package secretbroker_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

func TestALiveHandleFollowsReportsAndForgets(t *testing.T) {
	broker, client := started(t)
	live := opened(t, client)
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
	same := opened(t, client)
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
	live := opened(t, client)
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
	live := opened(t, client)
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
	live := opened(t, client)
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
	live := opened(t, client)
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
	live := opened(t, client)
	_ = client.Close()
	if !errors.Is(live.Standing(), secretbroker.ErrClosed) {
		t.Error(live.Standing())
	}
	_, err := client.Get(t.Context(), "DB")
	errorAs[*secretbroker.ConfigurationError](t, err)
	_, err = client.Live(t.Context(), "DB")
	errorAs[*secretbroker.ConfigurationError](t, err)
	live.Close()
}

func TestARefusedVersionIsReportedAndItsSuccessorWaitedFor(t *testing.T) {
	broker, client := started(t)
	live := opened(t, client)
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
	live := opened(t, client)
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
