package secretbroker

import (
	"context"
	"sync"
)

// hooked is a hook that is called with new versions, in order and one after the other, by a goroutine of its own: a slow
// one keeps neither the handle nor another hook waiting, and goes on with the latest version.
type hooked struct {
	hook  Hook
	taken uint64 // the generation that it took over; guarded by kept
	ctx   context.Context
	stop  context.CancelFunc

	mu      sync.Mutex
	latest  *Secret            // that the hook has not come to
	arrived chan struct{}      // has room for one
	newer   context.CancelFunc // ends the context of the call that runs
}

func newHooked(ctx context.Context, hook Hook, current uint64) *hooked {
	ctx, stop := context.WithCancel(ctx)
	return &hooked{hook: hook, taken: current, ctx: ctx, stop: stop, arrived: make(chan struct{}, 1), newer: func() {}}
}

// tell has the hook called with a version, in place of one that it has not come to, and ends the context of the call with the one before.
func (h *hooked) tell(secret *Secret) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latest = secret
	h.newer()
	select {
	case h.arrived <- struct{}{}:
	default:
	}
}

// run calls the hook until it is taken away, and tells which generation it took over.
func (h *hooked) run(took func(generation uint64)) {
	for {
		secret, ctx := h.next()
		if secret == nil {
			return
		}
		h.hook(ctx, secret)
		took(secret.Generation())
	}
}

// next waits for a version, and gives the context for the call; nil when the hook was taken away.
func (h *hooked) next() (*Secret, context.Context) {
	for h.ctx.Err() == nil {
		if secret, ctx := h.take(); secret != nil {
			return secret, ctx
		}
		select {
		case <-h.arrived:
		case <-h.ctx.Done():
		}
	}
	return nil, nil
}

func (h *hooked) take() (*Secret, context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.newer()
	secret := h.latest
	if secret == nil {
		return nil, nil
	}
	h.latest = nil
	ctx, newer := context.WithCancel(h.ctx)
	h.newer = newer
	return secret, ctx
}
