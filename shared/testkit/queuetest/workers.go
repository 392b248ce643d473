package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
