package natsqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/queue"
)

// clusterReplicas is how many servers of a cluster keep each stream.
const clusterReplicas = 3

// Setup makes the four streams and every consumer of these functions, or with Options.Verify checks that they are
// there. Streams and consumers that exist are changed where they must be and can be; the log says what was. The error
// tells each difference that remains. Setup may be repeated, and run by many workers at once: all come to the same.
//
// Give it all functions, not only those that this worker runs: a message for a function without a consumer is kept
// only if the streams know the function.
func (q *Queue) Setup(ctx context.Context, fns []queue.Function) error {
	if err := checkVersion(q.nc.ConnectedServerVersion()); err != nil {
		return err
	}
	q.remember(fns)
	return q.setup(ctx, fns)
}

func (q *Queue) remember(fns []queue.Function) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, f := range fns {
		q.known[f.Name] = f
	}
}

func (q *Queue) knownFunctions() []queue.Function {
	q.mu.Lock()
	defer q.mu.Unlock()
	var fns []queue.Function
	for _, f := range q.known {
		fns = append(fns, f)
	}
	return fns
}

func (q *Queue) setup(ctx context.Context, fns []queue.Function) error {
	var faults []error
	for _, s := range q.names.streams(fns, q.replicas()) {
		if err := q.stream(ctx, s); err != nil {
			if errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) { // of all streams
				return fmt.Errorf("set up NATS: %w", q.explain(err))
			}
			faults = append(faults, fmt.Errorf("stream %s: %w", s.Name, err))
		}
	}
	if len(faults) == 0 {
		for _, f := range fns {
			for _, r := range q.names.routes(f) {
				if err := q.durable(ctx, r); err != nil {
					faults = append(faults, fmt.Errorf("consumer %s of stream %s: %w", r.durable, r.stream, err))
				}
			}
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("set up NATS: %w", errors.Join(faults...))
	}
	return nil
}

func (q *Queue) replicas() int {
	switch {
	case q.o.Replicas > 0:
		return q.o.Replicas
	case q.nc.ConnectedClusterName() != "":
		return clusterReplicas
	default:
		return 1
	}
}

// rounds is how often a look and a change may be crossed by another worker's.
const rounds = 5

// stream makes or amends one stream.
func (q *Queue) stream(ctx context.Context, should jetstream.StreamConfig) error {
	var err error
	for range rounds {
		var s jetstream.Stream
		asked := q.o.Now()
		s, err = q.js.Stream(ctx, should.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if q.o.Verify {
				return ErrNotSetUp
			}
			if s, err = q.js.CreateStream(ctx, should); err == nil {
				q.clock.learn(asked, s.CachedInfo().TimeStamp)
				q.log.InfoContext(ctx, "stream made", "stream", should.Name, "replicas", should.Replicas)
				return nil
			}
			if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
				continue
			}
			return err
		}
		if err != nil {
			return err
		}
		q.clock.learn(asked, s.CachedInfo().TimeStamp)
		to, cs := amend(s.CachedInfo().Config, should, q.o.Replicas)
		if len(cs) == 0 {
			return nil
		}
		if q.o.Verify {
			return fmt.Errorf("%s", list(cs))
		}
		if _, err = q.js.UpdateStream(ctx, to); err == nil {
			q.log.InfoContext(ctx, "stream changed", "stream", should.Name, "changes", list(cs))
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("%s; changing it: %w", list(cs), err)
		}
	}
	return err
}

// durable makes or amends one consumer.
func (q *Queue) durable(ctx context.Context, r route) error {
	var err error
	should := q.consumer(r)
	for range rounds {
		var c jetstream.Consumer
		c, err = q.js.Consumer(ctx, r.stream, r.durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			if q.o.Verify {
				return fmt.Errorf("it is not there: %w", ErrNotSetUp)
			}
			if _, err = q.js.CreateConsumer(ctx, r.stream, should); err == nil {
				q.log.DebugContext(ctx, "consumer made", "stream", r.stream, "consumer", r.durable)
				return nil
			}
			if errors.Is(err, jetstream.ErrConsumerExists) {
				continue
			}
			return err
		}
		if err != nil {
			return err
		}
		to, cs := q.amendConsumer(c.CachedInfo().Config, should)
		if len(cs) == 0 {
			return nil
		}
		if q.o.Verify {
			return fmt.Errorf("%s", list(cs))
		}
		if _, err = q.js.UpdateConsumer(ctx, r.stream, to); err == nil {
			q.log.InfoContext(ctx, "consumer changed", "stream", r.stream, "consumer", r.durable, "changes", list(cs))
			return nil
		}
		if !errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			return fmt.Errorf("%s; changing it: %w", list(cs), err)
		}
	}
	return err
}

func list(cs changes) string {
	texts := make([]string, len(cs))
	for i, c := range cs {
		texts[i] = c.String()
	}
	return strings.Join(texts, "; ")
}
