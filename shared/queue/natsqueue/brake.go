package natsqueue

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"recompose/shared/queue"
)

// probeWithin is how long a probe may take.
const probeWithin = 30 * time.Second

// brake keeps a worker that a function has stopped from taking messages, until a probe shows that it may go on.
type brake struct {
	log *slog.Logger
	now func() time.Time

	mu    sync.Mutex
	why   error
	since time.Time
	off   chan struct{} // closed when the brake comes off; nil while it is off

	pulled chan struct{}
}

func newBrake(o Options) *brake {
	return &brake{log: o.Log, now: o.Now, pulled: make(chan struct{}, 1)}
}

// pull stops the worker. Whoever comes second changes nothing.
func (b *brake) pull(ctx context.Context, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off != nil {
		return
	}
	b.why, b.since, b.off = why, b.now(), make(chan struct{})
	b.log.ErrorContext(ctx, "the worker takes no more messages until a probe shows that it may go on; none is lost", "reason", why)
	select {
	case b.pulled <- struct{}{}:
	default:
	}
}

// wait blocks while the brake is on. The error is that of ctx.
func (b *brake) wait(ctx context.Context) error {
	b.mu.Lock()
	off := b.off
	b.mu.Unlock()
	if off == nil {
		return nil
	}
	select {
	case <-off:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *brake) state() (since time.Time, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since, b.why
}

func (b *brake) release(ctx context.Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.off == nil {
		return
	}
	b.log.InfoContext(ctx, "the worker takes messages again", "stopped_for", b.now().Sub(b.since).Round(time.Second))
	close(b.off)
	b.why, b.since, b.off = nil, time.Time{}, nil
}

// probeMost is how many times as long as the first one the last wait before a probe is.
const probeMost = 16

// probeWait is how long to wait before the next probe of a worker that was stopped so long ago: every probe may count
// towards the lock of a key, so each wait is twice as long as the one before.
func probeWait(stopped, every time.Duration) time.Duration {
	return max(every, min(stopped, probeMost*every))
}

// probes asks again and again, each time the brake is on, until ctx ends.
func (b *brake) probes(ctx context.Context, every time.Duration, probe func(context.Context) error) {
	for {
		wait := b.pulled
		var tick <-chan time.Time
		if since, why := b.state(); why != nil {
			wait, tick = nil, time.After(probeWait(b.now().Sub(since), every))
		}
		select {
		case <-ctx.Done():
			return
		case <-wait:
		case <-tick:
			if err := b.probe(ctx, probe); err != nil {
				b.log.DebugContext(ctx, "the probe failed", "error", err)
			} else {
				b.release(ctx)
			}
		}
	}
}

func (b *brake) probe(ctx context.Context, probe func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b.log.ErrorContext(ctx, "panic in the probe", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	return probe(ctx)
}

// halt does what a function asks for that stops the worker.
func (w *work) halt(ctx context.Context, why error) {
	if w.q.o.Probe != nil {
		w.q.brake.pull(ctx, why)
		return
	}
	w.q.log.ErrorContext(ctx, "the worker stops", "reason", why)
	w.stop(&queue.StopError{Err: why})
}
