package natsqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

func TestStatusOfWorkersAndEntrance(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	_, err := tr.q.Entrance(t.Context(), events.FnGetDesktop)
	require.Error(t, err)
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	workers, err := tr.q.Workers(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, workers)

	send := func(id string) uint64 {
		r, err := tr.q.Send(t.Context(), events.Envelope{ID: id, Source: "s", Type: events.TypeGetDesktop, Data: json.RawMessage(`{}`)})
		require.NoError(t, err)
		return r.Seq
	}
	number := send("a")
	require.Eventually(t, func() bool { // the server counts a little later
		e, err := tr.q.Entrance(t.Context(), events.FnGetDesktop)
		return err == nil && e == natsqueue.Entrance{Waiting: 1}
	}, 20*time.Second, time.Millisecond)

	until := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	q := tr.queue(t, func(o *natsqueue.Options) {
		o.Worker, o.Key, o.CheckEvery = "w1", &key{check: func(context.Context) error { return errors.New("no") }}, time.Hour
		o.Status = func(_ context.Context, s *natsqueue.WorkerStatus) {
			s.Throttled = []natsqueue.WorkerThrottled{{Calls: "reads", PerMinute: 20, Until: until}}
		}
	})
	fns := table()[:1]
	fns[0].Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Stop(errors.New("refused"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx, fns) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	require.Eventually(t, func() bool {
		workers, err = tr.q.Workers(t.Context(), "")
		return err == nil && len(workers) == 1 && workers[0].Stopped != nil
	}, 20*time.Second, time.Millisecond)
	require.Equal(t, "w1", workers[0].Worker)
	require.Equal(t, []string{events.FnGetDesktop}, workers[0].Functions, "those that it runs, not all that were set up")
	require.Equal(t, "refused", workers[0].Stopped.Reason)
	require.WithinDuration(t, time.Now(), workers[0].Stopped.Since, time.Minute)
	require.Equal(t, []natsqueue.WorkerThrottled{{Calls: "reads", PerMinute: 20, Until: until}}, workers[0].Throttled)
	e, err := tr.q.Entrance(t.Context(), events.FnGetDesktop)
	require.NoError(t, err)
	require.Equal(t, number, e.Taken)
}

// A worker keeps why the messages of a chain wait, until their time comes, and reports it in answer to a request that
// names the chain.
func TestWhyAMessageWaits(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	q := tr.queue(t, func(o *natsqueue.Options) { o.Worker = "w1" })
	fns := table()[:1]
	fns[0].Handle = func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Envelope.ID == "as-usual" {
			return nil, queue.RetryAfter(time.Hour, nil)
		}
		return nil, queue.RetryAfter(time.Hour, errors.New("the desktop is busy"+strings.Repeat("é", 300)))
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx, fns) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	data := json.RawMessage(`{"desktop_id":"d-1"}`)
	for _, id := range []string{"as-usual", "busy"} {
		_, err := tr.q.Send(t.Context(), events.Envelope{ID: id, Source: "s", Type: events.TypeGetDesktop, Correlation: "chain", Data: data})
		require.NoError(t, err)
	}
	var waiting []natsqueue.WorkerWait
	require.Eventually(t, func() bool {
		workers, err := tr.q.Workers(t.Context(), "chain")
		if err == nil && len(workers) == 1 {
			waiting = workers[0].Waiting
		}
		return len(waiting) > 0
	}, 20*time.Second, time.Millisecond)
	require.Len(t, waiting, 1, "waiting in the normal course has no reason")
	require.Equal(t, "busy", waiting[0].Message)
	require.Equal(t, events.CommandRef{
		Type: events.TypeGetDesktop, ID: "busy", Source: "s", Digest: events.Digest(events.GetDesktop{DesktopID: "d-1"}),
	}, waiting[0].Command)
	require.Equal(t, "the desktop is busy"+strings.Repeat("é", 190)+"…", waiting[0].Reason, "cut between characters")
	require.WithinDuration(t, time.Now().Add(time.Hour), waiting[0].Next, time.Minute)
	for _, other := range []string{"", "another"} {
		workers, err := tr.q.Workers(t.Context(), other)
		require.NoError(t, err)
		require.Empty(t, workers[0].Waiting)
	}
}

// A status is answered beside the handlers: a panic there must not end the worker.
func TestAPanicOfAStatusDoesNotEndTheWorker(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	var odd atomic.Bool
	odd.Store(true)
	q := tr.queue(t, func(o *natsqueue.Options) {
		o.Worker = "w1"
		o.Status = func(context.Context, *natsqueue.WorkerStatus) {
			if odd.Swap(false) {
				panic("odd value")
			}
		}
	})
	defer q.Answer(t.Context(), table())()
	require.Eventually(t, func() bool {
		workers, err := tr.q.Workers(t.Context(), "")
		return err == nil && len(workers) == 1
	}, 20*time.Second, time.Millisecond)
	require.False(t, odd.Load())
}
