package natsqueue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/queue"
)

// clusterReplicas is the number of servers of a cluster that store each stream.
const clusterReplicas = 3

// Setup creates the four streams and every consumer of these functions, or with Options.Verify checks that they
// exist. Existing streams and consumers are changed where they must be and can be; the log names each change. The
// error names each difference that remains. Setup may be repeated, and run by many workers at once with the same
// result.
//
// Call it with all functions, not only those that this worker runs: the streams must include every function,
// or messages for the others are refused.
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
			if errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) { // the error is the same for all streams
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

// rounds is how often an attempt is repeated because another worker made a change between the read and the change.
const rounds = 5

// stream creates or changes one stream.
func (q *Queue) stream(ctx context.Context, should jetstream.StreamConfig) error {
	var err error
	for range rounds {
		var s jetstream.Stream
		requested := q.o.Now()
		s, err = q.js.Stream(ctx, should.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			if q.o.Verify {
				return ErrNotSetUp
			}
			if s, err = q.js.CreateStream(ctx, should); err == nil {
				q.clock.learn(requested, s.CachedInfo().TimeStamp)
				q.log.InfoContext(ctx, "stream created", "stream", should.Name, "replicas", should.Replicas)
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
		q.clock.learn(requested, s.CachedInfo().TimeStamp)
		to, cs := amend(s.CachedInfo().Config, should, q.o.Replicas)
		if len(cs) == 0 {
			return nil
		}
		if q.o.Verify {
			return errors.New(cs.String())
		}
		if _, err = q.js.UpdateStream(ctx, to); err == nil {
			q.log.InfoContext(ctx, "stream changed", "stream", should.Name, "changes", cs.String())
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("%s; changing it: %w", cs.String(), err)
		}
	}
	return err
}

// durable creates or changes one consumer.
func (q *Queue) durable(ctx context.Context, r route) error {
	var err error
	should := q.consumer(r)
	for range rounds {
		var c jetstream.Consumer
		c, err = q.js.Consumer(ctx, r.stream, r.durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			if q.o.Verify {
				return fmt.Errorf("it does not exist: %w", ErrNotSetUp)
			}
			if _, err = q.js.CreateConsumer(ctx, r.stream, should); err == nil {
				q.log.DebugContext(ctx, "consumer created", "stream", r.stream, "consumer", r.durable)
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
			return errors.New(cs.String())
		}
		if _, err = q.js.UpdateConsumer(ctx, r.stream, to); err == nil {
			q.log.InfoContext(ctx, "consumer changed", "stream", r.stream, "consumer", r.durable, "changes", cs.String())
			return nil
		}
		if !errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			return fmt.Errorf("%s; changing it: %w", cs.String(), err)
		}
	}
	return err
}
