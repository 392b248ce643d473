package natsqueue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// echo is a function that ends each command in an event and sends the command to a channel.
func echo(got chan<- queue.Command) queue.Function {
	return queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		got <- c
		return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"done"}, Data: map[string]int{}}}, nil
	}}
}

func get(id string) events.Envelope {
	return events.Envelope{ID: id, Source: "test", Type: events.TypeGetDesktop, Data: json.RawMessage(`{"desktop_id":"d1"}`)}
}

// lines is a log for concurrent writers.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func running(t *testing.T, q *natsqueue.Queue, fns ...queue.Function) (stop func() error) {
	require.NoError(t, q.Setup(t.Context(), fns))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx, fns) }()
	stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = stop() })
	return stop
}

func TestWorkerOutlivesTheServer(t *testing.T) {
	t.Parallel()
	tr := newServed(t)
	got := make(chan queue.Command, 10)
	log := &lines{}
	q := tr.queue(t, func(o *natsqueue.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	stop := running(t, q, echo(got))
	for _, id := range []string{"c1", "c2", "c3"} {
		_, err := tr.q.Send(t.Context(), get(id))
		require.NoError(t, err)
		require.Equal(t, id, take(t, got).Envelope.ID)
		tr.restart(t)
	}
	require.NoError(t, stop())
	require.LessOrEqual(t, log.count("the queue does not work"), 3, "one line an outage")
}

func TestWorkerOutlivesDeletedStreams(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	log := &lines{}
	q := tr.queue(t, func(o *natsqueue.Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	running(t, q, echo(got))
	send := func(id string) {
		require.Eventually(t, func() bool {
			_, err := tr.q.Send(t.Context(), get(id))
			return err == nil
		}, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, id, take(t, got).Envelope.ID)
		require.Eventually(t, func() bool { return tr.Pending(t) == 0 }, 20*time.Second, 10*time.Millisecond)
	}
	send("c1")
	require.NoError(t, tr.js.DeleteConsumer(t.Context(), "RECOMPOSE_COMMANDS", "getdesktop"))
	send("c2")
	require.NoError(t, tr.js.DeleteStream(t.Context(), "RECOMPOSE_COMMANDS"))
	send("c3")
	for _, s := range []string{"RECOMPOSE_COMMANDS", "RECOMPOSE_NEXT", "RECOMPOSE_EVENTS", "RECOMPOSE_DEAD"} {
		require.NoError(t, tr.js.DeleteStream(t.Context(), s))
	}
	send("c4")
	require.LessOrEqual(t, log.count("the queue does not work"), 3, "one line an outage")
}

func TestVerifyingWorkerWaitsForStreams(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	require.NoError(t, tr.q.Setup(t.Context(), []queue.Function{echo(got)}))
	log := &lines{}
	q := tr.queue(t, func(o *natsqueue.Options) { o.Verify, o.Log = true, slog.New(slog.NewTextHandler(log, nil)) })
	running(t, q, echo(got))
	require.NoError(t, tr.js.DeleteStream(t.Context(), "RECOMPOSE_COMMANDS"))
	require.Eventually(t, func() bool { return log.count("the queue does not work") == 1 }, 20*time.Second, 10*time.Millisecond)
	_, err := tr.js.Stream(t.Context(), "RECOMPOSE_COMMANDS")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound, "it makes nothing")
	require.NoError(t, tr.q.Setup(t.Context(), []queue.Function{echo(got)}))
	require.Eventually(t, func() bool { return log.count("the queue resumed") == 1 }, 20*time.Second, 10*time.Millisecond)
	_, err = tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	take(t, got)
}

func TestStoringIsRetriedUntilItSucceeds(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	handled := make(chan natsqueue.Handled, 10)
	q := tr.queue(t, func(o *natsqueue.Options) { o.Observe = func(h natsqueue.Handled) { handled <- h } })
	running(t, q, echo(got))
	repair := tr.BreakEvents(t)
	_, err := tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	take(t, got)
	require.NotZero(t, tr.Pending(t))
	repair()
	h := take(t, handled)
	require.Equal(t, "ack", h.Verdict)
	require.Equal(t, 1, h.Delivery, "an outage spends no delivery")
	require.Len(t, tr.Events(t), 1)
	require.Empty(t, got)
}

// TestALongOutageSpendsNoDelivery is about a full storage: after five deliveries a job would be reported as lost.
func TestALongOutageSpendsNoDelivery(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	handled := make(chan natsqueue.Handled, 10)
	q := tr.queue(t, func(o *natsqueue.Options) { o.Observe = func(h natsqueue.Handled) { handled <- h } })
	q.StoreFor(time.Millisecond)
	running(t, q, echo(got))
	s, err := tr.js.Stream(t.Context(), "RECOMPOSE_EVENTS")
	require.NoError(t, err)
	full := s.CachedInfo().Config
	full.Discard, full.MaxBytes = jetstream.DiscardNew, 1
	_, err = tr.js.UpdateStream(t.Context(), full)
	require.NoError(t, err)
	tries, err := tr.nc.SubscribeSync("recompose.event.>")
	require.NoError(t, err)
	_, err = tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	var second time.Time
	for i := range 4 {
		_, err := tries.NextMsg(20 * time.Second)
		require.NoError(t, err)
		if i == 1 {
			second = time.Now()
		}
	}
	require.True(t, q.Status().LastRound.After(second), "the worker counts as alive")
	_, err = tr.js.UpdateStream(t.Context(), s.CachedInfo().Config)
	require.NoError(t, err)
	h := take(t, handled)
	require.Equal(t, "ack", h.Verdict)
	require.Equal(t, 1, h.Delivery)
	require.Len(t, got, 1)
	require.Len(t, tr.Events(t), 1)
}

func TestDeletedEventStreamIsCreatedAnew(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	running(t, tr.queue(t, nil), echo(got)) // which takes no events itself
	require.NoError(t, tr.js.DeleteStream(t.Context(), "RECOMPOSE_EVENTS"))
	_, err := tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s, err := tr.js.Stream(t.Context(), "RECOMPOSE_COMMANDS")
		return err == nil && s.CachedInfo().State.Msgs == 0
	}, 20*time.Second, 10*time.Millisecond)
	require.Len(t, tr.Events(t), 1)
	require.Len(t, got, 1)
}

func TestClosedConnectionEndsRun(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	nc, err := tr.srv.Connect()
	require.NoError(t, err)
	q, err := natsqueue.New(nc, tr.options())
	require.NoError(t, err)
	fns := []queue.Function{echo(nil)}
	require.NoError(t, q.Setup(t.Context(), fns))
	ended := make(chan error, 1)
	go func() { ended <- q.Run(context.Background(), fns) }()
	nc.Close()
	require.Error(t, take(t, ended))
}

func TestGraceIsShort(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	f := queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		got <- c
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	stop := running(t, tr.queue(t, func(o *natsqueue.Options) { o.Grace = 50 * time.Millisecond }), f)
	_, err := tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	take(t, got)
	require.NoError(t, stop())
	require.Eventually(t, func() bool { return tr.Pending(t) == 1 }, 20*time.Second, 10*time.Millisecond)
	running(t, tr.queue(t, nil), echo(got))
	take(t, got) // at once: it was returned
}

// TestNoLeaks is not parallel: it counts goroutines.
func TestNoLeaks(t *testing.T) { //nolint:paralleltest // see above
	tr := newTransport(t, "")
	got := make(chan queue.Command, 100)
	fns := []queue.Function{echo(got)}
	round := func(id string) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- tr.q.Run(ctx, fns) }()
		_, err := tr.q.Send(t.Context(), get(id))
		require.NoError(t, err)
		take(t, got)
		cancel()
		require.NoError(t, take(t, ended))
	}
	require.NoError(t, tr.q.Setup(t.Context(), fns))
	round("warm")
	before, subs := runtime.NumGoroutine(), tr.nc.NumSubscriptions()
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		round(id)
	}
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 && tr.nc.NumSubscriptions() <= subs },
		20*time.Second, 10*time.Millisecond, "goroutines or subscriptions stay behind")
}
