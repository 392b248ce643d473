package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Status is the state of a queue and its Run.
type Status struct {
	Connected bool
	Running   bool      // Run has begun and not returned
	Stopped   error     // why no messages are taken until a probe succeeds; nil: messages are taken
	Since     time.Time // of Stopped
	// LastRound is when the slowest loop that takes messages last completed a round. On a running worker this is
	// seconds ago; longer only while every slot is busy, and not because results cannot be stored in an outage.
	LastRound time.Time
}

// Status returns the state of the queue. It sends no request.
func (q *Queue) Status() Status {
	s := Status{Connected: q.nc.IsConnected()}
	s.Since, s.Stopped = q.stopped.state()
	q.mu.Lock()
	defer q.mu.Unlock()
	s.Running = q.runs > 0
	for _, at := range q.beats {
		if s.LastRound.IsZero() || at.Before(s.LastRound) {
			s.LastRound = at
		}
	}
	return s
}

// beat records that a loop has completed a round, or, with over set, that it has ended.
func (q *Queue) beat(loop *puller, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if over {
		delete(q.beats, loop)
		return
	}
	q.beats[loop] = q.o.Now()
}

// beatAll excuses the loops for their waiting.
func (q *Queue) beatAll() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for loop := range q.beats {
		q.beats[loop] = q.o.Now()
	}
}

func (q *Queue) running(by int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.runs += by
}

// Check requests from the server whether all streams exist and keep messages as long as they should. The error names
// the first fault.
func (q *Queue) Check(ctx context.Context) error {
	if !q.nc.IsConnected() {
		return errors.New("there is no connection to NATS")
	}
	for _, should := range q.names.streams(q.knownFunctions(), 0) {
		s, err := q.js.Stream(ctx, should.Name)
		if err != nil {
			return fmt.Errorf("stream %s: %w", should.Name, q.explain(err))
		}
		actual, cs := s.CachedInfo().Config, changes(nil)
		if restoreLimits(&cs, &actual, should); len(cs) > 0 {
			return fmt.Errorf("stream %s: %s: run recompose setup", should.Name, cs.String())
		}
	}
	return nil
}

// Depth is how many messages the streams hold.
type Depth struct {
	Consumers []ConsumerDepth
	Streams   []StreamDepth
	Delayed   uint64 // messages that wait for their time
}

// ConsumerDepth is what one consumer has not finished.
type ConsumerDepth struct {
	Stream, Consumer string
	Pending          uint64        // not delivered
	AckPending       uint64        // delivered and not acknowledged
	Oldest           time.Duration // age of the oldest of these messages; 0 without one
}

// StreamDepth is the size of one stream.
type StreamDepth struct {
	Stream          string
	Messages, Bytes uint64
}

// Depth reads from the server how many messages wait, for the functions that Setup or Run was called with.
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
				delayed -= int64(c.Pending + c.AckPending) //nolint:gosec // far below
			}
			d.Consumers = append(d.Consumers, c)
		}
	}
	d.Delayed = uint64(max(delayed, 0)) // the counts were not read at the same moment
	return d, nil
}

func (q *Queue) consumerDepth(ctx context.Context, s jetstream.Stream, r route) (ConsumerDepth, error) {
	consumer, err := s.Consumer(ctx, r.durable)
	if err != nil {
		return ConsumerDepth{}, err
	}
	info := consumer.CachedInfo()
	c := ConsumerDepth{
		Stream: r.stream, Consumer: r.durable, Pending: info.NumPending, AckPending: uint64(max(info.NumAckPending, 0)),
	}
	if c.Pending+c.AckPending == 0 {
		return c, nil
	}
	now := info.TimeStamp // the server's clock: messages are stored with its time
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
