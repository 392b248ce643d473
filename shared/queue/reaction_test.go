package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

func TestReaction(t *testing.T) {
	t.Parallel()
	r := setup(t)
	d := delivery(t, made())
	d.Bare = events.Bare{Source: "nats:events", ID: "m", Time: now}
	got := r.process(t, d)
	require.Len(t, r.seen, 1)
	c := r.seen[0]
	require.True(t, c.IsReaction())
	require.Equal(t, made(), c.Event)
	require.Equal(t, events.ReactionID(made(), events.FnRebuild), c.Envelope.ID)
	require.Equal(t, "chain-1", c.Envelope.Correlation)
	require.Equal(t, made().Expiry, c.Envelope.Expiry)
	_, err := events.DecodeRebuild(c.Envelope.Data)
	require.NoError(t, err)

	published := got.Events[0]
	require.Equal(t, events.Derive(c.Identity(), "job.accepted"), published.ID)
	require.Equal(t, c.Envelope.ID, published.Causation, "it answers the command, which answers the event")
	require.Equal(t, "chain-1", published.Correlation)
	require.Equal(t, made().Expiry, published.Expiry)
	require.Equal(t, got, r.process(t, d), "the same a second time")

	chain := []events.Envelope{
		{ID: "accepted-1", Source: "s", Type: events.TypeJobAccepted, Causation: "root"}, made(), published,
	}
	require.Equal(t, []events.Pending{{ID: published.ID, JobID: "j-1"}}, events.Open(events.Root{ID: "root"}, chain))
}

func TestNothingImplied(t *testing.T) {
	t.Parallel()
	r := setup(t)
	e := made()
	e.Data = json.RawMessage(`{"function":"rebuild","outcome":"failed"}`)
	d := delivery(t, e)
	d.Deliveries = 99
	require.Equal(t, queue.Result{}, r.process(t, d))
	require.Empty(t, r.seen)
}

// The event is delayed, not the command that it implies: only the event is a message.
func TestDelayedReaction(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.handles(nil, queue.RetryAfter(time.Minute, nil))
	first := r.process(t, delivery(t, made()))
	require.Equal(t, &queue.Delay{
		Function: events.FnRebuild, Envelope: made(), Identity: events.Derive(r.seen[0].Identity(), "form", r.seen[0].Digest), Attempt: 1, After: time.Minute,
		Command: r.seen[0].Ref(),
	}, first.Delay)
	d := delivery(t, first.Delay.Envelope)
	d.Headers[queue.AttemptHeader] = []string{"1"}
	r.process(t, d)
	require.Equal(t, r.seen[0].Envelope, r.seen[1].Envelope)
	require.Equal(t, 1, r.seen[1].Attempt)
}

// A reaction that fails is answered under the id that the chain waits for.
func TestFailedReaction(t *testing.T) {
	t.Parallel()
	broken := func(err error) func(events.Envelope) (events.Envelope, bool, error) {
		return func(events.Envelope) (events.Envelope, bool, error) { return events.Envelope{}, false, err }
	}
	invalid := []byte(`{"specversion":"9","id":"made-1","source":"recompose/watchjob","type":"` + events.TypeJobCompleted + `","correlationid":"chain-1"}`)
	for name, c := range map[string]struct {
		react  func(events.Envelope) (events.Envelope, bool, error)
		body   []byte
		dead   bool
		kind   string
		reason string
	}{
		"error":            {broken(errService), nil, true, events.KindInternal, "the service is away"},
		"verdict":          {broken(queue.RetryAfter(time.Second, nil)), nil, true, events.KindInternal, "retry in 1s"},
		"failed":           {broken(queue.Failed(events.KindNotAllowed, "no")), nil, true, events.KindNotAllowed, "no"},
		"panic":            {func(events.Envelope) (events.Envelope, bool, error) { panic("boom") }, nil, true, events.KindInternal, "panic: boom"},
		"no React":         {nil, nil, true, events.KindInternal, "panic: runtime error: invalid memory address or nil pointer dereference"},
		"invalid envelope": {broken(nil), invalid, false, events.KindInvalid, "specversion: must be 1.0; got 9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.React = c.react
			d := delivery(t, made())
			if c.body != nil {
				d.Body = c.body
			}
			got := r.process(t, d)
			e, published := failure(t, got)
			require.Equal(t, c.dead, got.Dead != nil)
			if c.dead {
				require.Equal(t, "permanent", got.Dead.Class)
				require.Equal(t, got.Dead.ID, published.DeadLetter)
			}
			require.Equal(t, c.kind, published.Error.Kind)
			require.Equal(t, c.reason, published.Error.ErrorMsg)
			require.Equal(t, events.EffectNone, published.Effect, "nothing was begun")
			require.Equal(t, events.ReactionID(made(), events.FnRebuild), e.Causation)
			require.Equal(t, "chain-1", e.Correlation)

			chain := []events.Envelope{made(), e}
			require.Empty(t, events.Open(events.Root{ID: "accepted-1"}, chain))
			require.Empty(t, r.seen)
		})
	}
	t.Run("two functions", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.React = broken(errService)
		first, _ := failure(t, r.process(t, delivery(t, made())))
		r.Name = events.FnCheckImages
		second, _ := failure(t, r.process(t, delivery(t, made())))
		require.NotEqual(t, first.ID, second.ID, "a transport would take the second for a duplicate")
	})
}

// A function without commands of its own answers the event. The event may have a job or not:
// any user can have made it up.
func TestFunctionWithoutCommands(t *testing.T) {
	t.Parallel()
	watch := func(t *testing.T) *rig {
		r := setup(t)
		r.Name, r.Types, r.Writes, r.Reacts = events.FnWatchJob, nil, false, []string{events.TypeJobAccepted}
		r.React = func(e events.Envelope) (events.Envelope, bool, error) {
			c, err := e.Implies(events.FnWatchJob, e.Data)
			return c, true, err
		}
		return r
	}
	root := events.Root{ID: "rebuild-1"}
	for name, change := range map[string]func(*rig, *queue.Delivery){
		"failed":    func(r *rig, _ *queue.Delivery) { r.handles(nil, queue.Failed(events.KindForbidden, "no")) },
		"permanent": func(r *rig, _ *queue.Delivery) { r.handles(nil, queue.Permanent(errService)) },
		"used up":   func(_ *rig, d *queue.Delivery) { d.Deliveries = 6 },
		"React": func(r *rig, _ *queue.Delivery) {
			r.React = func(events.Envelope) (events.Envelope, bool, error) {
				return events.Envelope{}, false, errors.New("x")
			}
		},
		"invalid": func(_ *rig, d *queue.Delivery) {
			d.Body = []byte(`{"specversion":"9","id":"accepted-1","source":"recompose/rebuild","type":"` + events.TypeJobAccepted + `"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := watch(t)
			d := delivery(t, acceptedEvent())
			change(r, &d)
			e, published := failure(t, r.process(t, d))
			require.Equal(t, events.EffectUnknown, published.Effect)
			require.Equal(t, "accepted-1", e.Causation)
			require.Len(t, events.Open(root, []events.Envelope{acceptedEvent()}), 1)
			require.Empty(t, events.Open(root, []events.Envelope{acceptedEvent(), e}), "it ends the chain")
		})
	}
	t.Run("publishes how the job ended", func(t *testing.T) {
		t.Parallel()
		r := watch(t)
		r.handles([]queue.Outcome{{Type: events.TypeJobCompleted, Data: events.JobCompleted{Function: events.FnRebuild, Outcome: events.Failed}}}, nil)
		got := r.process(t, delivery(t, acceptedEvent()))
		require.Empty(t, events.Open(root, append(got.Events, acceptedEvent())))
	})
	t.Run("a command is sent to it", func(t *testing.T) {
		t.Parallel()
		r := watch(t)
		_, published := failure(t, r.process(t, delivery(t, command())))
		require.Equal(t, `type: must be recompose.event.job.accepted.v1 for watchjob; got "recompose.command.rebuild.v1"`, published.Error.ErrorMsg)
		require.Equal(t, events.EffectNone, published.Effect)
	})
}

// Cancelling a worker is not a fault of the message, and nothing is published.
func TestCancelled(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.Handle = func(ctx context.Context, _ queue.Command) ([]queue.Outcome, error) { return accepted(), ctx.Err() }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := r.Process(ctx, r.Function, delivery(t, command()))
	require.Equal(t, queue.Result{Retry: context.Canceled}, got)
	require.NotContains(t, r.log.String(), "level=ERROR")
}

// The zero Processor works: it is silent and uses the clock.
func TestZeroProcessor(t *testing.T) {
	t.Parallel()
	r := setup(t)
	begin := time.Now()
	got := queue.Processor{}.Process(t.Context(), r.Function, delivery(t, command()))
	require.Len(t, got.Events, 1)
	require.False(t, got.Events[0].Time.Before(begin))
}
