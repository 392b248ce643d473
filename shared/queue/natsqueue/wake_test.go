package natsqueue_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// Two workers wake a function many times in a minute, and its command is stored once for each minute.
func TestWorkersWakeAFunctionTogetherOnceAMinute(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	tick := events.InternalType("getdesktop", "tick")
	got, woken := make(chan queue.Command, 100), atomic.Int32{}
	f := queue.Function{
		Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Internal: []string{tick},
		Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			got <- c
			return nil, nil
		},
		Wake: func(context.Context, time.Time) ([]queue.Outcome, error) {
			woken.Add(1)
			return []queue.Outcome{{Type: tick, To: "getdesktop", About: []string{"overdue"}, Correlation: "chain", Data: 1}}, nil
		},
	}
	for range 2 {
		q := tr.queue(t, func(o *natsqueue.Options) { o.SweepEvery = 20 * time.Millisecond })
		require.NoError(t, q.Setup(t.Context(), []queue.Function{f}))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- q.Run(ctx, []queue.Function{f}) }()
		t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	}
	c := <-got
	require.Equal(t, tick, c.Envelope.Type)
	require.Equal(t, "chain", c.Envelope.Correlation)
	require.Eventually(t, func() bool { return woken.Load() >= 20 }, 20*time.Second, 10*time.Millisecond)
	ids := map[string]int{c.Envelope.ID: 1}
	for len(got) > 0 {
		ids[(<-got).Envelope.ID]++
	}
	require.LessOrEqual(t, len(ids), 3, "one a minute")
	for id, n := range ids {
		require.Equal(t, 1, n, id)
	}
}
