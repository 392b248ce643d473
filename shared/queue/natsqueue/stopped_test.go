package natsqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// key is a queue.Key whose Check calls check after Refuse.
type key struct {
	check   func(ctx context.Context) error
	refused atomic.Bool
}

func (k *key) Refuse(context.Context, error) { k.refused.Store(true) }

func (k *key) Check(ctx context.Context) error {
	if !k.refused.Load() {
		return nil
	}
	return k.check(ctx)
}

func TestAStoppedWorkerChecksItsKeyAndResumes(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	log := &lines{}
	refused := errors.New("the service refuses our credentials")
	var probes atomic.Int64
	var ill atomic.Bool
	ill.Store(true)
	q := tr.queue(t, func(o *natsqueue.Options) {
		o.Log, o.Concurrency, o.CheckEvery = slog.New(slog.NewTextHandler(log, nil)), 1, 10*time.Millisecond
		o.Key = &key{check: func(ctx context.Context) error {
			_, bounded := ctx.Deadline()
			require.True(t, bounded)
			switch probes.Add(1) {
			case 1:
				panic("a probe that breaks")
			default:
				if ill.Load() {
					return refused
				}
				return nil
			}
		}}
	})
	got := make(chan queue.Command, 10)
	f := echo(got)
	handle := f.Handle
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if ill.Load() {
			return nil, queue.Stop(refused)
		}
		return handle(ctx, c)
	}
	stop := running(t, q, f)
	require.NoError(t, q.Status().Stopped)
	_, err := q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return q.Status().Stopped != nil }, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, q.Status().Stopped, refused)
	require.False(t, q.Status().Since.IsZero())
	_, err = q.Send(t.Context(), get("c2"))
	require.NoError(t, err)
	many := probes.Load() + 20
	require.Eventually(t, func() bool { return probes.Load() > many }, 10*time.Second, time.Millisecond)
	d, err := q.Depth(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, depthOf(d, "RECOMPOSE_COMMANDS").Pending, "it is not even taken")
	require.EqualValues(t, 1, d.Delayed, "the one that stopped it is delayed")
	require.Equal(t, 1, log.count("takes no more messages"))
	require.Zero(t, log.count("the worker resumed"))

	ill.Store(false)
	require.Equal(t, "c2", take(t, got).Envelope.ID)
	require.NoError(t, q.Status().Stopped)
	require.Equal(t, 1, log.count("the worker resumed"))
	require.NoError(t, stop())
	require.False(t, q.Status().Running)
}

// A person must be able to pause what a function does, also while the key is refused.
func TestAFunctionWithoutCallsWorksWhileTheWorkerIsStopped(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	q := tr.queue(t, func(o *natsqueue.Options) {
		o.Key = &key{check: func(context.Context) error { return errors.New("no") }}
	})
	refused := echo(nil)
	refused.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Stop(errors.New("refused"))
	}
	got := make(chan queue.Command, 10)
	without := echo(got)
	without.Name, without.Types, without.NoCalls = "rebuild", []string{events.TypeRebuild}, true
	running(t, q, refused, without)
	_, err := q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return q.Status().Stopped != nil }, 10*time.Second, time.Millisecond)
	for _, id := range []string{"r1", "r2"} { // one may have been requested before the stop
		e := get(id)
		e.Type = events.TypeRebuild
		_, err = q.Send(t.Context(), e)
		require.NoError(t, err)
		require.Equal(t, id, take(t, got).Envelope.ID)
	}
	require.Error(t, q.Status().Stopped)
}

func TestAStoppedWorkerCanBeEnded(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	q := tr.queue(t, func(o *natsqueue.Options) {
		o.Key = &key{check: func(context.Context) error { return errors.New("no") }}
	})
	f := echo(nil)
	f.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Stop(errors.New("refused"))
	}
	stop := running(t, q, f)
	_, err := q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return q.Status().Stopped != nil }, 10*time.Second, time.Millisecond)
	require.NoError(t, stop())
}

// Messages that a stopped worker has requested go to a healthy one at once.
func TestAStoppedWorkerWithdrawsItsRequests(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	refused := errors.New("the service refuses our credentials")
	ill := tr.queue(t, func(o *natsqueue.Options) {
		o.Concurrency, o.CheckEvery = 16, time.Hour
		o.Key = &key{check: func(context.Context) error { return refused }}
	})
	f := echo(nil)
	f.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) { return nil, queue.Stop(refused) }
	running(t, ill, f)
	_, err := ill.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return ill.Status().Stopped != nil }, 10*time.Second, time.Millisecond)

	got := make(chan queue.Command, 10)
	running(t, tr.queue(t, nil), echo(got))
	for i := range 10 {
		id := fmt.Sprint("next ", i)
		_, err = ill.Send(t.Context(), get(id))
		require.NoError(t, err)
		c := take(t, got)
		require.Equal(t, id, c.Envelope.ID)
		require.False(t, c.IsDelayed())
	}
}

// A message is handled only with a key that may be used: the service may have refused it to another worker.
func TestAMessageIsNotHandledWithARefusedKey(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	refused := errors.New("another worker was refused")
	answers := make(chan error, 10)
	k := &key{check: func(context.Context) error {
		select {
		case err := <-answers:
			return err
		default:
			return refused
		}
	}}
	k.refused.Store(true)
	q := tr.queue(t, func(o *natsqueue.Options) { o.Concurrency, o.CheckEvery, o.Key = 1, time.Hour, k })
	got := make(chan queue.Command, 10)
	stop := running(t, q, echo(got))
	answers <- nil
	_, err := q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	require.Equal(t, "c1", take(t, got).Envelope.ID)

	answers <- queue.RetryAfter(10*time.Millisecond, errors.New("a probe is running"))
	answers <- nil
	_, err = q.Send(t.Context(), get("c2"))
	require.NoError(t, err)
	c2 := take(t, got)
	require.Equal(t, "c2", c2.Envelope.ID)
	require.Equal(t, [2]int{0, 1}, [2]int{c2.Attempt, c2.Held}, "it was delayed, which is no attempt, and nothing has failed")
	require.Zero(t, c2.Failures)
	require.NoError(t, q.Status().Stopped)

	_, err = q.Send(t.Context(), get("c3"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return q.Status().Stopped != nil }, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, q.Status().Stopped, refused)
	require.Eventually(t, func() bool { // the server may not have handled the acknowledgement of c2
		d, err := q.Depth(t.Context())
		require.NoError(t, err)
		return d.Delayed == 1
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, got)
	require.NoError(t, stop())
}

func depthOf(d natsqueue.Depth, stream string) natsqueue.ConsumerDepth {
	for _, c := range d.Consumers {
		if c.Stream == stream {
			return c
		}
	}
	return natsqueue.ConsumerDepth{}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	q := tr.queue(t, nil)
	_, err := q.Depth(t.Context())
	require.ErrorIs(t, err, natsqueue.ErrNotSetUp)
	require.ErrorIs(t, q.Check(t.Context()), natsqueue.ErrNotSetUp)

	begun, finish := make(chan queue.Command, 10), make(chan struct{})
	f := queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Envelope.ID == "delayed" {
			return nil, queue.RetryAfter(time.Hour, nil)
		}
		begun <- c
		<-finish
		return nil, nil
	}}
	stop := running(t, tr.queue(t, func(o *natsqueue.Options) { o.Concurrency, o.AckWait = 1, time.Hour }), f)
	require.NoError(t, q.Setup(t.Context(), []queue.Function{f}))
	require.NoError(t, q.Check(t.Context()))
	d, err := q.Depth(t.Context())
	require.NoError(t, err)
	require.Len(t, d.Consumers, 2)
	require.Zero(t, depthOf(d, "test_RECOMPOSE_COMMANDS").Oldest)
	require.Len(t, d.Streams, 4)

	for _, id := range []string{"delayed", "c1", "c2", "c3"} {
		_, err = q.Send(t.Context(), get(id))
		require.NoError(t, err)
	}
	require.Equal(t, "c1", take(t, begun).Envelope.ID)
	d, err = q.Depth(t.Context())
	require.NoError(t, err)
	c := depthOf(d, "test_RECOMPOSE_COMMANDS")
	require.Equal(t, "test_getdesktop", c.Consumer)
	require.EqualValues(t, 2, c.Pending)
	require.EqualValues(t, 1, c.AckPending)
	require.Positive(t, c.Oldest)
	require.Less(t, c.Oldest, time.Minute)
	require.EqualValues(t, 1, d.Delayed)
	close(finish)
	require.NoError(t, stop())
}

func TestStatus(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	q := tr.queue(t, nil)
	require.Equal(t, natsqueue.Status{Connected: true}, q.Status())
	got := make(chan queue.Command, 1)
	begin := time.Now()
	stop := running(t, q, echo(got))
	_, err := q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	take(t, got)
	s := q.Status()
	require.True(t, s.Running)
	require.False(t, s.LastRound.Before(begin))
	require.NoError(t, stop())
	require.Zero(t, q.Status().LastRound)
	tr.nc.Close()
	require.False(t, q.Status().Connected)
	require.ErrorContains(t, q.Check(t.Context()), "no connection")
}

func TestObservedResults(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	handled := make(chan natsqueue.Handled, 10)
	q := tr.queue(t, func(o *natsqueue.Options) { o.Observe = func(h natsqueue.Handled) { handled <- h } })
	f := echo(make(chan queue.Command, 10))
	handle := f.Handle
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if c.Envelope.ID == "dead" {
			return nil, queue.Permanent(errors.New("no"))
		}
		return handle(ctx, c)
	}
	running(t, q, f)
	_, err := q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	h := take(t, handled)
	require.Equal(t, "ack", h.Verdict)
	require.Len(t, h.Events, 1)
	require.Equal(t, events.TypeDesktopDescribed, h.Events[0].Type)
	require.Empty(t, h.Dead)
	_, err = q.Send(t.Context(), get("dead"))
	require.NoError(t, err)
	h = take(t, handled)
	require.Equal(t, "dead", h.Verdict)
	require.Equal(t, queue.ClassPermanent, h.Dead)
	require.Equal(t, events.TypeCommandFailed, h.Events[0].Type)
}
