package secretbroker

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

// A Watch never ends by itself: it reconnects and resumes from what it has seen. Each version is told once, and none
// is missed but such as were replaced while the reader slept. Attempts are spread by full jitter over a bound that
// doubles from 0.1 to 5 seconds, or wait as long as the broker asks.
type Watch struct {
	client *Client
	names  []string
	seen   ledger
	ready  []Event
	waits  backoff
}

// Watch watches these secrets; all that may be read when none is named. Nothing happens until its events are read.
func (c *Client) Watch(names ...string) *Watch {
	return &Watch{client: c, names: names, seen: make(ledger)}
}

// Holding names versions that the caller holds already: the watch starts after them.
func (w *Watch) Holding(secrets ...*Secret) *Watch {
	for _, secret := range secrets {
		w.seen.note(secret)
	}
	return w
}

// Events are the changes. An error comes only when trying again can't help, or when the context ended, and is the last
// thing. A loop that was left may be taken up again by calling Events again, from one goroutine at a time: nothing is
// lost in between and nothing told twice.
func (w *Watch) Events(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for {
			more, err := w.follow(ctx, yield)
			if !more {
				return
			}
			if ctx.Err() != nil {
				yield(Event{}, ctx.Err())
				return
			}
			if err != nil && !IsTransient(err) {
				yield(Event{}, err)
				return
			}
			pause(ctx, w.waits.wait(err))
		}
	}
}

// follow reads one stream to its end; false when the reader wants no more.
func (w *Watch) follow(ctx context.Context, yield func(Event, error) bool) (bool, error) {
	if !w.tell(yield) {
		return false, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	request := &brokerpb.WatchSecretsRequest{Names: w.names, SeenGenerations: w.seen.generations()}
	type messages = grpc.ServerStreamingClient[brokerpb.WatchSecretsResponse]
	stream, _, err := attend(ctx, w.client, func(ctx context.Context) (messages, error) {
		return w.client.stub.WatchSecrets(ctx, request)
	})
	if err != nil {
		return true, err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return true, w.client.explain(err)
		}
		w.waits.reset()
		w.ready = append(w.ready, w.seen.take(message)...)
		if !w.tell(yield) {
			return false, nil
		}
	}
}

func (w *Watch) tell(yield func(Event, error) bool) bool {
	for len(w.ready) > 0 {
		event := w.ready[0]
		w.ready[0] = Event{}
		w.ready = w.ready[1:]
		if !yield(event, nil) {
			return false
		}
	}
	return true
}
