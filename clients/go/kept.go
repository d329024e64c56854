package secretbroker

import (
	"context"
	"sync"
	"sync/atomic"
)

// kept is what all handles of one secret share: one goroutine follows the broker, one for each hook calls it.
type kept struct {
	client  *Client
	name    string
	reports bool
	handles int // guarded by lives
	current atomic.Pointer[Secret]
	ctx     context.Context
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu       sync.Mutex
	standing error
	fatal    bool
	ended    bool
	changed  chan struct{} // closed and replaced when any of the state changed
	hooks    map[*hooked]struct{}
	told     uint64 // the generation that needs no report any more
}

func newKept(client *Client, name string, options []LiveOption) *kept {
	ctx, cancel := context.WithCancel(context.Background())
	k := &kept{
		client: client, name: name, reports: true, ctx: ctx, cancel: cancel,
		hooks: make(map[*hooked]struct{}), changed: make(chan struct{}),
	}
	k.current.Store(&Secret{name: name})
	for _, option := range options {
		option(k)
	}
	k.done.Go(k.follow)
	return k
}

func (k *kept) end() {
	k.change(func() { k.ended = true })
	k.cancel()
	k.done.Wait()
	k.change(func() {
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
	if k.ended {
		return func() {}
	}
	added := newHooked(k.ctx, hook, k.current.Load().Generation())
	k.hooks[added] = struct{}{}
	k.done.Go(func() {
		added.run(func(generation uint64) { k.took(added, generation) })
	})
	return func() { k.unsubscribe(added) }
}

func (k *kept) unsubscribe(hook *hooked) {
	hook.stop()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.hooks, hook)
	k.settle()
}

func (k *kept) took(hook *hooked, generation uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	hook.taken = generation
	k.settle()
}

// settle reports the current version once all hooks took it over.
func (k *kept) settle() {
	secret := k.current.Load()
	if k.ended || k.told == secret.Generation() {
		return
	}
	for hook := range k.hooks {
		if hook.taken != secret.Generation() {
			return
		}
	}
	k.told = secret.Generation()
	if k.reports {
		k.done.Go(func() { k.reportApplied(secret) })
	}
}

// reportApplied lets the broker revoke the versions before, however often it has to be told.
func (k *kept) reportApplied(secret *Secret) {
	var waits backoff
	for k.ctx.Err() == nil && k.current.Load().sameVersion(secret) {
		_, err := k.client.Report(k.ctx, secret, Applied)
		if err == nil || !IsTransient(err) {
			return
		}
		pause(k.ctx, waits.wait(err))
	}
}

// follow keeps the state, and hands each new version on.
func (k *kept) follow() {
	for k.ctx.Err() == nil {
		// Of a version that is not served the watch has to tell that it is served again.
		for event, err := range k.client.Watch(k.name).Events(k.ctx) {
			if k.ctx.Err() != nil {
				return
			}
			if err != nil { // trying again is of no use now, but the right to the secret may come back
				k.change(func() { k.standing, k.fatal = err, true })
				continue
			}
			k.show(event)
		}
		pause(k.ctx, lastBound)
	}
}

func (k *kept) show(event Event) {
	secret := event.Secret
	if secret == nil {
		standing := event.Err
		if event.Type == Revoked {
			standing = &RefusedError{Reason: event.Reason, Message: k.name + " must not be used any more"}
		}
		k.change(func() { k.standing = standing })
		return
	}
	k.change(func() {
		k.standing, k.fatal = nil, false
		k.hold(secret)
	})
}

func (k *kept) hold(secret *Secret) {
	before := k.current.Swap(secret)
	switch {
	case before.values == nil:
		k.told = secret.Generation()
	case !secret.sameVersion(before):
		for hook := range k.hooks {
			hook.tell(secret)
		}
		k.settle()
	}
}
