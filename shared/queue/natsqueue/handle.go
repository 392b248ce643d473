package natsqueue

import (
	"context"
	"errors"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/logging"
	"recompose/shared/queue"
)

// storeFor is how long a result is kept in hand while the server does not store it. Handing the message over again
// would count as one of its few deliveries, and an outage is not the message's fault.
const storeFor = 2 * time.Minute

// handle takes one message through its function, and lets it go or gives it back.
func (w *work) handle(r route, m *nats.Msg, ackWait time.Duration) {
	q, begin := w.q, time.Now()
	told := Handled{Function: r.fn.Name, Stream: r.stream}
	log := q.log.With("function", r.fn.Name)
	defer func() {
		if p := recover(); p != nil {
			log.Error("panic in the adapter", "subject", m.Subject, "panic", p, "stack", string(debug.Stack()))
			told.Verdict = "retry"
			_ = m.NakWithDelay(q.o.Redeliver[0])
		}
		told.Took = time.Since(begin)
		q.o.Observe(told)
	}()
	ctx := w.handling
	d, from, err := q.delivery(m)
	if err != nil { // not a message of a consumer; there is nothing to acknowledge
		log.ErrorContext(ctx, "a message that cannot be handled", "error", err)
		return
	}
	told.Delivery = d.Deliveries
	release := hold(m, ackWait/3)
	defer release()

	result := w.processor.Process(ctx, r.fn, d)
	log = log.With(logging.KeyCorrelation, result.Correlation())
	told.Verdict = verdict(result)
	if result.Retry == nil {
		if err := w.keep(ctx, result, from); err != nil {
			log.ErrorContext(ctx, "what was said could not be stored; the message comes again", "subject", m.Subject,
				"delivery", d.Deliveries, "error", err)
			told.Verdict, result.Retry = "unstored", err
		} else {
			told.Said = result.Events
			if result.Delay != nil {
				q.waits.note(result.Delay, q.Now())
			}
			if result.Dead != nil {
				told.Dead = result.Dead.Class
			}
		}
	}
	release()
	switch {
	case result.Retry != nil && ctx.Err() != nil: // cut off by the end of this worker
		err = m.Nak()
	case result.Retry != nil:
		err = m.NakWithDelay(q.wait(d.Deliveries))
	case result.Dead != nil:
		err = m.Term()
	default:
		err = m.Ack()
	}
	if err != nil { // it comes again, and what is said again has the same ids
		log.WarnContext(ctx, "a message could not be let go", "subject", m.Subject, "error", err)
	}
	if result.Stop != nil {
		w.halt(ctx, result.Stop)
	}
}

// keep stores what a result holds. While the server cannot, it tries on, for as long as waiting helps anybody.
func (w *work) keep(ctx context.Context, result queue.Result, from delivered) error {
	p, err := w.q.pack(result, from)
	if err != nil {
		return err
	}
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 5*time.Second
	key := "storing what came of " + from.stream + "/" + strconv.FormatUint(from.seq, 10)
	defer w.outage.end(ctx, key)
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		err := w.q.store(ctx, p)
		if errors.Is(err, jetstream.ErrNoStreamResponse) && !w.q.o.Verify { // it was deleted, or has no leader
			err = errors.Join(err, w.q.setupAgain(ctx))
		}
		if err != nil && (w.stopped.Err() != nil || errors.Is(err, nats.ErrMaxPayload)) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(storeFor), backoff.WithNotify(func(err error, _ time.Duration) {
		w.outage.begin(ctx, key, err)
	}))
	return err
}

// wait is how long a message waits before its next delivery.
func (q *Queue) wait(deliveries int) time.Duration {
	return q.o.Redeliver[min(max(deliveries, 1), len(q.o.Redeliver))-1]
}

// hold keeps a message with this worker for longer than its AckWait, until the returned function is called, which may
// be done more than once.
func hold(m *nats.Msg, every time.Duration) (release func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(max(every, 10*time.Millisecond))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = m.InProgress() // if it fails, the message may come to another worker too, which does no harm
			}
		}
	}()
	return func() { cancel(); <-done }
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
