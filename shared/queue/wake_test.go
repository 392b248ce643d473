package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

func TestWake(t *testing.T) {
	t.Parallel()
	tick := events.InternalType(events.FnRebuild, "tick")
	woken := func(wake func() ([]queue.Outcome, error)) *rig {
		r := setup(t)
		r.Function.Wake = func(_ context.Context, at time.Time) ([]queue.Outcome, error) {
			require.Equal(t, now, at)
			return wake()
		}
		return r
	}
	overdue := func() ([]queue.Outcome, error) {
		return []queue.Outcome{{Type: tick, To: events.FnRebuild, About: []string{"nov"}, Correlation: "chain", Data: 1}}, nil
	}
	r := woken(overdue)
	first := r.Processor.Wake(t.Context(), r.Function)
	require.Len(t, first.Next, 1)
	require.Equal(t, "chain", first.Next[0].Envelope.Correlation)
	require.Equal(t, tick, first.Next[0].Envelope.Type)
	require.Equal(t, first, r.Processor.Wake(t.Context(), r.Function), "the same ids in the same minute")
	r.Now = func() time.Time { return now.Add(time.Minute) }
	r.Function.Wake = func(context.Context, time.Time) ([]queue.Outcome, error) { return overdue() }
	require.NotEqual(t, first.Next[0].Envelope.ID, r.Processor.Wake(t.Context(), r.Function).Next[0].Envelope.ID)

	message := events.Envelope{ID: "w", Source: "eventbridge/wake", Type: queue.WakeType(events.FnRebuild), Data: []byte(`{}`)}
	r = woken(overdue)
	d := delivery(t, message)
	d.Bare.Type = ""
	d.Deliveries = 99 // it is never given up
	require.Len(t, r.process(t, d).Next, 1)
	require.Empty(t, r.seen, "the handler does not get it")
	d.Type = events.TypeRebuild
	_, failed := failure(t, r.process(t, d))
	require.Contains(t, failed.Error.ErrorMsg, "is sent by functions only")

	for name, wake := range map[string]func() ([]queue.Outcome, error){
		"error":      func() ([]queue.Outcome, error) { return nil, errors.New("the store does not answer") },
		"verdict":    func() ([]queue.Outcome, error) { return nil, queue.Permanent(errors.New("the store does not answer")) },
		"panic":      func() ([]queue.Outcome, error) { panic("the store does not answer") },
		"to another": func() ([]queue.Outcome, error) { return []queue.Outcome{{Type: tick, To: "x", Data: 1}}, nil },
		"not to be JSON": func() ([]queue.Outcome, error) {
			return []queue.Outcome{{Type: tick, To: events.FnRebuild, Data: func() {}}}, nil
		},
	} {
		r := woken(wake)
		require.Equal(t, queue.Result{}, r.Processor.Wake(t.Context(), r.Function), name)
		require.Equal(t, queue.Result{}, r.process(t, delivery(t, message)), name)
		require.Contains(t, r.log.String(), "the function could not be woken", name)
	}

	r = setup(t)
	_, failed = failure(t, r.process(t, delivery(t, message)))
	require.Contains(t, failed.Error.ErrorMsg, "type: must be", "a function without Wake has no such type")
}
