package checkimages

import (
	"context"
	"slices"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// batches makes one call of check-images for several reactions, which come at the ends of the jobs of a fleet and have at
// most 100 desktops each: the service takes 500, and counts the call as a write. A reaction joins the next call to begin.
type batches struct {
	API
	gap     time.Duration // between the beginnings of two calls that are not full
	now     func() time.Time
	filled  chan struct{} // a call has become full
	mu      sync.Mutex
	last    time.Time // when the last call began
	waiting []*batch
	running bool
}

type batch struct {
	ids     []string
	members int
	done    chan struct{}
	infos   []workspace.ImageDescription
	err     error
}

// batchGap is short beside the time until a desktop shows its new image.
const batchGap = 2 * time.Second

func inBatches(api API, gap time.Duration, now func() time.Time) *batches {
	return &batches{API: api, gap: gap, now: now, filled: make(chan struct{}, 1)}
}

// DescribeImages returns the images of at least these desktops. What is wrong with the desktops of others is no error.
func (b *batches) DescribeImages(ctx context.Context, ids []string) ([]workspace.ImageDescription, error) {
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
	return b.API.DescribeImages(ctx, ids)
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
	if joined.full() {
		select {
		case b.filled <- struct{}{}:
		default:
		}
	}
	if !b.running {
		b.running = true
		go b.run(context.WithoutCancel(ctx))
	}
	return joined
}

// run makes the calls one after the other, as long as a reaction waits for one.
func (b *batches) run(ctx context.Context) {
	for {
		b.gather()
		b.mu.Lock()
		if len(b.waiting) == 0 {
			b.running = false
			b.mu.Unlock()
			return
		}
		next := b.waiting[0]
		b.waiting, b.last = b.waiting[1:], b.now()
		b.mu.Unlock()
		next.infos, next.err = queue.Guarded(func() ([]workspace.ImageDescription, error) {
			return b.API.DescribeImages(ctx, next.ids)
		})
		close(next.done)
	}
}

// gather waits until it is time for the next call, or it is full; not at all if no reaction waits.
func (b *batches) gather() {
	var timer <-chan time.Time
	for {
		b.mu.Lock()
		left := min(b.last.Add(b.gap).Sub(b.now()), b.gap)
		ready := len(b.waiting) == 0 || b.waiting[0].full() || left <= 0
		b.mu.Unlock()
		if ready {
			return
		}
		if timer == nil {
			timer = time.After(left)
		}
		select {
		case <-timer:
			return
		case <-b.filled:
		}
	}
}

// full reports whether there is no room for another reaction.
func (j *batch) full() bool { return len(j.ids)+events.MaxRebuildCall > events.MaxCheckCall }
