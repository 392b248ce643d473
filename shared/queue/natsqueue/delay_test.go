package natsqueue_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// later delays each command once and then ends it.
func later(d time.Duration, got chan<- queue.Command) queue.Function {
	return queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		got <- c
		if c.Attempt == 0 {
			return nil, queue.RetryAfter(d, nil)
		}
		return nil, nil
	}}
}

// TestTimers checks how exact timers are: never early, and late by no more than the server's granularity of 250 ms and
// what a busy machine adds.
func TestTimers(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	for _, d := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, 1700 * time.Millisecond} {
		got := make(chan queue.Command, 2)
		stop := running(t, tr.queue(t, nil), later(d, got))
		_, err := tr.q.Send(t.Context(), get(fmt.Sprint("c", d)))
		require.NoError(t, err)
		take(t, got)
		begin := time.Now()
		take(t, got)
		t.Logf("delay %v, delivered %v after it", d, time.Since(begin)-d)
		require.NoError(t, stop())
	}
}

// TestTimersGoByTheClockOfTheServer has a worker whose own clock is wrong: its timers fire on time, neither at once
// nor hours late, and it computes the correct age of a message.
func TestTimersGoByTheClockOfTheServer(t *testing.T) {
	t.Parallel()
	for name, skew := range map[string]time.Duration{"behind": -3 * time.Hour, "ahead": 3 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTransport(t, "")
			got := make(chan queue.Command, 2)
			q := tr.queue(t, func(o *natsqueue.Options) { o.Now = func() time.Time { return time.Now().Add(skew) } })
			running(t, q, later(700*time.Millisecond, got))
			_, err := tr.q.Send(t.Context(), get("c1"))
			require.NoError(t, err)
			take(t, got)
			begin := time.Now()
			take(t, got)
			require.GreaterOrEqual(t, time.Since(begin), 600*time.Millisecond)
			require.WithinDuration(t, time.Now(), q.Now(), 5*time.Second)
			require.InDelta(t, -skew, q.Skew(), float64(5*time.Second))
		})
	}
}

func TestTheClockOfTheServerIsKnownAfterSetup(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	q := tr.queue(t, func(o *natsqueue.Options) { o.Now = func() time.Time { return time.Now().Add(-3 * time.Hour) } })
	require.WithinDuration(t, time.Now().Add(-3*time.Hour), q.Now(), time.Minute, "nothing is known yet")
	require.NoError(t, q.Setup(t.Context(), []queue.Function{later(0, nil)}))
	require.WithinDuration(t, time.Now(), q.Now(), time.Minute)
}

func TestTimerAsStored(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	got := make(chan queue.Command, 2)
	running(t, tr.queue(t, nil), later(time.Hour, got))
	begin := time.Now()
	c := get("c1")
	_, err := tr.q.Send(t.Context(), c)
	require.NoError(t, err)
	take(t, got)
	form := events.Derive(c.Identity(), "form", c.Digest())
	subject := "test.recompose.timer." + events.Derive(form, "getdesktop", "1")
	var m *jetstream.RawStreamMsg
	require.Eventually(t, func() bool {
		s, err := tr.js.Stream(t.Context(), "test_RECOMPOSE_NEXT")
		require.NoError(t, err)
		m, err = s.GetLastMsgForSubject(t.Context(), subject)
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	at, ok := strings.CutPrefix(m.Header.Get("Nats-Schedule"), "@at ")
	require.True(t, ok)
	due, err := time.Parse(time.RFC3339Nano, at)
	require.NoError(t, err)
	require.Equal(t, time.UTC, due.Location())
	require.True(t, strings.HasSuffix(at, "Z"))
	require.WithinRange(t, due, begin.Add(time.Hour), time.Now().Add(time.Hour))
	require.Equal(t, "test.recompose.next.getdesktop.v1", m.Header.Get("Nats-Schedule-Target"))
	require.Equal(t, form+"/1", m.Header.Get("Nats-Msg-Id"))
	require.Equal(t, "1", m.Header.Get(queue.AttemptHeader))
	require.Equal(t, events.ContentType, m.Header.Get("Content-Type"))
}

// TestLateTimersAreMoved has two workers that treat a timer as late long before its time.
func TestLateTimersAreMoved(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	got := make(chan queue.Command, 10)
	f := later(30*time.Minute, got)
	first := running(t, tr.queue(t, nil), f)
	_, err := tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	take(t, got)
	require.Eventually(t, func() bool { return tr.subjects(t, "recompose.timer.>") == 1 }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, first())

	// Other messages stay: a timer for a later hour, one without a time, one for another subject.
	foreign := func(subject string, h nats.Header) {
		_, err := tr.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: h})
		require.NoError(t, err)
	}
	far := time.Now().Add(48 * time.Hour).UTC().Format(time.RFC3339Nano)
	foreign("recompose.timer.far", nats.Header{"Nats-Schedule": {"@at " + far}, "Nats-Schedule-Target": {"recompose.next.getdesktop.v1"}})
	foreign("recompose.timer.none", nil)

	for range 2 {
		running(t, tr.queue(t, func(o *natsqueue.Options) { o.Late, o.SweepEvery = -time.Hour, 20*time.Millisecond }), f)
	}
	c := take(t, got)
	require.Equal(t, 1, c.Attempt)
	require.Equal(t, "c1", c.Envelope.ID)
	require.Eventually(t, func() bool { return tr.subjects(t, "recompose.timer.>") == 2 }, 20*time.Second, 10*time.Millisecond)
	require.Eventually(t, func() bool { return tr.subjects(t, "recompose.next.>") == 0 }, 20*time.Second, 10*time.Millisecond)
	require.Empty(t, got, "it came once")
}

func (tr *transport) subjects(t *testing.T, filter string) int {
	s, err := tr.js.Stream(t.Context(), tr.stream("RECOMPOSE_NEXT"))
	require.NoError(t, err)
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter(filter))
	require.NoError(t, err)
	return len(info.State.Subjects)
}
