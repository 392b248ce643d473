package natsqueue

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"recompose/shared/queue"
)

// wakes wakes each function that has a Wake every SweepEvery, until ctx ends. Several workers may do so at once: what
// they publish in the same minute has the same ids, so the stream stores it once.
func (w *work) wakes(ctx context.Context, fns []queue.Function) {
	fns = slices.DeleteFunc(slices.Clone(fns), func(f queue.Function) bool { return f.Wake == nil })
	if len(fns) == 0 {
		return
	}
	wait := rand.N(w.q.o.SweepEvery) //nolint:gosec // spreads the looks of workers that start together
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = w.q.o.SweepEvery
		_, why := w.q.stopped.state()
		for _, f := range fns {
			if why == nil || f.NoCalls { // else what it publishes would only wait
				w.wake(ctx, f)
			}
		}
	}
}

func (w *work) wake(ctx context.Context, f queue.Function) {
	ctx, cancel := context.WithTimeout(ctx, w.q.o.SweepEvery+publishWithin)
	defer cancel()
	p, err := w.q.pack(w.processor.Wake(ctx, f), origin{})
	if err == nil {
		err = w.q.store(ctx, p)
	}
	if err != nil && ctx.Err() == nil {
		w.q.log.WarnContext(ctx, "what a function publishes when it is woken could not be stored; the next try is in a minute", "function", f.Name, "error", err)
	}
}
