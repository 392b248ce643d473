package natsstore_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/natstest"
	"recompose/shared/testkit/storetest"
)

type place struct {
	*natstest.NATS
	direct bool
}

func setup(t *testing.T) *place {
	t.Helper()
	return &place{NATS: natstest.Start(t, embednats.Options{})}
}

func (p *place) Restart(t *testing.T) { p.Stop(t); p.Start(t) }

func (p *place) Open(t *testing.T) store.Store {
	return p.store(t, natsstore.Options{Deployment: "test"})
}

func (p *place) store(t *testing.T, o natsstore.Options) *natsstore.Store {
	t.Helper()
	s, err := natsstore.Open(t.Context(), p.Conn, o)
	require.NoError(t, err)
	if p.direct {
		o.Direct = true
		s, err = natsstore.Open(t.Context(), p.Conn, o)
		require.NoError(t, err)
	}
	return s
}

// Foreign makes the server store answers as values, as any client with the right to the requests can.
func (p *place) Foreign(t *testing.T, key string) []func() {
	s := p.store(t, natsstore.Options{Deployment: "test"})
	at := s.Subject(key)
	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	stored := func(do func() error) func() {
		last := func() uint64 { // of this key alone: a request may also store a value under another one
			m, err := natsstore.Read(t.Context(), p.Conn, s.Stream(), map[string]any{"last_by_subj": at})
			if !errors.Is(err, store.ErrNotFound) {
				require.NoError(t, err)
			}
			return m.Seq
		}
		return func() {
			before := last()
			require.NoError(t, do())
			require.Eventually(t, func() bool { return last() > before }, 10*time.Second, time.Millisecond)
		}
	}
	put := func(m *nats.Msg) func() {
		m.Subject = at
		return stored(func() error { return p.Conn.PublishMsg(m) })
	}
	request := func(subject, body string) func() {
		return stored(func() error { return p.Conn.PublishRequest(subject, at, []byte(body)) })
	}
	_, err = s.Put(t.Context(), "freeze", []byte(`{"reason":"storm"}`), 0)
	require.NoError(t, err)
	framed, err := natsstore.Read(t.Context(), p.Conn, s.Stream(), map[string]any{"last_by_subj": s.Subject("freeze")})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), s.Subject("earlier"), []byte(`{"reason":"storm"}`)) // as earlier versions did
	require.NoError(t, err)
	changed := nats.Header{}
	maps.Copy(changed, framed.Header)
	changed.Del(jetstream.ExpectedLastSubjSeqHeader)
	return []func(){
		put(&nats.Msg{}), put(&nats.Msg{Data: []byte("{")}), put(&nats.Msg{Data: []byte(`"text"`)}), put(&nats.Msg{Data: []byte("null")}),
		put(&nats.Msg{Data: []byte(`{"reason":"calm"}`), Header: changed}),  // with the digest of another value
		put(&nats.Msg{Data: []byte(`{"reason":"storm"}`), Header: changed}), // with the digest of another key
		request("$JS.API.INFO", ""),
		request("$JS.API.STREAM.INFO."+s.Stream(), ""),
		request("$JS.API.STREAM.MSG.GET."+s.Stream(), `{"last_by_subj":"`+s.Subject("freeze")+`"}`),
		request(s.DirectSubject("earlier"), ""),
		request(s.DirectSubject("none"), ""),
		request(s.Subject("other"), "{}"), // the acknowledgement of a put
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place { return setup(t) })
}

func TestConformanceOfDirectReads(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place {
		p := setup(t)
		p.direct = true
		return p
	})
}

func TestDirectWithoutABucket(t *testing.T) {
	t.Parallel()
	p := setup(t)
	s, err := natsstore.Open(t.Context(), p.Conn, natsstore.Options{Direct: true})
	require.NoError(t, err)
	_, _, err = s.Get(t.Context(), "freeze")
	require.ErrorIs(t, err, natsstore.ErrNoBucket)
	require.NotErrorIs(t, err, store.ErrNotFound, "it is unknown whether there is a value")
	_, err = s.Put(t.Context(), "freeze", []byte("{}"), 0)
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse)
}

func TestAPurgedKeyIsDeleted(t *testing.T) {
	t.Parallel()
	p := setup(t)
	s := p.store(t, natsstore.Options{})
	_, err := s.Put(t.Context(), "control/test", []byte("{}"), 0)
	require.NoError(t, err)
	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "RECOMPOSE_LEDGER")
	require.NoError(t, err)
	require.NoError(t, kv.Purge(t.Context(), "control/test"))
	_, _, err = s.Get(t.Context(), "control/test")
	deleted := new(natsstore.DeletedError)
	require.ErrorAs(t, err, &deleted)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = s.Update(t.Context(), "control/test", []byte("{}"), 0)
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = s.Update(t.Context(), "control/test", []byte("{}"), deleted.Mark)
	require.NoError(t, err)

	require.NoError(t, js.DeleteKeyValue(t.Context(), "RECOMPOSE_LEDGER"))
	_, _, err = s.Get(t.Context(), "control/test")
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound, "without the bucket it is unknown whether there is a value")
}

func TestDeploymentsAreSeparate(t *testing.T) {
	t.Parallel()
	p := setup(t)
	_, err := p.store(t, natsstore.Options{Deployment: "test"}).Put(t.Context(), "freeze", []byte("{}"), 0)
	require.NoError(t, err)
	_, _, err = p.store(t, natsstore.Options{}).Get(t.Context(), "freeze")
	require.ErrorIs(t, err, store.ErrNotFound)
}

func TestABucketThatOperatorsCannotReadIsRepaired(t *testing.T) {
	t.Parallel()
	p := setup(t)
	s := p.store(t, natsstore.Options{})
	_, err := s.Put(t.Context(), "freeze", []byte("{}"), 0)
	require.NoError(t, err)
	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), s.Stream())
	require.NoError(t, err)
	c := stream.CachedInfo().Config
	c.AllowDirect = false
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	direct, err := natsstore.Open(t.Context(), p.Conn, natsstore.Options{Direct: true})
	require.NoError(t, err)
	_, _, err = direct.Get(t.Context(), "freeze")
	require.ErrorIs(t, err, natsstore.ErrNoBucket, "a freeze that cannot be read is not absent")
	_, err = natsstore.Open(t.Context(), p.Conn, natsstore.Options{Verify: true})
	require.ErrorContains(t, err, "allow_direct")
	p.store(t, natsstore.Options{})
	_, _, err = direct.Get(t.Context(), "freeze")
	require.NoError(t, err)
}

// The records of rollouts have their own bucket, so that they are not among the keys that are counted for the ledger.
func TestRolloutsHaveTheirOwnBucket(t *testing.T) {
	t.Parallel()
	p := setup(t)
	ledger := p.store(t, natsstore.Options{Deployment: "test"})
	_, err := natsstore.Open(t.Context(), p.Conn, natsstore.Options{Deployment: "test", Bucket: natsstore.Rollouts, Verify: true})
	require.ErrorContains(t, err, "bucket test_RECOMPOSE_ROLLOUTS: it does not exist: run recompose setup")
	rollouts := p.store(t, natsstore.Options{Deployment: "test", Bucket: natsstore.Rollouts})
	const key = "rollouts/win11/batch/0"
	_, err = rollouts.Put(t.Context(), key, []byte("{}"), 0)
	require.NoError(t, err)
	_, _, err = ledger.Get(t.Context(), key)
	require.ErrorIs(t, err, store.ErrNotFound)
	info, err := ledger.Info(t.Context(), ">")
	require.NoError(t, err)
	require.Zero(t, info.State.Msgs)

	js, err := jetstream.New(p.Conn)
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), rollouts.Stream())
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.MaxAge = time.Hour
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	_, err = natsstore.Open(t.Context(), p.Conn, natsstore.Options{Deployment: "test", Bucket: natsstore.Rollouts, Verify: true})
	require.ErrorContains(t, err, "max_age (ttl) is 1h0m0s, must be none")
	p.store(t, natsstore.Options{Deployment: "test", Bucket: natsstore.Rollouts})
	require.NoError(t, func() error {
		_, err := natsstore.Open(t.Context(), p.Conn, natsstore.Options{Deployment: "test", Bucket: natsstore.Rollouts, Verify: true})
		return err
	}())
}
