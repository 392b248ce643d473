package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"recompose/shared/queue"
)

// stopWithin is how long the end of a worker may take after the contexts of its handlers have ended.
const stopWithin = 5 * time.Second

// Run takes messages for these functions and handles them until ctx ends, and then returns nil; or until a function
// stops the worker, and then returns its *queue.StopError. Either way it ends in order: it takes no more messages,
// returns messages that were not started at once, gives running handlers Options.Grace before it cancels their
// contexts, and stores their results. An error without a *queue.StopError reports that handlers did not end even
// then.
//
// With Options.Key a function does not end Run: no more messages are requested until the key may be used. Earlier requests are
// withdrawn, and what they still bring is returned at once, for another worker.
//
// Outages do not end Run: it continues after an outage of the server, the streams or the consumers, and creates
// streams and consumers anew that were deleted, unless Options.Verify forbids it. Only a connection that was closed
// in this process ends it, with nats.ErrConnectionClosed.
func (q *Queue) Run(ctx context.Context, fns []queue.Function) error {
	q.remember(fns)
	q.running(1)
	defer q.running(-1)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	handling, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abandon(nil)
	w := &work{
		q: q, stop: stop, stopped: ctx, handling: handling,
		processor: queue.Processor{Log: q.log, Now: q.Now},
		outage:    outage{log: q.log, connected: q.nc.IsConnected, keys: map[string]bool{}},
		requests:  &requests{nc: q.nc, calls: map[*context.CancelFunc]bool{}},
	}
	var loops sync.WaitGroup
	loops.Go(func() { w.requests.watch(ctx) })
	loops.Go(func() { q.sweeps(ctx) })
	loops.Go(func() { w.wakes(ctx, fns) })
	loops.Go(func() { q.answers(ctx, fns) })
	if q.o.Key != nil {
		loops.Go(func() { q.stopped.checks(ctx, q.o.CheckEvery) })
	}
	for _, f := range fns {
		for _, r := range q.names.routes(f) {
			loops.Go(func() { newPool(w, r).run(ctx) })
		}
	}
	<-ctx.Done()
	loops.Wait()
	err := w.finish(abandon)
	flush, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	if ferr := q.nc.FlushWithContext(flush); ferr != nil {
		q.log.WarnContext(ctx, "the last acknowledgements may not have reached the server", "error", ferr)
	}
	if err != nil {
		return errors.Join(stopCause(ctx), err)
	}
	return stopCause(ctx)
}

// stopCause is the error with which a function or the end of the connection stopped the worker.
func stopCause(ctx context.Context) error {
	cause := context.Cause(ctx)
	if _, ok := errors.AsType[*queue.StopError](cause); ok || errors.Is(cause, nats.ErrConnectionClosed) {
		return cause
	}
	return nil
}

// work is one Run.
type work struct {
	q         *Queue
	processor queue.Processor
	outage    outage
	requests  *requests
	handlers  sync.WaitGroup
	stopped   context.Context // ended: take no more messages
	stop      context.CancelCauseFunc
	handling  context.Context // of the handlers; ends later than stopped, by the grace
}

var errGrace = errors.New("the worker stops")

// finish waits for the handlers.
func (w *work) finish(abandon context.CancelCauseFunc) error {
	done := make(chan struct{})
	go func() { w.handlers.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-time.After(w.q.o.Grace):
	}
	w.q.log.Warn("the worker stops: cancelling handlers that have not ended", "grace", w.q.o.Grace)
	abandon(errGrace)
	select {
	case <-done:
		return nil
	case <-time.After(stopWithin):
		return fmt.Errorf("stop: handlers still run %v after they were cancelled", stopWithin)
	}
}

// recovered makes an error of a panic. It must be deferred itself.
func (q *Queue) recovered(ctx context.Context, task string, err *error) {
	if p := recover(); p != nil {
		q.log.ErrorContext(ctx, "panic", "task", task, "panic", p, "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", p)
	}
}

// outage logs one line when an outage begins and one when it ends, for all loops that it stops.
type outage struct {
	log       *slog.Logger
	connected func() bool

	mu     sync.Mutex
	keys   map[string]bool
	logged bool
}

func (o *outage) begin(ctx context.Context, key string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keys[key] = true
	if o.logged || !o.connected() { // the connection logs its own loss
		o.log.DebugContext(ctx, "retrying", "task", key, "error", err)
		return
	}
	o.logged = true
	o.log.WarnContext(ctx, "the queue does not work, retrying", "task", key, "error", err)
}

func (o *outage) end(ctx context.Context, key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.keys, key)
	if len(o.keys) == 0 && o.logged {
		o.logged = false
		o.log.InfoContext(ctx, "the queue resumed")
	}
}

// requests provides contexts of requests for messages. They end when the connection was lost and restored, since the server has
// then forgotten the requests, and when the worker is stopped.
type requests struct {
	nc *nats.Conn

	mu    sync.Mutex
	calls map[*context.CancelFunc]bool // true: also while the worker is stopped
}

func (r *requests) watch(ctx context.Context) {
	status := r.nc.StatusChanged(nats.CONNECTED)
	defer r.nc.RemoveStatusListener(status)
	for {
		select {
		case <-ctx.Done():
			return
		case <-status:
			r.end(true)
		}
	}
}

// end ends the contexts of all requests, or of those that are not made while the worker is stopped.
func (r *requests) end(all bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for cancel, always := range r.calls {
		if all || !always {
			(*cancel)()
		}
	}
}

// context returns a context of requests, and the function that releases it. always: they are made also while the worker is
// stopped.
func (r *requests) context(ctx context.Context, always bool) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls[&cancel] = always
	return ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.calls, &cancel)
		cancel()
	}
}
