package checkimages

import (
	"context"
	"slices"
	"sync"

	"recompose/events"
	"recompose/shared/workspace"
)

// batches makes one call of check-images for several reactions, which come at the ends of the jobs of a fleet and have at
// most 100 desktops each: the service takes 500, and counts the call as a write. A reaction joins the next call to begin.
type batches struct {
	API
	mu      sync.Mutex
	waiting []*batch
	running bool
}

type batch struct {
	ids     []string
	members int
	done    chan struct{}
	infos   []workspace.ImageInfo
	err     error
}

// CheckImages gives the images of at least these desktops. What is wrong with the desktops of others is no error.
func (b *batches) CheckImages(ctx context.Context, ids []string) ([]workspace.ImageInfo, error) {
	joined := b.join(ctx, ids)
	select {
	case <-joined.done:
	case <-ctx.Done():
		return nil, &workspace.Error{Operation: "check-images", Class: workspace.NotSent, Err: ctx.Err()}
	}
	switch workspace.ClassOf(joined.err) {
	case "", workspace.NotSent, workspace.Throttled, workspace.Unauthorized:
		return joined.infos, joined.err
	}
	if joined.members == 1 {
		return nil, joined.err
	}
	return b.API.CheckImages(ctx, ids)
}

// join adds desktops to the first call that has room for them and has not begun.
func (b *batches) join(ctx context.Context, ids []string) *batch {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.waiting, func(w *batch) bool { return len(w.ids)+len(ids) <= events.MaxCheckCall })
	if i < 0 {
		i, b.waiting = len(b.waiting), append(b.waiting, &batch{done: make(chan struct{})})
	}
	joined := b.waiting[i]
	joined.members++
	for _, id := range ids {
		if !slices.Contains(joined.ids, id) {
			joined.ids = append(joined.ids, id)
		}
	}
	if !b.running {
		b.running = true
		go b.run(context.WithoutCancel(ctx))
	}
	return joined
}

// run makes the calls one after the other, as long as somebody waits for one.
func (b *batches) run(ctx context.Context) {
	for {
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		next := b.waiting[0]
		b.waiting = b.waiting[1:]
		b.mu.Unlock()
		next.infos, next.err = b.API.CheckImages(ctx, next.ids)
		close(next.done)
	}
}
