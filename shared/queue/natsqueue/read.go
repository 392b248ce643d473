package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
)

// Since is where reading begins. The zero value is the first stored event.
type Since struct {
	Seq  uint64    // this event and those after it
	Time time.Time // events stored then and after; not together with Seq
}

// NextEvent is the place of the event that will be stored next.
func (q *Queue) NextEvent(ctx context.Context) (Since, error) {
	stream, err := q.js.Stream(ctx, q.names.events())
	if err != nil {
		return Since{}, fmt.Errorf("read events: %w", q.explain(err))
	}
	return Since{Seq: stream.CachedInfo().State.LastSeq + 1}, nil
}

// Read calls each for every event, in the order in which they were stored, with the time of storage and the sequence
// number. It returns nil when each returns false, or, without follow, after the last event that was stored when Read
// began. It returns an error of each, the error of ctx, ErrNotSetUp, or a *DeniedError. With follow it waits for
// further events.
//
// Every event is read once, also through outages, after which reading continues. If the stream is created anew or
// restored from an older copy, its events are read from the first one. Messages on the stream that are not events are
// skipped, with a line in the log.
func (q *Queue) Read(ctx context.Context, from Since, follow bool, each func(e events.Envelope, stored time.Time, seq uint64) (more bool, err error)) error {
	stream, err := q.js.Stream(ctx, q.names.events())
	if err != nil {
		if denied := q.denied("$JS.API.STREAM.INFO." + q.names.events()); denied != nil {
			err = denied
		}
		return fmt.Errorf("read events: %w", q.explain(err))
	}
	r := &reader{q: q, from: from, each: each, last: stream.CachedInfo().State.LastSeq, follow: follow,
		created: stream.CachedInfo().Created}
	if !follow && stream.CachedInfo().State.Msgs == 0 {
		return nil
	}
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 50*time.Millisecond, 5*time.Second
	for {
		before := r.from
		done, err := r.session(ctx)
		switch {
		case done:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
		q.log.DebugContext(ctx, "reading events was interrupted, retrying", "error", err)
		if r.from != before {
			b.Reset()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(b.NextBackOff()):
		}
	}
}

type reader struct {
	q      *Queue
	from   Since // advances with every event
	each   func(events.Envelope, time.Time, uint64) (bool, error)
	last   uint64
	follow bool

	created time.Time // of the stream that from belongs to
}

// errAnew ends a session on a stream that was created anew or restored from an older copy.
var errAnew = errors.New("the stream of events is another one")

// check returns errAnew if the numbers of the stream begin anew, and lets the next session begin at its first event: a
// consumer at a number that the stream has not reached would skip the events before it.
func (r *reader) check(ctx context.Context) error {
	stream, err := r.q.js.Stream(ctx, r.q.names.events())
	if err != nil {
		return err
	}
	info := stream.CachedInfo()
	anew := r.from.Seq > 0 && (!info.Created.Equal(r.created) || info.State.LastSeq+1 < r.from.Seq)
	r.created = info.Created
	if !anew {
		return nil
	}
	r.from, r.last = Since{Seq: 1}, info.State.LastSeq
	return errAnew
}

// next returns the next message. While none comes it checks the stream.
func (r *reader) next(ctx context.Context, ms jetstream.MessagesContext) (jetstream.Msg, error) {
	for {
		m, err := nextWithin(ctx, ms)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return m, err
		}
		if err := r.check(ctx); err != nil {
			return nil, err
		}
	}
}

// session reads until an error, or until reading is done.
func (r *reader) session(ctx context.Context) (done bool, err error) {
	if err := r.check(ctx); err != nil && !errors.Is(err, errAnew) {
		return false, err
	}
	config := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, MaxResetAttempts: resetAttempts}
	switch {
	case r.from.Seq > 0:
		if !r.follow && r.from.Seq > r.last {
			return true, nil
		}
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.from.Seq
	case !r.from.Time.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.from.Time
	}
	c, err := r.q.js.OrderedConsumer(ctx, r.q.names.events(), config)
	if err != nil {
		if denied := r.q.denied("$JS.API.CONSUMER.CREATE." + r.q.names.events()); denied != nil {
			return true, fmt.Errorf("read events: %w", denied)
		}
		return false, err
	}
	if info := c.CachedInfo(); !r.follow && info != nil && info.NumPending == 0 {
		return true, nil
	}
	ms, err := c.Messages()
	if err != nil {
		return false, err
	}
	defer ms.Stop()
	for {
		m, err := r.next(ctx, ms)
		if err != nil {
			return false, err
		}
		meta, err := m.Metadata()
		if err != nil {
			return false, err
		}
		seq := meta.Sequence.Stream
		if !r.follow && seq > r.last {
			return true, nil
		}
		e, err := events.Decode(events.Headers(m.Headers()), m.Data(), events.Bare{Time: meta.Timestamp.UTC()})
		if err != nil {
			r.q.log.WarnContext(ctx, "skipped a message on the event stream that is not an event", "subject", m.Subject(), "sequence", seq, "error", err)
		} else if more, err := r.each(e, meta.Timestamp.UTC(), seq); err != nil || !more {
			return true, err
		}
		r.from = Since{Seq: seq + 1}
		if !r.follow && (seq >= r.last || meta.NumPending == 0) {
			return true, nil
		}
	}
}
