package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

func permanent(t *testing.T, b *bench) {
	c := newCalls(func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Permanent(errors.New("never\nwill do"))
	})
	b.Start(t, function(fn, c))
	m := command("test", "c1")
	m.Headers["X-Mine"] = "kept"
	b.send(m)
	failed := b.failed(b.published(1)[0])
	require.Equal(t, events.KindInternal, failed.Error.Kind)
	dead := b.DeadLetters(t)
	require.Len(t, dead, 1)
	require.Equal(t, failed.DeadLetter, dead[0].ID)
	require.Equal(t, queue.ClassPermanent, dead[0].Class)
	require.Contains(t, dead[0].Reason, "will do")
	require.Equal(t, string(m.Body), string(dead[0].Body))
	require.Equal(t, "kept", dead[0].Headers["X-Mine"])
	require.Len(t, c.c, 1, "it was handled once")
}

func storedFirst(t *testing.T, b *bench) {
	c := newCalls(nil)
	w := b.Start(t, function(fn, c))
	repair := b.BreakEvents(t)
	b.send(command("test", "c1"))
	receive(b, c.c, "the command")
	w.Kill()
	<-w.Ended()
	require.Empty(t, b.Events(t))
	repair()
	b.Start(t, function(fn, c))
	receive(b, c.c, "the redelivered command, because no event was stored")
	b.published(1)
}

func retried(t *testing.T, b *bench) {
	var returned atomic.Int64
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			returned.Store(time.Now().UnixNano())
			return nil, queue.RetryAfter(b.Delay(), errors.New("not yet"))
		}
		return publish(ctx, cmd)
	})
	b.Start(t, function(fn, c))
	b.send(command("test", "c1"))
	first := receive(b, c.c, "the command")
	delayed := receive(b, c.c, "the delayed command")
	require.GreaterOrEqual(t, time.Since(time.Unix(0, returned.Load())), b.Delay(), "not early")
	require.Equal(t, 1, delayed.Attempt)
	require.True(t, first.First)
	require.False(t, delayed.First)
	delayed.Attempt, delayed.First = 0, true
	require.Equal(t, first, delayed, "the same envelope")
	b.published(1)
}

func waiting(t *testing.T, b *bench) {
	const times = queue.MaxDeliveries + 2
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(-time.Hour, nil) // a negative delay means now
		}
		if cmd.Attempt < times {
			return nil, queue.RetryAfter(time.Duration(cmd.Attempt%2)*time.Millisecond, nil)
		}
		return publish(ctx, cmd)
	})
	b.Start(t, function(fn, c))
	b.send(command("test", "c1"))
	for i := range times + 1 {
		require.Equal(t, i, receive(b, c.c, "the next form").Attempt)
	}
	b.published(1)
	require.Empty(t, b.DeadLetters(t))
}

func twoSources(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(b.Delay(), nil)
		}
		return publish(ctx, cmd)
	})
	b.Start(t, function(fn, c))
	b.send(command("one", "c1"))
	b.send(command("two", "c1"))
	sources := map[string]int{}
	for range 4 {
		sources[receive(b, c.c, "both, twice").Envelope.Source]++
	}
	require.Equal(t, map[string]int{"one": 2, "two": 2}, sources)
	b.published(2)
}

func twoData(t *testing.T, b *bench) {
	c := newCalls(func(_ context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(b.Delay(), nil)
		}
		return []queue.Outcome{{
			Type: events.TypeDesktopDescribed, About: cmd.AboutData("done"), Data: events.DesktopDescribed{Command: cmd.Ref(), Desktop: []byte("{}")},
		}}, nil
	})
	b.Start(t, function(fn, c))
	reused := func(desktop string) events.Envelope {
		data, err := json.Marshal(events.GetDesktop{DesktopID: desktop})
		require.NoError(t, err)
		return events.Envelope{ID: "c1", Source: "test", Type: events.CommandType(fn), Data: data}
	}
	first, second := reused("d1"), reused("d2")
	b.send(envelope(first))
	b.send(envelope(second))
	data := map[string]int{}
	for range 4 {
		data[receive(b, c.c, "both, twice").Digest]++
	}
	require.Equal(t, map[string]int{first.Digest(): 2, second.Digest(): 2}, data)
	es := b.published(2)
	for _, e := range []events.Envelope{first, second} {
		root := events.Root{ID: e.ID, Source: e.Source, Digest: e.Digest()}
		require.Empty(t, events.Open(root, es))
		require.Len(t, events.Chain(root, es), 1)
	}
}

func panics(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Envelope.ID == "bad" {
			panic("injected")
		}
		return publish(ctx, cmd)
	})
	b.Start(t, function(fn, c))
	b.send(command("test", "bad"))
	b.send(command("test", "good"))
	es := b.published(2)
	bad := slices.IndexFunc(es, func(e events.Envelope) bool { return e.Type == events.TypeCommandFailed })
	require.NotEqual(t, -1, bad)
	require.Equal(t, "good", es[1-bad].Causation)
	failed := b.failed(es[bad])
	require.Equal(t, events.KindAttemptsUsedUp, failed.Error.Kind)
	require.Equal(t, "bad", failed.Command.ID)
	dead := b.DeadLetters(t)
	require.Len(t, dead, 1)
	require.Equal(t, failed.DeadLetter, dead[0].ID)
	require.Equal(t, queue.ClassUsedUp, dead[0].Class)
	require.Len(t, c.c, queue.MaxDeliveries+1, "five deliveries of the bad one, one of the good one")
}

func unexpected(t *testing.T, b *bench) {
	var n atomic.Int32
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if n.Add(1) < 3 {
			return nil, errors.New("unexpected")
		}
		return publish(ctx, cmd)
	})
	b.Start(t, function(fn, c))
	b.send(command("test", "c1"))
	for i := range 3 {
		got := receive(b, c.c, "a delivery")
		require.Zero(t, got.Attempt, "a redelivery is not a delayed form")
		require.Equal(t, i == 0, got.First)
	}
	b.published(1)
	require.Empty(t, b.DeadLetters(t))
}

func stops(t *testing.T, b *bench) {
	c := newCalls(func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Stop(errors.New("the key is wrong"))
	})
	w := b.Start(t, function(fn, c))
	b.send(command("test", "c1"))
	receive(b, c.c, "the command")
	receive(b, w.Ended(), "the end of the worker")
	err := w.Stop()
	stop, ok := errors.AsType[*queue.StopError](err)
	require.True(t, ok, "%v", err)
	require.EqualError(t, stop.Err, "the key is wrong")
	b.eventually("the command is kept once", func() bool { return b.Pending(t) == 1 })
	require.Empty(t, b.Events(t))
	require.Empty(t, b.DeadLetters(t))
}

func redriven(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		if cmd.Attempt == 0 {
			return nil, queue.RetryAfter(b.Delay(), nil)
		}
		return publish(ctx, cmd)
	})
	b.Start(t, function(fn, c))
	for i := range 2 {
		m := command("test", "c1")
		m.ID = fmt.Sprintf("sending %d", i)
		b.send(m)
		require.Equal(t, 0, receive(b, c.c, "the command").Attempt)
		require.Equal(t, 1, receive(b, c.c, "the delayed command").Attempt)
		b.idle()
	}
}

func hostile(t *testing.T, b *bench) {
	c := newCalls(func(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
		switch {
		case cmd.Envelope.ID == "victim":
			return publish(ctx, cmd)
		case cmd.Attempt == 0:
			outcomes, _ := publish(ctx, cmd)
			return outcomes, queue.RetryAfter(0, nil)
		case cmd.Attempt == 1:
			return nil, queue.RetryAfter(b.Delay(), nil)
		default:
			return nil, queue.Permanent(errors.New("injected"))
		}
	})
	f := function(fn, c)
	require.NoError(t, b.Start(t, f).Stop()) // creates the queue
	b.send(command("test", "victim"))
	taken := 0
	for i, h := range []map[string]string{
		{"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}, {"Nats-TTL": "never"}, {"Nats-Incr": "+1"},
		{"Nats-Schedule": "@at 2020-01-01T00:00:00Z", "Nats-Schedule-Target": "recompose.next.rebuild.v1"},
		{"Nats-Schedule-Target": "recompose.next.rebuild.v1", "Nats-Schedule-TTL": "1s"},
		{"Nats-Schedule-Next": "purge", "Nats-Scheduler": "recompose.timer.x"},
		{"Nats-Expected-Stream": "RECOMPOSE_COMMANDS"}, {"Nats-Expected-Stream": "OTHER"},
		{"Nats-Expected-Last-Msg-Id": "none"}, {"Nats-Expected-Last-Sequence": "0"}, {"Nats-Expected-Last-Subject-Sequence": "0"},
		{"Recompose-Attempt": "99"}, {"Recompose-Dead-Id": "x", "Recompose-Class": "y"}, {"Content-Type": "\x01;;"},
		{"Status": "409", "Description": "Consumer Deleted"}, {"AWSTraceHeader": "x"},
	} {
		m := command("test", fmt.Sprintf("hostile %d", i))
		maps.Copy(m.Headers, h)
		if b.Send(fn, m) == nil {
			taken++
		}
	}
	require.NotZero(t, taken)
	b.Start(t, f)
	es := b.published(1 + 2*taken) // each publishes an event and then ends in command.failed
	require.True(t, slices.ContainsFunc(es, func(e events.Envelope) bool { return e.Causation == "victim" }))
	require.Len(t, b.DeadLetters(t), taken)
	seen := map[string]int{}
	for range 1 + 3*taken {
		cmd := receive(b, c.c, "each command in all its forms")
		seen[fmt.Sprint(cmd.Envelope.ID, " ", cmd.Attempt)]++
	}
	require.Len(t, seen, 1+3*taken)
}
