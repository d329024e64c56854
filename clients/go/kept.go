package secretbroker

import (
	"context"
	"sync"
	"sync/atomic"
)

// kept is what all handles of one secret share: one goroutine follows the broker, another one tells the hooks.
type kept struct {
	client  *Client
	name    string
	reports bool
	handles int // guarded by lives
	current atomic.Pointer[Secret]
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu       sync.Mutex
	standing error
	fatal    bool
	ended    bool
	changed  chan struct{} // closed and replaced when any of the state changed
	hooks    map[int]subscription
	next     int
}

// A subscription is a hook and the version that was current when it was set.
type subscription struct {
	hook  Hook
	since *Secret
}

func newKept(client *Client, name string, options []LiveOption) *kept {
	ctx, cancel := context.WithCancel(context.Background())
	k := &kept{
		client: client, name: name, reports: true, cancel: cancel,
		hooks: make(map[int]subscription), changed: make(chan struct{}),
	}
	k.current.Store(&Secret{name: name})
	for _, option := range options {
		option(k)
	}
	versions := make(chan *Secret, 1)
	k.done.Go(func() { k.follow(ctx, versions) })
	k.done.Go(func() { k.deliver(ctx, versions) })
	return k
}

func (k *kept) end() {
	k.cancel()
	k.done.Wait()
	k.change(func() {
		k.ended = true
		k.standing = ErrClosed
		k.current.Store(&Secret{name: k.name})
	})
}

func (k *kept) change(to func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	to()
	close(k.changed)
	k.changed = make(chan struct{})
}

// watchState is the current version, nil once there will be none, and what is closed when that changes.
func (k *kept) watchState() (<-chan struct{}, *Secret) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return k.changed, nil
	}
	return k.changed, k.current.Load()
}

// settled waits for the first value and says why there is none.
func (k *kept) settled(ctx context.Context) error {
	for {
		k.mu.Lock()
		changed, standing, fatal := k.changed, k.standing, k.fatal
		has := k.current.Load().values != nil
		k.mu.Unlock()
		if has {
			return nil
		}
		if fatal {
			return standing
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return k.unheard(standing)
		}
	}
}

// unheard says why nothing was heard in time: by the broker's word, or else by the way to it.
func (k *kept) unheard(standing error) error {
	if standing != nil {
		return standing
	}
	if failure := k.client.connector.failure(); failure != nil {
		return failure
	}
	return &DeadlineError{Address: k.client.Address(), Deadline: k.client.deadline}
}

func (k *kept) subscribe(hook Hook) (stop func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	number := k.next
	k.next++
	k.hooks[number] = subscription{hook: hook, since: k.current.Load()}
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.hooks, number)
	}
}

// follow keeps the state, and hands each new version on, replacing one that was not taken yet.
func (k *kept) follow(ctx context.Context, versions chan *Secret) {
	watch := k.client.Watch(k.name)
	for ctx.Err() == nil {
		for event, err := range watch.Events(ctx) {
			if ctx.Err() != nil {
				return
			}
			if err != nil { // trying again is of no use now, but the right to the secret may come back
				k.change(func() { k.standing, k.fatal = err, true })
				continue
			}
			k.show(event, versions)
		}
		watch.pause(ctx, lastBound)
	}
}

func (k *kept) show(event Event, versions chan *Secret) {
	secret := event.Secret
	if secret == nil {
		standing := event.Err
		if event.Type == Revoked {
			standing = &RefusedError{Reason: event.Reason, Message: k.name + " must not be used any more"}
		}
		k.change(func() { k.standing = standing })
		return
	}
	before := k.current.Load()
	k.change(func() {
		k.standing, k.fatal = nil, false
		k.current.Store(secret)
	})
	if secret.sameVersion(before) {
		return
	}
	select {
	case <-versions:
	default:
	}
	versions <- secret
}

// deliver calls the hooks with each version and reports it, until a newer one comes.
func (k *kept) deliver(ctx context.Context, versions <-chan *Secret) {
	var secret *Secret
	for {
		if secret == nil {
			select {
			case secret = <-versions:
			case <-ctx.Done():
				return
			}
		}
		secret = k.deliverUntil(ctx, secret, versions)
	}
}

// deliverUntil returns the newer version that put an end to it, or nil when it was done before.
func (k *kept) deliverUntil(ctx context.Context, secret *Secret, versions <-chan *Secret) *Secret {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	done := make(chan struct{})
	running.Go(func() {
		defer close(done)
		k.runHooks(ctx, secret)
		if k.reports {
			reportApplied(ctx, k.client, secret)
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

func (k *kept) runHooks(ctx context.Context, secret *Secret) {
	k.mu.Lock()
	var hooks []Hook
	for _, subscription := range k.hooks {
		if !secret.sameVersion(subscription.since) {
			hooks = append(hooks, subscription.hook)
		}
	}
	k.mu.Unlock()
	var running sync.WaitGroup
	for _, hook := range hooks {
		running.Go(func() { hook(ctx, secret) })
	}
	running.Wait()
}
