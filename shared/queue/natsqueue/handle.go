package natsqueue

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/queue"
	"recompose/shared/telemetry/logging"
)

// storeFor is how long storing a result is retried while the server refuses it. In an outage, such as of a full disk, it
// is retried without limit: a redelivery would count as one of the message's few deliveries, and the message is not the
// cause.
const storeFor = 2 * time.Minute

// handle passes one message to its function, and acknowledges it or returns it to the server.
func (w *work) handle(r route, m *nats.Msg, ackWait time.Duration) {
	q, begin := w.q, time.Now()
	handled := Handled{Function: r.fn.Name}
	var correlation string
	log := func() *slog.Logger { return q.log.With("function", r.fn.Name, logging.KeyCorrelation, correlation) }
	defer func() {
		if p := recover(); p != nil {
			log().Error("panic in the adapter", "subject", m.Subject, "panic", p, "stack", string(debug.Stack()))
			handled.Verdict = "retry"
			_ = m.NakWithDelay(q.o.Redeliver[0])
		}
		handled.Took = time.Since(begin)
		q.o.Observe(handled)
	}()
	ctx := w.handling
	d, from, err := q.delivery(m)
	if err != nil { // not a message of a consumer; there is nothing to acknowledge
		log().ErrorContext(ctx, "cannot handle a message without JetStream metadata", "error", err)
		return
	}
	handled.Delivery = d.Deliveries
	release := hold(m, ackWait/3)
	defer release()

	fn, held := q.stopped.held(ctx, r.fn)
	result := w.processor.Process(ctx, fn, d)
	correlation = result.Correlation()
	handled.Verdict = verdict(result)
	if result.Retry == nil {
		if err := w.keep(ctx, result, from); err != nil {
			log().ErrorContext(ctx, "the result could not be stored; the message will be redelivered", "subject", m.Subject,
				"delivery", d.Deliveries, "error", err)
			handled.Verdict, result.Retry = "unstored", err
		} else {
			handled.Events = result.Events
			if result.Delay != nil {
				q.waits.note(result.Delay, q.Now())
			}
			if result.Dead != nil {
				handled.Dead = result.Dead.Class
			}
		}
	}
	release()
	switch {
	case result.Retry != nil && ctx.Err() != nil: // cancelled by the end of this worker
		err = m.Nak()
	case result.Retry != nil:
		err = m.NakWithDelay(q.wait(d.Deliveries))
	case result.Dead != nil:
		err = m.Term()
	default:
		err = m.Ack()
	}
	if err != nil { // the message is redelivered; its outcomes then have the same ids
		log().WarnContext(ctx, "acknowledge failed; the message will be redelivered", "subject", m.Subject, "error", err)
	}
	if result.Stop != nil {
		w.halt(ctx, result.Stop, held)
	}
}

// keep stores a result. While the server refuses it, it retries for up to storeFor, and through an outage until the
// worker is stopped.
func (w *work) keep(ctx context.Context, result queue.Result, from origin) error {
	p, err := w.q.pack(result, from)
	if err != nil {
		return err
	}
	begun := time.Now()
	failed := w.q.store(ctx, p)
	if failed == nil {
		return nil
	}
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	key := "storing the result of " + from.stream + "/" + strconv.FormatUint(from.seq, 10)
	defer w.outage.end(ctx, key)
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		err := failed
		if failed = nil; err == nil { // each attempt after the first
			err = w.q.store(ctx, p)
		}
		if errors.Is(err, jetstream.ErrNoStreamResponse) && !w.q.o.Verify { // the stream was deleted, or has no leader
			err = errors.Join(err, w.q.setupAgain(ctx))
		}
		refused := err != nil && !passing(err) && time.Since(begun) > w.q.storeFor
		if err != nil && (w.stopped.Err() != nil || errors.Is(err, nats.ErrMaxPayload) || refused) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		w.outage.begin(ctx, key, err)
		if passing(err) {
			w.q.beatAll() // the loops wait for a slot, and a restart would not help
		}
	}))
	return err
}

// wait is how long a message waits before its next delivery.
func (q *Queue) wait(deliveries int) time.Duration {
	return q.o.Redeliver[min(max(deliveries, 1), len(q.o.Redeliver))-1]
}

// hold keeps a message with this worker for longer than its AckWait, until release is called. After that nothing more is
// sent for the message. release may be called more than once.
func hold(m *nats.Msg, every time.Duration) (release func()) {
	h := &held{m: m, every: max(every, 10*time.Millisecond)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timer = time.AfterFunc(h.every, h.extend)
	return h.release
}

// held is a message that is kept. The timers of all are kept by the runtime; none has a goroutine before it fires.
type held struct {
	m     *nats.Msg
	every time.Duration

	mu       sync.Mutex
	timer    *time.Timer
	released bool
}

func (h *held) extend() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.released {
		return
	}
	_ = h.m.InProgress() // if it fails, another worker may get the message too, which does no harm
	h.timer.Reset(h.every)
}

func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released = true
	h.timer.Stop()
}

func verdict(r queue.Result) string {
	switch {
	case r.Retry != nil:
		return "retry"
	case r.Dead != nil:
		return "dead"
	case r.Delay != nil:
		return "delay"
	default:
		return "ack"
	}
}
