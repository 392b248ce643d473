package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Status is how a queue and its Run stand.
type Status struct {
	Connected bool
	Running   bool      // Run has begun and not returned
	Stopped   error     // why no messages are taken until a probe succeeds; nil: they are
	Since     time.Time // of Stopped
	// Turned is when each loop that takes messages had last come round, by the one that is farthest behind. While nothing
	// is stopped it is seconds ago, unless that function's messages all take long.
	Turned time.Time
}

// Status tells how the queue stands. It asks nobody.
func (q *Queue) Status() Status {
	s := Status{Connected: q.nc.IsConnected()}
	s.Since, s.Stopped = q.stopped.state()
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Running = q.runs > 0
	for _, at := range q.turns {
		if s.Turned.IsZero() || at.Before(s.Turned) {
			s.Turned = at
		}
	}
	return s
}

// turn notes that a loop has come round; over, that it has ended.
func (q *Queue) turn(loop *puller, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if over {
		delete(q.turns, loop)
		return
	}
	q.turns[loop] = q.o.Now()
}

func (q *Queue) running(by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.runs += by
}

// Check asks the server whether all streams are there and keep messages as long as they should. The error says what is
// wrong.
func (q *Queue) Check(ctx context.Context) error {
	if !q.nc.IsConnected() {
		return errors.New("there is no connection to NATS")
	}
	for _, should := range q.names.streams(q.knownFunctions(), 0) {
		s, err := q.js.Stream(ctx, should.Name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", should.Name, q.explain(err))
		}
		is, cs := s.CachedInfo().Config, changes(nil)
		if shorter(&cs, &is, should); len(cs) > 0 {
			return fmt.Errorf("stream %s: %s: run recompose setup", should.Name, list(cs))
		}
	}
	return nil
}

// Depth is how much the streams hold.
type Depth struct {
	Consumers []ConsumerDepth
	Streams   []StreamDepth
	Delayed   uint64 // messages that wait for their time
}

// ConsumerDepth is what one consumer has not done with.
type ConsumerDepth struct {
	Stream, Consumer string
	Pending          uint64        // not handed over
	InHand           uint64        // handed over and not acknowledged
	Oldest           time.Duration // age of the oldest of all these; 0 without one
}

// StreamDepth is what one stream stores.
type StreamDepth struct {
	Stream          string
	Messages, Bytes uint64
}

// Depth asks the server how much waits, for the functions that Setup or Run was given.
func (q *Queue) Depth(ctx context.Context) (Depth, error) {
	var d Depth
	streams := map[string]jetstream.Stream{}
	for _, name := range []string{q.names.commands(), q.names.nexts(), q.names.events(), q.names.dead()} {
		s, err := q.js.Stream(ctx, name)
		if err != nil {
			return Depth{}, fmt.Errorf("stream %s: %w", name, q.explain(err))
		}
		state := s.CachedInfo().State
		d.Streams = append(d.Streams, StreamDepth{Stream: name, Messages: state.Msgs, Bytes: state.Bytes})
		streams[name] = s
	}
	delayed := int64(streams[q.names.nexts()].CachedInfo().State.Msgs) //nolint:gosec // far below
	for _, f := range q.knownFunctions() {
		for _, r := range q.names.routes(f) {
			c, err := q.consumerDepth(ctx, streams[r.stream], r)
			if err != nil {
				return Depth{}, fmt.Errorf("consumer %s of stream %s: %w", r.durable, r.stream, err)
			}
			if r.stream == q.names.nexts() {
				delayed -= int64(c.Pending + c.InHand) //nolint:gosec // far below
			}
			d.Consumers = append(d.Consumers, c)
		}
	}
	d.Delayed = uint64(max(delayed, 0)) // the counts are not of the same moment
	return d, nil
}

func (q *Queue) consumerDepth(ctx context.Context, s jetstream.Stream, r route) (ConsumerDepth, error) {
	consumer, err := s.Consumer(ctx, r.durable)
	if err != nil {
		return ConsumerDepth{}, err
	}
	info := consumer.CachedInfo()
	c := ConsumerDepth{
		Stream: r.stream, Consumer: r.durable, Pending: info.NumPending, InHand: uint64(max(info.NumAckPending, 0)),
	}
	if c.Pending+c.InHand == 0 {
		return c, nil
	}
	now := info.TimeStamp // the server's clock: it is the one that messages are stored by
	if now.IsZero() {
		now = q.Now()
	}
	for _, filter := range r.filters {
		m, err := s.GetMsg(ctx, info.AckFloor.Stream+1, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return ConsumerDepth{}, err
		}
		c.Oldest = max(c.Oldest, now.Sub(m.Time))
	}
	return c, nil
}
