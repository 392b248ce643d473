package natsqueue_test

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/testkit/queuetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Transport { return newTransport(t, "") })
}

// TestConformanceOfADeployment runs the same under other names.
func TestConformanceOfADeployment(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Transport { return newTransport(t, "test-2") })
}

// transport is JetStream in this process, without a port.
type transport struct {
	dir, deployment string
	srv             *embednats.Server
	nc              *nats.Conn
	js              jetstream.JetStream
	q               *natsqueue.Queue
}

func newTransport(t *testing.T, deployment string) *transport {
	tr := &transport{dir: t.TempDir(), deployment: deployment}
	tr.open(t)
	t.Cleanup(func() { tr.close(t) })
	return tr
}

func testLog() *slog.Logger {
	if os.Getenv("RECOMPOSE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (tr *transport) open(t *testing.T) {
	var err error
	tr.srv, err = embednats.Start(embednats.Options{StoreDir: tr.dir})
	require.NoError(t, err)
	nc, err := tr.srv.Connect()
	require.NoError(t, err)
	tr.use(t, nc)
}

func (tr *transport) use(t *testing.T, nc *nats.Conn) {
	var err error
	tr.nc = nc
	tr.js, err = jetstream.New(tr.nc)
	require.NoError(t, err)
	tr.q, err = natsqueue.New(tr.nc, tr.options())
	require.NoError(t, err)
}

func (tr *transport) close(t *testing.T) {
	tr.nc.Close()
	require.NoError(t, tr.srv.Close())
}

func (tr *transport) options() natsqueue.Options {
	return natsqueue.Options{
		Deployment: tr.deployment, Concurrency: tr.Concurrency(), AckWait: tr.Lease(), Redeliver: []time.Duration{10 * time.Millisecond},
		Grace: 10 * time.Second, Log: testLog(),
	}
}

func (tr *transport) Lease() time.Duration { return time.Second }
func (tr *transport) Delay() time.Duration { return 300 * time.Millisecond }
func (tr *transport) Concurrency() int     { return 4 }

func (tr *transport) Traits() queuetest.Traits {
	return queuetest.Traits{Renews: true, Keeps: true, Bytes: true}
}

func (tr *transport) stream(name string) string {
	if tr.deployment != "" {
		name = tr.deployment + "_" + name
	}
	return name
}

func (tr *transport) subject(name string) string {
	if tr.deployment != "" {
		name = tr.deployment + "." + name
	}
	return name
}

func (tr *transport) Start(t *testing.T, fns ...queue.Function) queuetest.Worker {
	nc, err := tr.srv.Connect()
	require.NoError(t, err)
	q, err := natsqueue.New(nc, tr.options())
	require.NoError(t, err)
	require.NoError(t, q.Setup(t.Context(), fns))
	ctx, cancel := context.WithCancel(context.Background())
	w := &worker{nc: nc, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		defer nc.Close()
		w.err = q.Run(ctx, fns)
	}()
	t.Cleanup(func() { cancel(); <-w.ended })
	return w
}

type worker struct {
	nc     *nats.Conn
	cancel func()
	ended  chan struct{}
	err    error
}

func (w *worker) Stop() error {
	w.cancel()
	<-w.ended
	return w.err
}

func (w *worker) Kill() {
	w.nc.Close()
	w.cancel()
}

func (w *worker) Ended() <-chan struct{} { return w.ended }

func (tr *transport) Send(function string, m queuetest.Message) error {
	msg := &nats.Msg{Subject: tr.subject(cmp.Or(m.Type, events.CommandType(function))), Data: m.Body, Header: nats.Header{}}
	for k, v := range m.Headers {
		msg.Header.Set(k, v)
	}
	if m.ID != "" {
		msg.Header.Set("Nats-Msg-Id", m.ID)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := tr.js.PublishMsg(ctx, msg)
	return err
}

func (tr *transport) Events(t *testing.T) []events.Envelope {
	var es []events.Envelope
	require.NoError(t, tr.q.Read(t.Context(), natsqueue.Since{}, false, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
		es = append(es, e)
		return true, nil
	}))
	return es
}

func (tr *transport) DeadLetters(t *testing.T) []queuetest.DeadLetter {
	s, err := tr.js.Stream(t.Context(), tr.stream("RECOMPOSE_DEAD"))
	require.NoError(t, err)
	var dead []queuetest.DeadLetter
	for seq := uint64(1); seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		d := queuetest.DeadLetter{
			ID: m.Header.Get(natsqueue.HeaderDeadID), Function: m.Header.Get(natsqueue.HeaderFunction), Class: m.Header.Get(natsqueue.HeaderClass),
			Reason: m.Header.Get(natsqueue.HeaderReason), Body: m.Data, Headers: map[string]string{},
		}
		require.Equal(t, tr.subject("recompose.dead."+d.Function), m.Subject)
		for k, v := range m.Header {
			if name, ok := strings.CutPrefix(k, natsqueue.HeaderOriginal); ok {
				d.Headers[name] = v[0]
			}
		}
		dead = append(dead, d)
	}
	return dead
}

func (tr *transport) Pending(t *testing.T) int {
	n := 0
	for _, name := range []string{"RECOMPOSE_COMMANDS", "RECOMPOSE_NEXT"} {
		s, err := tr.js.Stream(t.Context(), tr.stream(name))
		require.NoError(t, err)
		n += int(s.CachedInfo().State.Msgs)
	}
	s, err := tr.js.Stream(t.Context(), tr.stream("RECOMPOSE_EVENTS"))
	require.NoError(t, err)
	for c := range s.ListConsumers(t.Context()).Info() {
		if c.Config.Durable != "" {
			n += int(c.NumPending) + c.NumAckPending
		}
	}
	return n
}

func (tr *transport) BreakEvents(t *testing.T) func() {
	s, err := tr.js.Stream(t.Context(), tr.stream("RECOMPOSE_EVENTS"))
	require.NoError(t, err)
	config := s.CachedInfo().Config
	broken := config
	broken.MaxMsgSize = 1
	_, err = tr.js.UpdateStream(t.Context(), broken)
	require.NoError(t, err)
	return sync.OnceFunc(func() {
		_, err = tr.js.UpdateStream(t.Context(), config)
		require.NoError(t, err)
	})
}

func (tr *transport) Restart(t *testing.T) {
	tr.close(t)
	tr.open(t)
}
