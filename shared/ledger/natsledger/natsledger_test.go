package natsledger_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/ledgertest"
	"recompose/shared/testkit/natstest"
)

var key = events.Identity("natsledger", "1")

func TestConformance(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Stores { return setup(t) })
}

type place struct {
	*natstest.NATS
}

func setup(t *testing.T) *place {
	t.Helper()
	return &place{NATS: natstest.Start(t, embednats.Options{})}
}

// events creates the event stream, which keeps the epoch.
func (p *place) events(t *testing.T) jetstream.JetStream {
	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	if _, err = js.Stream(t.Context(), "test_RECOMPOSE_EVENTS"); err != nil {
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "test_RECOMPOSE_EVENTS", Subjects: []string{"test.recompose.event.>"}})
	}
	require.NoError(t, err)
	return js
}

func (p *place) Restart(t *testing.T) { p.Stop(t); p.Start(t) }

func (p *place) Open(t *testing.T) ledger.Store {
	s, err := natsledger.New(t.Context(), p.Conn, natsledger.Options{Options: natsstore.Options{Deployment: "test"}})
	require.NoError(t, err)
	return s
}

func TestBucket(t *testing.T) {
	t.Parallel()
	p := setup(t)
	_, err := natsledger.New(t.Context(), p.Conn, natsledger.Options{Options: natsstore.Options{Verify: true}})
	require.ErrorContains(t, err, "run recompose setup")
	_, err = natsledger.New(t.Context(), p.Conn, natsledger.Options{Options: natsstore.Options{Deployment: "No.Dots"}})
	require.ErrorContains(t, err, "a-z")

	var made []error
	done := make(chan error)
	for range 8 {
		go func() {
			_, err := natsledger.New(t.Context(), p.Conn, natsledger.Options{})
			done <- err
		}()
	}
	for range 8 {
		made = append(made, <-done)
	}
	for _, err := range made {
		require.NoError(t, err, "many workers at once")
	}
	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), "KV_RECOMPOSE_LEDGER")
	require.NoError(t, err)
	c := s.CachedInfo().Config
	require.Equal(t, jetstream.FileStorage, c.Storage)
	require.Equal(t, int64(1), c.MaxMsgsPerSubject)
	require.Zero(t, c.MaxAge)

	c.MaxAge = time.Hour
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	for _, o := range []natsstore.Options{{Verify: true}, {}} {
		l, err := natsledger.New(t.Context(), p.Conn, natsledger.Options{Options: o})
		require.NoError(t, err, "a worker starts, and reports the limit")
		err = l.Fit(t.Context(), "")
		require.ErrorIs(t, err, ledger.ErrLost)
		require.ErrorContains(t, err, "max_age (ttl) is 1h0m0s, must be none, or at least 9600h0m0s (400 days); recompose setup repairs it")
	}
	l, err := natsledger.New(t.Context(), p.Conn, natsledger.Options{Options: natsstore.Options{Mend: true}})
	require.NoError(t, err)
	require.NoError(t, l.Fit(t.Context(), ""), "it was changed")
	c.MaxAge = 400 * 24 * time.Hour
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	for _, o := range []natsstore.Options{{Verify: true}, {}} {
		l, err = natsledger.New(t.Context(), p.Conn, natsledger.Options{Options: o})
		require.NoError(t, err)
		require.NoError(t, l.Fit(t.Context(), ""), "long enough for records")
	}
	s, err = js.Stream(t.Context(), "KV_RECOMPOSE_LEDGER")
	require.NoError(t, err)
	require.Zero(t, s.CachedInfo().Config.MaxAge, "the time that a bucket keeps records is never shortened")
}

func TestDeletedRecord(t *testing.T) {
	t.Parallel()
	p := setup(t)
	js := p.events(t)
	s := p.Open(t)
	kv, err := js.KeyValue(t.Context(), "test_RECOMPOSE_LEDGER")
	require.NoError(t, err)
	for _, remove := range []func(context.Context, string) error{
		func(ctx context.Context, k string) error { return kv.Delete(ctx, k) },
		func(ctx context.Context, k string) error { return kv.Purge(ctx, k) },
	} {
		_, err = s.Put(t.Context(), key, ledger.Record{Owner: "a"}, 0)
		require.NoError(t, err)
		require.NoError(t, s.Fit(t.Context(), ""))
		require.NoError(t, remove(t.Context(), key))
		_, _, err = s.Get(t.Context(), key)
		require.ErrorIs(t, err, ledger.ErrLost)
		require.NotErrorIs(t, err, store.ErrNotFound, "otherwise its command would be executed once more")
		require.ErrorIs(t, s.Fit(t.Context(), ""), ledger.ErrLost)
		require.NoError(t, s.(*natsledger.Store).Accept(t.Context()))
		_, _, err = s.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrNotFound, "accepted")
	}
	_, err = s.Put(t.Context(), key, ledger.Record{Owner: "b"}, 0)
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "damaged", []byte("{"))
	require.NoError(t, err)
	_, _, err = s.Get(t.Context(), "damaged")
	require.ErrorIs(t, err, store.ErrDamaged)
	require.NotErrorIs(t, err, store.ErrNotFound)
}

// TestReadsTheLeader shows that a read goes to the leader's interface, which direct reads of replicas do not use.
func TestReadsTheLeader(t *testing.T) {
	t.Parallel()
	p := setup(t)
	s := p.Open(t)
	_, err := s.Put(t.Context(), key, ledger.Record{Owner: "a"}, 0)
	require.NoError(t, err)
	leader, err := p.Conn.SubscribeSync("$JS.API.STREAM.MSG.GET.KV_test_RECOMPOSE_LEDGER")
	require.NoError(t, err)
	direct, err := p.Conn.SubscribeSync("$JS.API.DIRECT.GET.>")
	require.NoError(t, err)
	require.NoError(t, p.Conn.Flush())
	_, _, err = s.Get(t.Context(), key)
	require.NoError(t, err)
	_, err = leader.NextMsg(5 * time.Second)
	require.NoError(t, err)
	n, _, err := direct.Pending()
	require.NoError(t, err)
	require.Zero(t, n)
}

// TestNoAnswer shows that a missing answer is neither a conflict nor an absence.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	p := setup(t)
	s := p.Open(t)
	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	require.NoError(t, js.DeleteKeyValue(t.Context(), "test_RECOMPOSE_LEDGER"))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, _, err = s.Get(ctx, key)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound)
	_, err = s.Put(ctx, key, ledger.Record{}, 0)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
}
