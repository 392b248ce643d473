package natsqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/queue/natsqueue"
)

func (tr *transport) event(t *testing.T, id string) {
	body, err := json.Marshal(events.Envelope{ID: id, Source: "test", Type: events.TypeJobAccepted, Data: json.RawMessage(`{}`)})
	require.NoError(t, err)
	_, err = tr.js.Publish(t.Context(), tr.subject(events.TypeJobAccepted), body)
	require.NoError(t, err)
}

func read(t *testing.T, q *natsqueue.Queue, from natsqueue.Since) []string {
	var ids []string
	require.NoError(t, q.Read(t.Context(), from, false, func(e events.Envelope, stored time.Time, seq uint64) (bool, error) {
		require.WithinDuration(t, time.Now(), stored, time.Minute)
		ids = append(ids, fmt.Sprint(seq, e.ID))
		return true, nil
	}))
	return ids
}

func TestRead(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	err := tr.q.Read(t.Context(), natsqueue.Since{}, false, nil)
	require.ErrorIs(t, err, natsqueue.ErrNotSetUp)
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	require.Empty(t, read(t, tr.q, natsqueue.Since{}))

	tr.event(t, "a")
	_, err = tr.js.Publish(t.Context(), "recompose.event.no.event", []byte("?"))
	require.NoError(t, err)
	tr.event(t, "b")
	between := time.Now()
	tr.event(t, "c")
	tr.event(t, "d")
	require.Equal(t, []string{"1a", "3b", "4c", "5d"}, read(t, tr.q, natsqueue.Since{}))
	require.Equal(t, []string{"3b", "4c", "5d"}, read(t, tr.q, natsqueue.Since{Seq: 2}))
	require.Empty(t, read(t, tr.q, natsqueue.Since{Seq: 6}))
	require.Equal(t, []string{"4c", "5d"}, read(t, tr.q, natsqueue.Since{Time: between}))
	require.Empty(t, read(t, tr.q, natsqueue.Since{Time: time.Now()}))

	s, err := tr.js.Stream(t.Context(), "RECOMPOSE_EVENTS")
	require.NoError(t, err)
	require.NoError(t, s.DeleteMsg(t.Context(), 5))
	require.Equal(t, []string{"1a", "3b", "4c"}, read(t, tr.q, natsqueue.Since{}), "the last one is gone")

	stop := errors.New("enough")
	err = tr.q.Read(t.Context(), natsqueue.Since{}, true, func(events.Envelope, time.Time, uint64) (bool, error) { return true, stop })
	require.ErrorIs(t, err, stop)
	n := 0
	require.NoError(t, tr.q.Read(t.Context(), natsqueue.Since{}, true, func(events.Envelope, time.Time, uint64) (bool, error) {
		n++
		return n < 2, nil
	}))
	require.Equal(t, 2, n)
}

func TestReadFollowsThroughOutages(t *testing.T) {
	t.Parallel()
	tr := newServed(t)
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	ctx, cancel := context.WithCancel(t.Context())
	got, done := make(chan string, 10), make(chan error, 1)
	go func() {
		done <- tr.q.Read(ctx, natsqueue.Since{}, true, func(e events.Envelope, _ time.Time, seq uint64) (bool, error) {
			got <- fmt.Sprint(seq, e.ID)
			return true, nil
		})
	}()
	tr.event(t, "a")
	require.Equal(t, "1a", take(t, got))
	tr.restart(t)
	tr.event(t, "b")
	require.Equal(t, "2b", take(t, got))
	cancel()
	require.ErrorIs(t, take(t, done), context.Canceled)
	require.Empty(t, got)
}

// follow reads events until ctx ends.
func (tr *transport) follow(ctx context.Context, from natsqueue.Since) (got chan string, done chan error) {
	got, done = make(chan string, 10), make(chan error, 1)
	go func() {
		done <- tr.q.Read(ctx, from, true, func(e events.Envelope, _ time.Time, seq uint64) (bool, error) {
			got <- fmt.Sprint(seq, e.ID)
			return true, nil
		})
	}()
	return got, done
}

func TestReadFollowsAStreamThatWasCreatedAnew(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	ctx, cancel := context.WithCancel(t.Context())
	got, done := tr.follow(ctx, natsqueue.Since{})
	tr.event(t, "a")
	tr.event(t, "b")
	require.Equal(t, "1a", take(t, got))
	require.Equal(t, "2b", take(t, got))
	require.NoError(t, tr.js.DeleteStream(t.Context(), "RECOMPOSE_EVENTS"))
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	tr.event(t, "c")
	require.Equal(t, "1c", take(t, got))
	cancel()
	require.ErrorIs(t, take(t, done), context.Canceled)
	require.Empty(t, got)
}

// TestReadFollowsAStreamThatWasRestored begins behind the end of the stream, which was restored from an older copy.
func TestReadFollowsAStreamThatWasRestored(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	tr.event(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	got, done := tr.follow(ctx, natsqueue.Since{Seq: 5})
	require.Equal(t, "1a", take(t, got))
	tr.event(t, "b")
	require.Equal(t, "2b", take(t, got))
	cancel()
	require.ErrorIs(t, take(t, done), context.Canceled)
}

func TestReadEndsWithItsContextWhileTheStreamIsGone(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	require.NoError(t, tr.q.Setup(t.Context(), table()))
	ctx, cancel := context.WithCancel(t.Context())
	got, done := tr.follow(ctx, natsqueue.Since{})
	tr.event(t, "a")
	require.Equal(t, "1a", take(t, got))
	resets, err := tr.nc.SubscribeSync("$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.>")
	require.NoError(t, err)
	require.NoError(t, tr.js.DeleteStream(t.Context(), "RECOMPOSE_EVENTS"))
	_, err = resets.NextMsg(20 * time.Second)
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, take(t, done), context.Canceled)
}

func take[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(20 * time.Second):
		require.FailNow(t, "nothing came")
		panic("not reached")
	}
}

// newServed is a transport whose clients connect by TCP, so that they outlive the server.
func newServed(t *testing.T) *served {
	s := &served{transport: &transport{dir: t.TempDir()}, listen: "127.0.0.1:0"}
	s.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var err error
	s.nc, err = natsqueue.Connect(ctx, natsqueue.ConnectOptions{URL: s.srv.ClientURL(), Log: testLog()})
	require.NoError(t, err)
	s.use(t, s.nc)
	t.Cleanup(func() { s.close(t) })
	return s
}

type served struct {
	*transport
	listen string
}

func (s *served) start(t *testing.T) {
	var err error
	s.srv, err = embednats.Start(embednats.Options{StoreDir: s.dir, Listen: s.listen})
	require.NoError(t, err)
	s.listen = s.srv.ClientURL()[len("nats://"):]
}

// restart stops the server and starts it on the same port, and waits for the client to be back.
func (s *served) restart(t *testing.T) {
	before := s.nc.Stats().Reconnects
	require.NoError(t, s.srv.Close())
	s.start(t)
	require.Eventually(t, func() bool { return s.nc.Stats().Reconnects > before }, 20*time.Second, 10*time.Millisecond)
}
