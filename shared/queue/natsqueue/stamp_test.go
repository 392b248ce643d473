package natsqueue_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// Every message that a function publishes has the headers that describe the ledger. A delayed form has the epoch of
// its message; a sender's message has none, even if its headers have one.
func TestMessagesCarryTheLedger(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	var epoch atomic.Value
	epoch.Store("e1")
	q := tr.queue(t, func(o *natsqueue.Options) {
		o.Stamp = func() map[string]string {
			return map[string]string{queue.EpochHeader: epoch.Load().(string), "Recompose-Ledger-Sequence": "7"}
		}
	})
	sent, next, event := make(chan queue.Command, 2), make(chan queue.Command, 2), make(chan queue.Command, 4)
	running(t, q, queue.Function{
		Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			sent <- c
			return []queue.Outcome{{Type: events.TypeDesktopDescribed, Data: 1}, {Type: events.TypeRebuild, To: "rebuild", Data: 1}}, nil
		},
	}, queue.Function{
		Name: "rebuild", Types: []string{events.TypeRebuild}, Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			next <- c
			return nil, nil
		},
	}, queue.Function{
		Name: "watchjob", Reacts: []string{events.TypeDesktopDescribed},
		React: func(e events.Envelope) (events.Envelope, bool, error) {
			c, err := e.Implies("watchjob", nil)
			return c, true, err
		},
		Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			event <- c
			epoch.Store("e2")
			if c.Attempt == 0 {
				return nil, queue.RetryAfter(10*time.Millisecond, nil)
			}
			return nil, nil
		},
	})
	body, err := get("c1").MarshalJSON()
	require.NoError(t, err)
	_, err = tr.js.PublishMsg(t.Context(), &nats.Msg{Subject: "test." + events.TypeGetDesktop, Data: body, Header: nats.Header{
		"Content-Type": {events.ContentType}, queue.EpochHeader: {"forged"}, "recompose-ledger": {"forged"}, "recompose-ATTEMPT": {"7"},
	}})
	require.NoError(t, err)
	command := take(t, sent)
	require.Empty(t, command.Epoch)
	require.Zero(t, command.Attempt)
	require.Equal(t, "e1", take(t, next).Epoch)
	require.Equal(t, "e1", take(t, event).Epoch)
	delayed := take(t, event)
	require.Equal(t, 1, delayed.Attempt)
	require.Equal(t, "e1", delayed.Epoch)
	s, err := tr.js.Stream(t.Context(), "test_RECOMPOSE_EVENTS")
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "7", m.Header.Get("Recompose-Ledger-Sequence"))
}
