package queuetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

func structured(t *testing.T, b *bench) {
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	b.send(envelope(events.Envelope{
		ID: "c 1/ü>*.", Source: "test", Type: events.CommandType(fn), Correlation: "chain", Data: json.RawMessage(`{"desktop_id":"d1"}`),
	}))
	got := receive(b, c.c, "the command")
	require.Equal(t, "c 1/ü>*.", got.Envelope.ID)
	require.Equal(t, "test", got.Envelope.Source)
	require.Equal(t, "chain", got.Envelope.Correlation)
	require.JSONEq(t, `{"desktop_id":"d1"}`, string(got.Envelope.Data))
	require.False(t, got.Envelope.Time.IsZero(), "a command without a time gets the time of its storage")
	require.Zero(t, got.Attempt)
	e := b.published(1)[0]
	require.Equal(t, events.TypeDesktopDescribed, e.Type)
	require.Equal(t, got.Envelope.ID, e.Causation)
	require.Equal(t, "chain", e.Correlation)
	require.Equal(t, events.Source(fn), e.Source)
	require.Empty(t, b.DeadLetters(t))
}

func binary(t *testing.T, b *bench) {
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	b.send(Message{Headers: map[string]string{
		"ce-specversion": "1.0", "ce-id": "c1", "ce-source": "test", "ce-type": events.CommandType(fn), "Content-Type": "application/json",
	}, Body: []byte(`{"desktop_id":"d1"}`)})
	got := receive(b, c.c, "the command")
	require.Equal(t, "c1", got.Envelope.ID)
	require.JSONEq(t, `{"desktop_id":"d1"}`, string(got.Envelope.Data))
	b.published(1)
}

func bare(t *testing.T, b *bench) {
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	b.send(Message{ID: "mine", Body: []byte(`{"desktop_id":"d1"}`)})
	got := receive(b, c.c, "the command")
	require.Equal(t, events.CommandType(fn), got.Envelope.Type)
	require.NotEmpty(t, got.Envelope.Source)
	require.JSONEq(t, `{"desktop_id":"d1"}`, string(got.Envelope.Data))

	b.send(Message{Body: []byte(`{"desktop_id":"d2"}`)})
	other := receive(b, c.c, "the command without an id")
	require.NotEmpty(t, other.Envelope.ID)
	require.NotEqual(t, got.Envelope.ID, other.Envelope.ID)
	b.published(2)
}

func severalTypes(t *testing.T, b *bench) {
	const start, pause = "recompose.command.getdesktop.start.v1", "recompose.command.getdesktop.pause.v1"
	tick := events.InternalType(fn, "tick")
	c := newCalls(nil)
	f := function(fn, c)
	f.Types, f.Internal = []string{start, pause}, []string{tick}
	b.Start(t, f)
	of := func(id, typ string) Message { // routed by the first type
		m := envelope(events.Envelope{ID: id, Source: "test", Type: typ, Data: json.RawMessage(`{"desktop_id":"d1"}`)})
		m.Type = start
		return m
	}
	b.send(of("c1", start))
	require.Equal(t, start, receive(b, c.c, "a command of the first type").Envelope.Type)
	b.send(Message{ID: "c2", Type: pause, Body: []byte(`{"desktop_id":"d1"}`)})
	require.Equal(t, pause, receive(b, c.c, "data of the second type").Envelope.Type)
	b.published(2)

	for id, m := range map[string]Message{
		"c3": of("c3", pause),
		"c4": of("c4", tick),
		"c5": of("c5", events.CommandType(fn)),
		"c6": {ID: "c6", Body: []byte(`{"desktop_id":"d1"}`)}, // of no type of the function
	} {
		n := len(b.Events(t))
		b.send(m)
		failed := b.failed(b.published(n + 1)[n])
		require.Equal(t, events.KindInvalid, failed.Error.Kind, failed.Error.ErrorMsg)
		require.Equal(t, id, failed.Command.ID)
		require.Equal(t, events.EffectNone, failed.Effect)
	}
	require.Empty(t, c.c, "the handler did not run")
	require.Empty(t, b.DeadLetters(t))
}

func bareWrite(t *testing.T, b *bench) {
	c := newCalls(nil)
	f := function(fn, c)
	f.Writes = true
	b.Start(t, f)
	b.send(Message{Body: []byte(`{"desktop_id":"d1"}`)})
	failed := b.failed(b.published(1)[0])
	require.Equal(t, events.KindInvalid, failed.Error.Kind)
	require.Equal(t, events.EffectNone, failed.Effect)
	require.Empty(t, c.c, "the handler did not run")
	require.Empty(t, b.DeadLetters(t))

	b.send(command("test", "c1"))
	receive(b, c.c, "a command with an id")
}

func unreadable(t *testing.T, b *bench) {
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	body := []byte(`{"specversion":"1.0","type":"recompose.command.getdesktop.v1"}`)
	b.send(Message{Headers: map[string]string{"Content-Type": events.ContentType, "X-Mine": "kept"}, Body: body})
	b.eventually("a dead letter", func() bool { return len(b.DeadLetters(t)) == 1 })
	b.idle()
	d := b.DeadLetters(t)[0]
	require.NotEmpty(t, d.ID)
	require.Equal(t, fn, d.Function)
	require.Equal(t, queue.ClassUnreadable, d.Class)
	require.NotEmpty(t, d.Reason)
	require.Equal(t, string(body), string(d.Body))
	require.Equal(t, "kept", d.Headers["X-Mine"])
	require.Empty(t, b.Events(t))
	require.Empty(t, c.c)
}

func invalid(t *testing.T, b *bench) {
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	b.send(Message{ID: "c1", Body: []byte(`{"desktop_id":`)})
	garbage := "not JSON at all"
	if b.Traits().Bytes {
		garbage = "\xff\x00 " + garbage
	}
	b.send(Message{ID: "c2", Body: []byte(garbage)})
	b.send(envelope(events.Envelope{ID: "c3", Source: "test", Type: "recompose.command.getdesktop.v9", Data: json.RawMessage(`{}`)}))
	for _, e := range b.published(3) {
		require.Equal(t, events.KindInvalid, b.failed(e).Error.Kind)
	}
	require.Empty(t, b.DeadLetters(t))
	require.Empty(t, c.c)
	b.send(command("test", "c4"))
	require.Equal(t, "c4", receive(b, c.c, "a good command").Envelope.ID)
}

func sizes(t *testing.T, b *bench) {
	c := newCalls(nil)
	b.Start(t, function(fn, c))
	of := func(id string, size int) Message {
		frame := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"test","type":%q,"data":{"text":""}}`, id, events.CommandType(fn))
		pad := strings.Repeat("x", size-len(frame))
		m := Message{Headers: map[string]string{"Content-Type": events.ContentType}, Body: []byte(strings.Replace(frame, `""`, `"`+pad+`"`, 1))}
		require.Len(t, m.Body, size)
		return m
	}
	b.send(of("c1", events.MaxMessage))
	require.Equal(t, "c1", receive(b, c.c, "256 KiB").Envelope.ID)
	b.published(1)
	if b.Send(fn, of("c2", events.MaxMessage+1)) == nil { // otherwise it was refused at once
		failed := b.failed(b.published(2)[1])
		require.Equal(t, events.KindInvalid, failed.Error.Kind)
		require.Contains(t, failed.Error.ErrorMsg, "262144")
	}
	require.Empty(t, c.c)
}
