package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

func long(t *testing.T, b *bench) {
	handling := 2*b.Lease() + b.Lease()/2
	if !b.Traits().Renews {
		handling = b.Lease() / 2
	}
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		select {
		case <-time.After(handling):
			return publish(ctx, cmd)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	f := function(fn, c)
	b.Start(t, f)
	b.Start(t, f)
	b.send(command("test", "c1"))
	receive(b, c.c, "the command")
	b.published(1)
	require.Empty(t, c.c, "it was delivered once")
}

func graceful(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		select {
		case <-b.open:
			return publish(ctx, cmd)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	})
	w := b.Start(t, function(fn, c))
	n := b.Concurrency()
	for i := range n + 2 {
		b.send(command("test", fmt.Sprintf("c%d", i)))
	}
	for range n {
		receive(b, c.c, "as many as a worker handles at a time")
	}
	stopped := make(chan error, 1)
	go func() { stopped <- w.Stop() }()
	b.release()
	require.NoError(t, receive(b, stopped, "the end of the worker"))
	done := len(c.c) + n // one more may have begun before the worker received the stop
	require.Len(t, b.Events(t), done, "the messages in flight are done")
	b.eventually("the others are kept", func() bool { return b.Pending(t) == n+2-done })

	d := newCalls(nil)
	b.Start(t, function(fn, d))
	b.published(n + 2)
}

func killed(t *testing.T, b *bench) {
	stuck := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		<-b.open
		return publish(ctx, cmd)
	})
	w := b.Start(t, function(fn, stuck))
	b.send(command("test", "c1"))
	receive(b, stuck.c, "the command at the first worker")
	w.Kill()
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	require.Equal(t, "c1", receive(b, c.c, "the command at the second worker").Envelope.ID)
	b.published(1)
	b.release()
	receive(b, w.Ended(), "the end of the killed worker")
	b.published(1)
}

func shared(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		<-b.open
		return publish(ctx, cmd)
	})
	f := function(fn, c)
	b.Start(t, f)
	b.Start(t, f)
	n := 2 * b.Concurrency()
	for i := range n {
		b.send(command("test", fmt.Sprintf("c%d", i)))
	}
	ids := map[string]bool{}
	for range n { // no handler has ended, so both workers are at their limit
		ids[receive(b, c.c, "all commands at once").Envelope.ID] = true
	}
	require.Len(t, ids, n)
	b.release()
	b.published(n)
}

func next(t *testing.T, b *bench) {
	parts := newCalls(nil)
	split := newCalls(func(context.Context, queue.Command) ([]queue.Outcome, error) {
		var outcomes []queue.Outcome
		for i := range 3 {
			outcomes = append(outcomes, queue.Outcome{
				Type: events.CommandType("rebuild"), To: "rebuild", About: []string{"part", fmt.Sprint(i)}, Data: map[string]int{"part": i},
			})
		}
		return append(outcomes, queue.Outcome{Type: events.TypeCommandSplit, About: []string{"split"}, Data: map[string]int{}}), nil
	})
	b.Start(t, function(fn, split), function("rebuild", parts))
	b.send(command("test", "c1"))
	ids := map[string]bool{}
	for range 3 {
		cmd := receive(b, parts.c, "a part")
		require.Equal(t, "c1", cmd.Envelope.Causation)
		require.Equal(t, "c1", cmd.Envelope.Correlation)
		require.Equal(t, events.CommandType("rebuild"), cmd.Envelope.Type)
		ids[cmd.Envelope.ID] = true
	}
	require.Len(t, ids, 3)
	b.published(4)
}

// ticking is a function that sends itself an internal command after every command of a sender.
func ticking(c *calls, sends func(queue.Command) []queue.Outcome) queue.Function {
	f := function(fn, c)
	f.Internal = []string{events.InternalType(fn, "tick")}
	c.do = func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		outcomes, err := publish(ctx, cmd)
		if cmd.Envelope.Type == events.CommandType(fn) {
			outcomes = append(outcomes, sends(cmd)...)
		}
		return outcomes, err
	}
	return f
}

func itself(t *testing.T, b *bench) {
	c := newCalls(nil)
	tick, until := events.InternalType(fn, "tick"), time.Now().Add(time.Hour).UTC()
	var returned atomic.Int64
	b.Start(t, ticking(c, func(queue.Command) []queue.Outcome {
		returned.Store(time.Now().UnixNano())
		return []queue.Outcome{
			{Type: tick, To: fn, About: []string{"later"}, After: b.Delay(), Data: map[string]int{"seq": 2}, Correlation: "other", Expiry: until},
			{Type: tick, To: fn, About: []string{"now"}, Data: map[string]int{"seq": 1}},
		}
	}))
	b.send(command("test", "c1"))
	require.Equal(t, "c1", receive(b, c.c, "the command").Envelope.ID)
	first, second := receive(b, c.c, "the tick"), receive(b, c.c, "the tick for later")
	require.GreaterOrEqual(t, time.Since(time.Unix(0, returned.Load())), b.Delay(), "not early")
	for i, got := range []queue.Command{first, second} {
		require.Equal(t, tick, got.Envelope.Type)
		require.Equal(t, "c1", got.Envelope.Causation)
		require.Equal(t, events.Source(fn), got.Envelope.Source)
		require.JSONEq(t, fmt.Sprintf(`{"seq":%d}`, i+1), string(got.Envelope.Data))
		require.Zero(t, got.Attempt)
		require.True(t, got.First)
	}
	require.Equal(t, "c1", first.Envelope.Correlation)
	require.True(t, first.Envelope.Expiry.IsZero())
	require.Equal(t, "other", second.Envelope.Correlation)
	require.True(t, until.Equal(second.Envelope.Expiry))
	require.NotEqual(t, first.Envelope.ID, second.Envelope.ID)
	b.published(3)
}

func laterRestart(t *testing.T, b *bench) {
	c := newCalls(nil)
	f := ticking(c, func(queue.Command) []queue.Outcome {
		return []queue.Outcome{{Type: events.InternalType(fn, "tick"), To: fn, After: b.Delay(), Data: 1}}
	})
	w := b.Start(t, f)
	b.send(command("test", "c1"))
	receive(b, c.c, "the command")
	require.NoError(t, w.Stop())
	b.Restart(t)
	b.Start(t, f)
	require.Equal(t, events.InternalType(fn, "tick"), receive(b, c.c, "the tick").Envelope.Type)
	b.published(2)
}

// reacting is a function that acts after every job.accepted.
func reacting(name string, c *calls) queue.Function {
	f := function(name, c)
	f.Reacts = []string{events.TypeJobAccepted}
	f.React = func(e events.Envelope) (events.Envelope, bool, error) {
		var a events.JobAccepted
		if err := json.Unmarshal(e.Data, &a); err != nil || a.JobID == "none" {
			return events.Envelope{}, false, err
		}
		cmd, err := e.Implies(name, map[string]string{"job_id": a.JobID})
		return cmd, true, err
	}
	return f
}

func accepts(context.Context, queue.Command) ([]queue.Outcome, error) {
	return []queue.Outcome{{Type: events.TypeJobAccepted, About: []string{"job.accepted"}, Data: events.JobAccepted{JobID: "j1"}}}, nil
}

func reactions(t *testing.T, b *bench) {
	one := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(b.Delay(), errors.New("a reaction is delayed like a command"))
		}
		return publish(ctx, cmd)
	})
	two := newCalls(nil)
	watch := reacting("watchjob", two)
	watch.Types = nil // it has no command type of its own
	b.Start(t, function(fn, newCalls(accepts)), reacting("rebuild", one), watch)
	b.send(command("test", "c1"))
	first, delayed, other := receive(b, one.c, "a reaction"), receive(b, one.c, "the delayed reaction"), receive(b, two.c, "the other reaction")
	require.Equal(t, first.Envelope, delayed.Envelope)
	require.True(t, first.IsReaction())
	require.Equal(t, "c1", first.Envelope.Correlation)
	require.Equal(t, first.Event.ID, first.Envelope.Causation)
	require.Equal(t, first.Event, other.Event)
	require.NotEqual(t, first.Envelope.ID, other.Envelope.ID)
	b.published(3)
}

func rollout(t *testing.T, b *bench) {
	ref := events.RolloutRef{Name: "nov", Plan: 1, Batch: 2, Attempt: 3}.String()
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(b.Delay(), nil)
		}
		outcomes, err := accepts(ctx, cmd)
		return append(outcomes, queue.Outcome{Type: events.CommandType("rebuild"), To: "rebuild", Data: map[string]int{}}), err
	})
	parts := newCalls(func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Failed(events.KindConflict, "busy")
	})
	reaction, all := newCalls(nil), newCalls(nil)
	only := reacting("watchjob", reaction)
	only.Types, only.RolloutOnly = nil, true
	b.Start(t, function(fn, c), function("rebuild", parts), only, reacting("checkimages", all))
	for _, e := range []events.Envelope{{ID: "in", Rollout: ref}, {ID: "out"}} {
		e.Source, e.Type, e.Data = "test", events.CommandType(fn), json.RawMessage(`{"desktop_id":"d1"}`)
		b.send(envelope(e))
	}
	b.send(Message{Headers: map[string]string{
		"ce-specversion": "1.0", "ce-id": "binary", "ce-source": "test", "ce-type": events.CommandType(fn), "ce-rollout": ref,
	}, Body: []byte(`{"desktop_id":"d1"}`)})
	of := func(correlation string) string { return map[string]string{"in": ref, "binary": ref}[correlation] }
	for range 2 * 3 {
		cmd := receive(b, c.c, "the commands, twice each")
		require.Equal(t, of(cmd.Envelope.ID), cmd.Envelope.Rollout)
	}
	for range 3 {
		for _, cmd := range []queue.Command{receive(b, parts.c, "a part of each"), receive(b, all.c, "a reaction to each")} {
			require.Equal(t, of(cmd.Envelope.Correlation), cmd.Envelope.Rollout)
		}
	}
	for range 2 {
		require.Equal(t, ref, receive(b, reaction.c, "a reaction to those of the rollout").Envelope.Rollout)
	}
	for _, e := range b.published(3*3 + 2) {
		require.Equal(t, of(e.Correlation), e.Rollout, e.Type)
	}
	require.Empty(t, reaction.c, "no reaction to the others")
}

func chainRestart(t *testing.T, b *bench) {
	if !b.Traits().Keeps {
		require.NoError(t, b.Start(t, reacting("rebuild", newCalls(nil))).Stop())
	}
	w := b.Start(t, function(fn, newCalls(accepts)))
	b.send(command("test", "c1"))
	b.eventually("the event", func() bool { return len(b.Events(t)) == 1 })
	require.NoError(t, w.Stop())
	b.Restart(t)
	c := newCalls(nil)
	b.Start(t, reacting("rebuild", c))
	require.Equal(t, "c1", receive(b, c.c, "the reaction").Envelope.Correlation)
	b.published(2)
}

func delayRestart(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(b.Delay(), nil)
		}
		return publish(ctx, cmd)
	})
	w := b.Start(t, function(fn, c))
	b.send(command("test", "c1"))
	receive(b, c.c, "the command")
	require.NoError(t, w.Stop())
	b.Restart(t)
	b.Start(t, function(fn, c))
	require.Equal(t, 1, receive(b, c.c, "the delayed command").Attempt)
	b.published(1)
}
