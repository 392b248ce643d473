package natsqueue_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

func TestDeadLetterAsStored(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	f := queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Permanent(errors.New("no\r\nX-Evil: 1\x1b[31m"))
	}}
	running(t, tr.queue(t, nil), f)
	e := get("c1")
	e.Correlation = "chain"
	_, err := tr.q.Send(t.Context(), e)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(tr.DeadLetters(t)) == 1 }, 20*time.Second, 10*time.Millisecond)
	s, err := tr.js.Stream(t.Context(), "RECOMPOSE_DEAD")
	require.NoError(t, err)
	m, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	h := m.Header
	require.Equal(t, "recompose.dead.getdesktop", m.Subject)
	require.Equal(t, h.Get(natsqueue.HeaderDeadID)+"/RECOMPOSE_COMMANDS/1", h.Get("Nats-Msg-Id"), "by the message, so that another one is another letter")
	for name, want := range map[string]string{
		natsqueue.HeaderFunction: "getdesktop", natsqueue.HeaderClass: queue.ClassPermanent, natsqueue.HeaderAttempts: "1",
		natsqueue.HeaderStream: "RECOMPOSE_COMMANDS", natsqueue.HeaderSequence: "1", natsqueue.HeaderSubject: events.TypeGetDesktop,
		natsqueue.HeaderCommandID: "c1", natsqueue.HeaderCommandType: events.TypeGetDesktop, natsqueue.HeaderSource: "test",
		natsqueue.HeaderCorrelation: "chain", natsqueue.HeaderReason: "no  X-Evil: 1 [31m", "X-Evil": "",
		natsqueue.HeaderOriginal + "Content-Type": events.ContentType, natsqueue.HeaderOriginal + "Nats-Msg-Id": "c1/" + e.Digest()[:16],
		natsqueue.HeaderCut: "", "Content-Type": "",
	} {
		require.Equal(t, want, h.Get(name), name)
	}
	for _, name := range []string{natsqueue.HeaderFirst, natsqueue.HeaderLast} {
		at, err := time.Parse(time.RFC3339Nano, h.Get(name))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Minute)
	}
}

// TestGiantsBecomeDeadLetters shows that a message as large as the server takes is not redelivered without end.
func TestGiantsBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	running(t, tr.queue(t, nil), echo(nil))
	h := nats.Header{"Content-Type": {events.ContentType}}
	for range 50 {
		h.Add("X-Many", strings.Repeat("x", 1000))
	}
	m := &nats.Msg{Subject: events.TypeGetDesktop, Header: h}
	m.Data = append(bytes.Repeat([]byte("x"), int(tr.nc.MaxPayload())-m.Size()-100), '}')
	copy(m.Data, `{"specversion":"1.0","id":"","x":"`)
	_, err := tr.js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return tr.Pending(t) == 0 }, 20*time.Second, 10*time.Millisecond)
	dead := tr.DeadLetters(t)
	require.Len(t, dead, 1)
	require.Equal(t, queue.ClassUnreadable, dead[0].Class)
	require.NotEmpty(t, dead[0].Body)
}
