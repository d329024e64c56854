package secretbroker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// A Live handle always has the current version of a secret, without a call: reading it is reading a pointer. Handles
// of one client for one secret share a watch, which ends with the last of them.
//
// What was held last stays when the broker goes away, and when it can give none: [Live.Standing] says so.
type Live struct {
	kept *kept

	mu     sync.Mutex
	closed bool
	hooks  []func()
}

// A Hook is called with new versions, in order and one after the other, by a goroutine of its own, and returns once the
// application uses nothing older any more. Its context ends when a newer version arrives or the handle is closed. One
// that is slow may skip versions in between.
type Hook func(ctx context.Context, secret *Secret)

// A LiveOption changes how a [Live] handle behaves. Of handles that share, the first one decides.
type LiveOption func(*kept)

// WithoutReports leaves it to the application to report what became of a version. Unless told so, the handle reports
// Applied by itself once all hooks returned, so that the broker can revoke the versions before.
func WithoutReports() LiveOption { return func(k *kept) { k.reports = false } }

// Live opens a live handle and waits for the first value, until the context or the client's deadline ends.
func (c *Client) Live(ctx context.Context, name string, options ...LiveOption) (*Live, error) {
	live := &Live{kept: c.lives.keep(c, name, options)}
	within, stop := context.WithTimeout(ctx, c.deadline)
	defer stop()
	err := live.kept.settled(within)
	if err == nil {
		return live, nil
	}
	live.Close()
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	return nil, err
}

// Name is the name in the broker's catalogue.
func (l *Live) Name() string { return l.kept.name }

// Current is the version to use now. It is shared and not to be closed. After the last handle of a secret was closed it
// has no fields.
func (l *Live) Current() *Secret { return l.kept.current.Load() }

// Previous is the version before, while it overlaps the current one; nil otherwise.
func (l *Live) Previous() *Previous { return l.Current().Previous() }

// Standing is nil while the broker serves the version that is held. Otherwise it says why not: a [RefusedError] when
// the version must not be used any more, or none can be given now.
func (l *Live) Standing() error {
	l.kept.mu.Lock()
	defer l.kept.mu.Unlock()
	return l.kept.standing
}

// OnChange has a hook called with each version after the current one, until stop is called or the handle closed.
func (l *Live) OnChange(hook Hook) (stop func()) {
	stop = l.kept.subscribe(hook)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hooks = append(l.hooks, stop)
	return stop
}

// After waits for a later version than that of this generation, and returns it; it fails only when the context ends
// or the handle is closed.
func (l *Live) After(ctx context.Context, generation uint64) (*Secret, error) {
	for {
		changed, current := l.kept.watchState()
		if current == nil {
			return nil, ErrClosed
		}
		if current.Generation() > generation {
			return current, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Refused tells the broker that the target refused a version, so that it fetches a fresh one, and waits for that until
// the context or the client's deadline ends. It tells whether there is another.
func (l *Live) Refused(ctx context.Context, secret *Secret, detail string) bool {
	ctx, cancel := context.WithTimeout(ctx, l.kept.client.deadline)
	defer cancel()
	if _, err := l.kept.client.Report(ctx, secret, RefusedBecause(detail)); err != nil {
		return l.Current().Generation() > secret.Generation()
	}
	_, err := l.After(ctx, secret.Generation())
	return err == nil
}

// Close lets go of the secret. The last handle's end stops the watch, waits for running hooks, and gives up the value,
// which is wiped once nobody reads it. It must not be called by a hook.
func (l *Live) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	// First: when it was the last handle, hooks that are taken away have not taken over what they were at.
	l.kept.client.lives.release(l.kept)
	for _, stop := range l.hooks {
		stop()
	}
}

// Format prints the handle without its values, whatever the verb.
func (l *Live) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.String()) }

// String shows the handle without its values.
func (l *Live) String() string { return "Live(" + l.Current().String() + ")" }

// LogValue shows the handle without its values.
func (l *Live) LogValue() slog.Value { return slog.StringValue(l.String()) }

// MarshalJSON shows the handle without its values.
func (l *Live) MarshalJSON() ([]byte, error) { return json.Marshal(l.String()) }

// lives are the live secrets of a client, by name.
type lives struct {
	mu   sync.Mutex
	kept map[string]*kept
}

func (l *lives) keep(client *Client, name string, options []LiveOption) *kept {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = make(map[string]*kept)
	}
	found := l.kept[name]
	if found == nil {
		found = newKept(client, name, options)
		l.kept[name] = found
	}
	found.handles++
	return found
}

func (l *lives) release(k *kept) {
	l.mu.Lock()
	k.handles--
	last := k.handles == 0
	if last {
		maps.DeleteFunc(l.kept, func(_ string, other *kept) bool { return other == k })
	}
	l.mu.Unlock()
	if last {
		k.end()
	}
}

func (l *lives) close() {
	l.mu.Lock()
	all := slices.Collect(maps.Values(l.kept))
	clear(l.kept)
	l.mu.Unlock()
	for _, k := range all {
		k.end()
	}
}
