package secretbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// A Live handle always has the current value of a secret, without a call: reading it is reading a pointer. It follows
// the broker by a watch of its own until it is closed.
//
// While the broker can't be reached, or its source can't, the last value stays. Once a value is revoked, expired or
// withdrawn there is none, until the broker serves another.
type Live struct {
	client  *Client
	name    string
	reports bool
	state   atomic.Pointer[liveState]

	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	hooks   map[int]subscription
	next    int
	first   chan struct{} // closed when there is a value, or when there will be none
	changed chan struct{} // closed and replaced at each new state
}

type liveState struct {
	secret *Secret
	err    error
}

// A Hook is called with each new version, in a goroutine of its own and once at a time for each hook. Its context ends
// when a newer version arrives or the handle is closed: a hook that waits until the application uses no older version
// any more has to stop then. Versions that came while it ran are skipped but for the latest.
type Hook func(ctx context.Context, secret *Secret)

// A subscription is a hook and the version that was current when it was set.
type subscription struct {
	hook  Hook
	since *Secret
}

// A LiveOption changes how a [Live] handle behaves.
type LiveOption func(*Live)

// WithoutReports leaves it to the application to report what became of a version. Unless told so, the handle reports
// Applied by itself once all hooks returned, so that the broker can revoke the version before.
func WithoutReports() LiveOption { return func(l *Live) { l.reports = false } }

// Live opens a live handle and waits for the first value, until the context or the client's deadline ends.
func (c *Client) Live(ctx context.Context, name string, options ...LiveOption) (*Live, error) {
	running, cancel := context.WithCancel(context.Background())
	live := &Live{
		client: c, name: name, reports: true, cancel: cancel,
		hooks: make(map[int]subscription), first: make(chan struct{}), changed: make(chan struct{}),
	}
	for _, option := range options {
		option(live)
	}
	versions := make(chan *Secret, 1)
	live.done.Go(func() { live.follow(running, versions) })
	live.done.Go(func() { live.deliver(running, versions) })
	within, stop := context.WithTimeout(ctx, c.deadline)
	defer stop()
	select {
	case <-live.first:
	case <-within.Done():
	}
	state := live.state.Load()
	if state != nil && state.err == nil {
		return live, nil
	}
	live.Close()
	switch {
	case state != nil:
		return nil, state.err
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, ctx.Err()
	default:
		return nil, &DeadlineError{Address: c.Address(), Deadline: c.deadline}
	}
}

// Name is the name in the broker's catalogue.
func (l *Live) Name() string { return l.name }

// Current is the version to use now. It fails with a [RefusedError] while there is none, and with [ErrClosed] once the
// handle is closed. The secret is shared: it is not to be closed.
func (l *Live) Current() (*Secret, error) {
	state := l.state.Load()
	return state.secret, state.err
}

// Previous is the version before, while it overlaps the current one; nil otherwise.
func (l *Live) Previous() *Previous {
	if secret := l.state.Load().secret; secret != nil {
		return secret.Previous()
	}
	return nil
}

// OnChange has a hook called with each version after the current one, until stop is called.
func (l *Live) OnChange(hook Hook) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := l.next
	l.next++
	l.hooks[number] = subscription{hook: hook, since: l.state.Load().secret}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.hooks, number)
	}
}

// Refused tells the broker that the target refused a version, so that it fetches a fresh one, and waits until the
// handle has another version or the context ends. It tells whether it has.
func (l *Live) Refused(ctx context.Context, secret *Secret, detail string) bool {
	ctx, cancel := context.WithTimeout(ctx, l.client.deadline)
	defer cancel()
	_, reported := l.client.Report(ctx, secret, RefusedBecause(detail))
	for {
		l.mu.Lock()
		changed := l.changed
		l.mu.Unlock()
		current, err := l.Current()
		if errors.Is(err, ErrClosed) {
			return false
		}
		if err == nil && current.Generation() != secret.Generation() {
			return true
		}
		if reported != nil {
			return false
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// Close ends the watch, waits for running hooks, and lets go of the value, which is wiped once nobody reads it.
// It must not be called by a hook.
func (l *Live) Close() {
	l.cancel()
	l.done.Wait()
	l.become(&liveState{err: ErrClosed})
}

// Format prints the handle without its values, whatever the verb.
func (l *Live) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.String()) }

// String shows the handle without its values.
func (l *Live) String() string {
	state := l.state.Load()
	if state == nil || state.secret == nil {
		return "Live(" + l.name + ")"
	}
	return "Live(" + state.secret.String() + ")"
}

// LogValue shows the handle without its values.
func (l *Live) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalJSON shows the handle without its values.
func (l *Live) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

func (l *Live) become(state *liveState) {
	l.state.Store(state)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed)
	l.changed = make(chan struct{})
}

// follow keeps the state, and hands each new version on, replacing one that was not taken yet.
func (l *Live) follow(ctx context.Context, versions chan *Secret) {
	watch := l.client.Watch(l.name)
	begin := sync.OnceFunc(func() { close(l.first) })
	defer begin()
	var latest *Secret
	for ctx.Err() == nil {
		for event, err := range watch.Events(ctx) {
			if ctx.Err() != nil {
				return
			}
			if err != nil { // which trying again can't help now; the right to the secret may come back
				l.lose(err)
				begin()
				continue
			}
			l.apply(event)
			secret := event.Secret
			if secret == nil {
				continue
			}
			begin()
			if secret.sameVersion(latest) {
				continue
			}
			latest = secret
			select {
			case <-versions:
			default:
			}
			versions <- secret
		}
		watch.pause(ctx, lastBound)
	}
}

func (l *Live) apply(event Event) {
	switch {
	case event.Secret != nil:
		l.become(&liveState{secret: event.Secret})
	case event.Type == Revoked:
		l.lose(&RefusedError{Reason: event.Reason, Message: l.name + " must not be used any more"})
	case event.Type == Unavailable:
		l.lose(event.Err)
	}
}

// lose gives the value up if the error says that it is no good any more, or if there is none.
func (l *Live) lose(err error) {
	state := l.state.Load()
	if state != nil && state.err == nil && outlives(err) {
		return
	}
	l.become(&liveState{err: err})
}

// outlives tells whether a value stays good in spite of an error.
func outlives(err error) bool {
	switch ReasonOf(err) {
	case ReasonExpired, ReasonRevoked, ReasonWithdrawn, ReasonDenied:
		return false
	default:
		return true
	}
}

// deliver calls the hooks with each version and reports it, until a newer one comes.
func (l *Live) deliver(ctx context.Context, versions <-chan *Secret) {
	var secret *Secret
	for {
		if secret == nil {
			select {
			case secret = <-versions:
			case <-ctx.Done():
				return
			}
		}
		secret = l.deliverUntil(ctx, secret, versions)
	}
}

// deliverUntil returns the newer version that put an end to it, or nil when it was done before.
func (l *Live) deliverUntil(ctx context.Context, secret *Secret, versions <-chan *Secret) *Secret {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	done := make(chan struct{})
	running.Go(func() {
		defer close(done)
		l.runHooks(ctx, secret)
		if l.reports {
			l.reportApplied(ctx, secret)
		}
	})
	select {
	case <-done:
		return nil
	case newer := <-versions:
		return newer
	case <-ctx.Done():
		return nil
	}
}

func (l *Live) runHooks(ctx context.Context, secret *Secret) {
	l.mu.Lock()
	var hooks []Hook
	for _, subscription := range l.hooks {
		if !secret.sameVersion(subscription.since) {
			hooks = append(hooks, subscription.hook)
		}
	}
	l.mu.Unlock()
	var running sync.WaitGroup
	for _, hook := range hooks {
		running.Go(func() { hook(ctx, secret) })
	}
	running.Wait()
}

func (l *Live) reportApplied(ctx context.Context, secret *Secret) {
	bound := firstBound
	for ctx.Err() == nil {
		if _, err := l.client.Report(ctx, secret, Applied); err == nil || !IsTransient(err) {
			return
		}
		select {
		case <-time.After(bound):
		case <-ctx.Done():
		}
		bound = min(2*bound, lastBound)
	}
}
