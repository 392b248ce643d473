package nats_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
)

// TestWhoMayReadAndChangeTheService: a worker with RECOMPOSE_SETUP=verify records it, all users read it, setup changes
// it.
func TestWhoMayReadAndChangeTheService(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	read := func(user string) (service.Record, error) {
		nc := b.connect(t, user)
		s, err := natsstore.Open(t.Context(), nc, natsstore.Options{Direct: true})
		require.NoError(t, err)
		r, _, err := service.Read(t.Context(), s)
		require.NoError(t, nc.LastError(), user)
		return r, err
	}
	for _, user := range []string{"operator", "reader", "worker"} {
		_, err := read(user)
		require.ErrorIs(t, err, store.ErrNotFound, user)
	}
	worker := b.connect(t, "worker")
	values, err := natsstore.Open(t.Context(), worker, natsstore.Options{Verify: true})
	require.NoError(t, err)
	lab := events.Service{Kind: events.ServiceEmulator, Project: "p1"}
	real := events.Service{Kind: events.ServiceReal, Host: "w.example.org", Project: "p1"}
	claim := service.Claim{Store: values, Service: lab, By: "w1", Now: time.Now}
	require.NoError(t, claim.Check(t.Context()))
	for _, user := range []string{"operator", "reader", "worker", "setup"} {
		r, err := read(user)
		require.NoError(t, err, user)
		require.Equal(t, lab, r.Service, user)
	}

	setup := b.connect(t, "setup")
	theirs, err := natsstore.Open(t.Context(), setup, natsstore.Options{})
	require.NoError(t, err)
	require.NoError(t, (&safety.Operators{Store: theirs}).SetService(t.Context(), real))
	r, err := service.Accept(t.Context(), theirs, real, "ada", time.Now())
	require.NoError(t, err)
	e, err := r.Event()
	require.NoError(t, err)
	require.NoError(t, b.queue(t, setup).Publish(t.Context(), e))
	require.ErrorContains(t, claim.Check(t.Context()), real.Name())
	r, err = read("reader")
	require.NoError(t, err)
	require.Equal(t, real, r.Service)
	require.NoError(t, b.queue(t, b.connect(t, "reader")).Read(t.Context(), natsqueue.Since{}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
		require.Equal(t, events.TypeServiceAccepted, e.Type)
		return false, nil
	}))
	for name, nc := range map[string]*nats.Conn{"worker": worker, "setup": setup} {
		require.NoError(t, nc.LastError(), name)
	}
}

// A client names the reply subject of a request, and the server does not check whether the client may publish there. So
// a client with any right to request from JetStream can store an answer in the place of a ledger record. Such a record
// must stop its command, not allow a second call.
func TestAnAnswerDoesNotFreeACommand(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	book, err := natsledger.New(t.Context(), b.connect(t, "worker"), natsledger.Options{Options: natsstore.Options{Verify: true}})
	require.NoError(t, err)
	first, err := book.Put(t.Context(), "RECORD", ledger.Record{Digest: "d", JobID: "j1"}, 0)
	require.NoError(t, err)
	frozenBy := b.operators(t, b.connect(t, "operator"), natsstore.Options{Direct: true})
	require.NoError(t, frozenBy.SetFreeze(t.Context(), safety.Freeze{Reason: "storm"}))

	own := service.Claim{Store: book.Values(), Service: events.Service{Kind: events.ServiceEmulator, Project: "p1"}, Now: time.Now}
	require.NoError(t, own.Check(t.Context()))

	reader := b.connect(t, "reader")
	for _, key := range []string{"RECORD", "freeze", service.Key} {
		require.NoError(t, reader.PublishRequest("$JS.API.STREAM.INFO.RECOMPOSE_EVENTS", "$KV.RECOMPOSE_LEDGER."+key, nil))
	}
	require.NoError(t, reader.Flush())
	require.Eventually(t, func() bool {
		_, rev, err := book.Get(t.Context(), "RECORD")
		return err != nil || rev > first
	}, 10*time.Second, time.Millisecond)
	_, _, err = book.Get(t.Context(), "RECORD")
	require.ErrorIs(t, err, store.ErrDamaged)
	require.NotErrorIs(t, err, store.ErrNotFound)
	frozen, err := (&safety.Operators{Store: book.Values()}).Frozen(t.Context())
	require.True(t, err != nil || frozen != nil, "a freeze holds, whatever is stored over it")
	require.Eventually(t, func() bool { return errors.Is(own.Check(t.Context()), service.ErrDamaged) }, 10*time.Second, time.Millisecond,
		"nor does it make a service of another")

	admin, err := natsstore.Open(t.Context(), b.connect(t, "setup"), natsstore.Options{})
	require.NoError(t, err)
	direct := admin.DirectSubject(service.Key)
	_, err = service.Accept(t.Context(), admin, own.Service, "ada", time.Now())
	require.NoError(t, err)
	require.NoError(t, own.Check(t.Context()), "it is stored anew")

	// The answer to a direct read has the headers of what was read: of a deleted key, the mark of its deletion.
	js, err := jetstream.New(b.connect(t, "worker"))
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "RECOMPOSE_LEDGER")
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), service.Key))
	second, err := book.Put(t.Context(), "SECOND", ledger.Record{Digest: "d", JobID: "j2"}, 0)
	require.NoError(t, err)
	require.NoError(t, reader.PublishRequest(direct, "$KV.RECOMPOSE_LEDGER.SECOND", nil))
	require.NoError(t, reader.Flush())
	require.Eventually(t, func() bool {
		_, rev, err := book.Get(t.Context(), "SECOND")
		return err != nil || rev > second
	}, 10*time.Second, time.Millisecond)
	_, _, err = book.Get(t.Context(), "SECOND")
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, reader.PublishRequest(direct, "$KV.RECOMPOSE_LEDGER."+service.Key, nil))
	require.NoError(t, reader.Flush())
	require.Eventually(t, func() bool {
		_, _, err := service.Read(t.Context(), book.Values())
		return errors.Is(err, service.ErrDamaged)
	}, 10*time.Second, time.Millisecond)
	_, err = service.Accept(t.Context(), admin, own.Service, "ada", time.Now())
	require.NoError(t, err)
	require.NoError(t, own.Check(t.Context()), "it is stored anew")
	require.NoError(t, reader.LastError())
}
