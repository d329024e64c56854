// Package fleet counts the open connections of a pool by the generation of the credential they logged in with.
package fleet

import (
	"context"
	"sync"
)

// A Fleet is a pool's open connections. The zero value has none.
type Fleet struct {
	mu      sync.Mutex
	open    map[uint64]int
	changed chan struct{}
}

// Add counts a connection; the function that it returns forgets it again, however often it is called.
func (f *Fleet) Add(generation uint64) (remove func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = make(map[uint64]int)
	}
	f.open[generation]++
	return sync.OnceFunc(func() { f.remove(generation) })
}

func (f *Fleet) remove(generation uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[generation]--; f.open[generation] == 0 {
		delete(f.open, generation)
	}
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Others is the number of open connections of all generations but this one.
func (f *Fleet) Others(generation uint64) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.others(generation)
}

// OnlyThis waits until no connection of another generation is open, or the context ends.
func (f *Fleet) OnlyThis(ctx context.Context, generation uint64) {
	for {
		changed := f.waitFor(generation)
		if changed == nil {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (f *Fleet) waitFor(generation uint64) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.others(generation) == 0 {
		return nil
	}
	if f.changed == nil {
		f.changed = make(chan struct{})
	}
	return f.changed
}

func (f *Fleet) others(generation uint64) int {
	count := 0
	for other, open := range f.open {
		if other != generation {
			count += open
		}
	}
	return count
}
