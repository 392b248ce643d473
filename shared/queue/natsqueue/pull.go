package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// pullFor is how long the server keeps a request for messages.
const pullFor = 5 * time.Second

// puller takes the messages of one consumer. It requests only what it can start now: a message that waits
// here would be blocked for other workers.
//
// The client's own Fetch does the same except at its end, where it abandons messages that are on their way. They
// would be redelivered only after their AckWait. A puller drains its subscription and returns them.
type puller struct {
	*pool
	most int    // messages that it requests at once
	task string // its name in the log
}

// run takes messages until ctx ends, through outages of every kind.
func (p *puller) run(ctx context.Context) {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, 5*time.Second
	defer p.w.q.beat(p, true)
	for ctx.Err() == nil {
		p.w.q.beat(p, false)
		took, err := p.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errWithdrawn) {
			continue
		}
		if errors.Is(err, nats.ErrConnectionClosed) {
			p.w.stop(err)
			return
		}
		if took { // a request had succeeded: this is a new outage
			b.Reset()
		}
		p.w.outage.begin(ctx, p.task, err)
		select {
		case <-ctx.Done():
		case <-time.After(b.NextBackOff()):
		}
	}
}

// errWithdrawn ends a session whose requests the server has forgotten, or that must bring no more messages.
var errWithdrawn = errors.New("the requests for messages are withdrawn")

// session takes messages until an error. It reports whether the server has answered a request.
func (p *puller) session(ctx context.Context) (took bool, err error) {
	defer p.w.q.recovered(ctx, "taking messages of "+p.r.fn.Name, &err)
	ackWait, err := p.w.q.bind(ctx, p.r)
	if err != nil {
		return false, err
	}
	requesting, stop := p.w.requests.context(ctx, p.r.fn.NoCalls)
	defer stop()
	sub, err := p.w.q.nc.SubscribeSync(p.w.q.nc.NewInbox())
	if err != nil {
		return false, err
	}
	defer p.giveBack(sub)
	served := func() {
		if !took {
			took = true
			p.w.outage.end(ctx, p.task)
		}
	}
	for {
		p.w.q.beat(p, false)
		n, err := p.reserve(requesting)
		if err == nil {
			err = p.request(requesting, sub, n, ackWait, served)
		}
		if err != nil {
			if ctx.Err() == nil && requesting.Err() != nil {
				err = errWithdrawn
			}
			return took, err
		}
	}
}

// gather is how long a free slot may wait for others: with many slots a request for each single one would cost more than
// handling the message.
const gather = time.Millisecond

// reserve waits for a free slot and until messages may be taken, and then takes all free slots, but no more than it may.
// While fewer than an eighth are free it waits a moment for more.
func (p *puller) reserve(ctx context.Context) (int, error) {
	select {
	case <-p.slots:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if !p.r.fn.NoCalls {
		if err := p.w.q.stopped.wait(ctx); err != nil {
			p.release(1)
			return 0, err
		}
	}
	n := 1
	var late <-chan time.Time
	for n < p.most {
		select {
		case <-p.slots:
			n++
			continue
		default:
		}
		if n >= cap(p.slots)/8 {
			return n, nil
		}
		if late == nil {
			late = time.After(gather)
		}
		select {
		case <-p.slots:
			n++
		case <-late:
			return n, nil
		case <-ctx.Done():
			p.release(n)
			return 0, ctx.Err()
		}
	}
	return n, nil
}

// request requests n messages and starts each one, until n have arrived or the server ends the request. It calls
// served at the first normal response of the server.
func (p *puller) request(ctx context.Context, sub *nats.Subscription, n int, ackWait time.Duration, served func()) error {
	left := n
	defer func() { p.release(left) }()
	request := fmt.Appendf(nil, `{"batch":%d,"expires":%d}`, n, pullFor)
	subject := "$JS.API.CONSUMER.MSG.NEXT." + p.r.stream + "." + p.r.durable
	if err := p.w.q.nc.PublishRequest(subject, sub.Subject, request); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, pullFor+2*time.Second)
	defer cancel()
	for left > 0 {
		m, err := sub.NextMsgWithContext(wait)
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return errors.New("the server does not answer a request for messages")
			}
			return err
		}
		if status := m.Header.Get("Status"); status != "" && !strings.HasPrefix(m.Reply, "$JS.ACK.") {
			over, err := ends(status, m.Header.Get("Description"))
			if over {
				if err == nil {
					served()
				}
				return err
			}
			continue
		}
		served()
		if ctx.Err() != nil { // the worker stops or is stopped: the message is not started
			_ = m.Nak()
			return ctx.Err()
		}
		left--
		p.handle(job{m, ackWait})
	}
	return nil
}

// ends reports whether a status ends a request, and the error if it is not a normal end.
func ends(status, description string) (bool, error) {
	switch status {
	case "100": // heartbeat or flow control
		return false, nil
	case "404", "408": // no messages in that time
		return true, nil
	case "409":
		if strings.HasPrefix(strings.ToLower(description), "batch completed") {
			return true, nil
		}
	case "503":
		return true, jetstream.ErrConsumerNotFound
	}
	return true, fmt.Errorf("the server ends a request for messages: %s (%s)", strings.ToLower(description), status)
}

// giveBack ends a subscription. The server sends nothing more after it has seen the end; messages that it sent before
// are returned at once, for another worker.
func (p *puller) giveBack(sub *nats.Subscription) {
	if sub.Drain() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			_ = sub.Unsubscribe()
			return
		}
		if strings.HasPrefix(m.Reply, "$JS.ACK.") {
			_ = m.Nak()
		}
	}
}

// bind finds a consumer, or creates it and its stream if they were deleted, and returns its AckWait.
func (q *Queue) bind(ctx context.Context, r route) (time.Duration, error) {
	requested := q.o.Now()
	c, err := q.js.Consumer(ctx, r.stream, r.durable)
	gone := errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist)
	if gone && !q.o.Verify {
		if err := q.setupAgain(ctx); err != nil {
			return 0, err
		}
		requested = q.o.Now()
		c, err = q.js.Consumer(ctx, r.stream, r.durable)
	}
	if err != nil {
		return 0, fmt.Errorf("consumer %s of stream %s: %w", r.durable, r.stream, err)
	}
	q.clock.learn(requested, c.CachedInfo().TimeStamp)
	return c.CachedInfo().Config.AckWait, nil
}

// setupAgain creates streams and consumers that were deleted. Of concurrent calls one does it for all.
func (q *Queue) setupAgain(ctx context.Context) error {
	_, err, _ := q.repair.Do("", func() (any, error) { return nil, q.setup(ctx, q.knownFunctions()) })
	return err
}
