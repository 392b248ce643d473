//go:build e2e

package aws_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/embednats"
	"recompose/shared/emulator"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/once"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/testkit/chaostest"
	"recompose/shared/testkit/natstest"
	"recompose/shared/workspace"
)

// onNATS runs all functions in this process, with its own NATS server and emulator.
type onNATS struct {
	service *emulator.Server
	js      jetstream.JetStream
	events  []events.Envelope
	last    uint64 // sequence of the newest event in events
}

func startNATS(t *testing.T, desktops int) *onNATS {
	t.Helper()
	service, err := emulator.New(emulator.Options{Desktops: desktops, Speed: 300, SignatureWindow: chaosWindow, JournalSize: 1 << 20})
	require.NoError(t, err)
	web := httptest.NewServer(service)
	t.Cleanup(func() { web.Close(); require.NoError(t, service.Close()) })
	nc := natstest.Start(t, embednats.Options{}).Conn
	q, err := natsqueue.New(nc, natsqueue.Options{})
	require.NoError(t, err)
	require.NoError(t, q.Setup(t.Context(), functions.Routes()))
	store, err := natsledger.New(t.Context(), nc, natsledger.Options{})
	require.NoError(t, err)
	api, err := workspace.New(workspace.Options{
		Endpoint: web.URL, ProjectID: emulator.DefaultProjectID, ReadsPerMinute: -1, WritesPerMinute: -1, SignatureWindow: chaosWindow,
		Auth: workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)

	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	c := config.Default()
	c.SignatureWindow, c.Pace = chaosWindow, 20
	running.Go(func() {
		_ = q.Run(ctx, functions.New(c, api, once.Options{Store: store, Safety: safety.New(safety.Options{Operators: &safety.Operators{Store: store.Values()}}), Owner: "e2e"}))
	})
	t.Cleanup(func() { stop(); running.Wait() })
	return &onNATS{service: service, js: js}
}

// publish sends a command, as a sender does.
func (n *onNATS) publish(t *testing.T, m chaostest.Message) {
	t.Helper()
	body, err := json.Marshal(m.Envelope)
	require.NoError(t, err)
	_, err = n.js.PublishMsg(t.Context(), &nats.Msg{Subject: m.Envelope.Type, Data: body, Header: nats.Header{
		"Nats-Msg-Id": {m.ID}, "Content-Type": {events.ContentType}}})
	require.NoError(t, err)
}

// published returns all events so far.
func (n *onNATS) published(t *testing.T) []events.Envelope {
	t.Helper()
	s, err := n.js.Stream(t.Context(), "RECOMPOSE_EVENTS")
	require.NoError(t, err)
	for n.last < s.CachedInfo().State.LastSeq {
		m, err := s.GetMsg(t.Context(), n.last+1)
		require.NoError(t, err)
		e, err := events.Decode(nil, m.Data, events.Bare{})
		require.NoError(t, err)
		n.events, n.last = append(n.events, e), m.Sequence
	}
	return n.events
}

// settle waits until the chains have ended and no message is pending.
func (n *onNATS) settle(t *testing.T, most time.Duration, roots []string) {
	t.Helper()
	var open map[string][]events.Pending
	waiting := func() (all int) {
		for _, stream := range []string{"RECOMPOSE_COMMANDS", "RECOMPOSE_NEXT"} {
			s, err := n.js.Stream(t.Context(), stream)
			require.NoError(t, err)
			all += int(s.CachedInfo().State.Msgs)
		}
		return all
	}
	for deadline := time.Now().Add(most); time.Now().Before(deadline); {
		if open = chaostest.Open(n.published(t), roots); len(open) == 0 && waiting() == 0 {
			return
		}
		<-time.After(100 * time.Millisecond) // between two polls
	}
	require.FailNow(t, "the chains do not end", "open: %v; %d messages", open, waiting())
}
