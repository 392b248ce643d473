package queue_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

// Messages that never reach the function, and how they are answered.
func TestRefusedCommands(t *testing.T) {
	t.Parallel()
	changed := func(change func(*events.Envelope)) queue.Delivery {
		e := command()
		change(&e)
		return delivery(t, e)
	}
	raw := func(body string) queue.Delivery {
		d := delivery(t, command())
		d.Headers, d.Body = nil, []byte(body)
		return d
	}
	noID := raw(rebuildData)
	noID.Bare.NoID = true
	malformedNoID := raw(`{`)
	malformedNoID.Bare.NoID = true
	for name, c := range map[string]struct {
		d      queue.Delivery
		id     string
		reason string
	}{
		"later version":   {changed(func(e *events.Envelope) { e.Type = "recompose.command.rebuild.v2" }), "rebuild-1", `type: must be recompose.command.rebuild.v1 for rebuild; got "recompose.command.rebuild.v2"`},
		"another command": {changed(func(e *events.Envelope) { e.Type = events.TypeDesktopToImage }), "rebuild-1", `type: must be recompose.command.rebuild.v1 for rebuild; got "recompose.command.desktoptoimage.v1"`},
		"foreign type":    {changed(func(e *events.Envelope) { e.Type = "com.example.\u202ething" }), "rebuild-1", `type: must be recompose.command.rebuild.v1 for rebuild; got "com.example.\u202ething"`},
		"long type":       {changed(func(e *events.Envelope) { e.Type = strings.Repeat("t", 1024) }), "rebuild-1", `type: must be recompose.command.rebuild.v1 for rebuild; got "` + strings.Repeat("t", 80) + `"`},
		"invalid":         {raw(`{"specversion":"9","id":"i","source":"s","type":"` + events.TypeRebuild + `"}`), "i", "specversion: must be 1.0; got 9"},
		"invalid expiry":  {raw(`{"specversion":"1.0","id":"i","source":"s","type":"` + events.TypeRebuild + `","expirytime":"later"}`), "i", "expirytime: must be a time like 2026-01-15T08:30:00Z; got later"},
		"no type":         {raw(`{"specversion":"1.0","id":"i","source":"s"}`), "i", "type: must be given"},
		"malformed":       {raw(`{"desktop_ids":`), "msg-1", `must be JSON (it ends too early); got {"desktop_ids":`},
		"oversize":        {raw(`{"message":"` + strings.Repeat("m", events.MaxMessage) + `"}`), "msg-1", "a message may have at most 262144 bytes; got 262158"},
		"bare without id": {noID, "msg-1", "id: a bare rebuild command needs one (header Nats-Msg-Id, on AWS attribute id): it makes repeating safe"},
		"bare, malformed": {malformedNoID, "msg-1", "must be JSON (it ends too early); got {"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			c.d.Deliveries = 99 // never given up on: the answer does not depend on the function
			got := r.process(t, c.d)
			e, published := failure(t, got)
			require.Equal(t, queue.Result{Events: got.Events}, got)
			require.Equal(t, events.KindInvalid, published.Error.Kind)
			require.Equal(t, events.EffectNone, published.Effect)
			require.Equal(t, c.reason, published.Error.ErrorMsg)
			require.Equal(t, c.id, published.Command.ID)
			require.Equal(t, c.id, e.Causation)
			require.Empty(t, r.seen)
			require.Equal(t, got, r.process(t, c.d), "the same a second time")
			requireReadable(t, e)
		})
	}
}

// A sender has the right to the type by which the transport routed its message, and to no other of the function.
func TestCommandsOfSeveralTypes(t *testing.T) {
	t.Parallel()
	const pause = "recompose.command.rebuild.pause.v1"
	tick := events.InternalType(events.FnRebuild, "tick")
	for name, c := range map[string]struct{ typ, routed, reason string }{
		"routed by its type":           {pause, pause, ""},
		"of a function":                {pause, "", ""},
		"internal, of a function":      {tick, "", ""},
		"routed by another type":       {pause, events.TypeRebuild, `type: must be that of the subject or of the attribute type, "recompose.command.rebuild.v1"; got "recompose.command.rebuild.pause.v1"`},
		"internal, of a sender":        {tick, pause, "type: recompose.internal.rebuild.tick.v1 is sent by functions only; got it from a sender"},
		"internal, routed by itself":   {tick, tick, "type: recompose.internal.rebuild.tick.v1 is sent by functions only; got it from a sender"},
		"of none of the types":         {"recompose.command.rebuild.v9", "", `type: must be recompose.command.rebuild.v1, recompose.command.rebuild.pause.v1 for rebuild; got "recompose.command.rebuild.v9"`},
		"internal of another function": {events.InternalType("x", "tick"), "", `type: must be recompose.command.rebuild.v1, recompose.command.rebuild.pause.v1 for rebuild; got "recompose.internal.x.tick.v1"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.Types, r.Internal = append(r.Types, pause), []string{tick}
			e := command()
			e.Type = c.typ
			d := delivery(t, e)
			d.Type = c.routed
			got := r.process(t, d)
			if c.reason == "" {
				require.Len(t, r.seen, 1)
				return
			}
			_, failed := failure(t, got)
			require.Equal(t, events.KindInvalid, failed.Error.Kind)
			require.Equal(t, c.reason, failed.Error.ErrorMsg)
			require.Empty(t, r.seen)
		})
	}
}

// A sender with the right to one command has no right to send events under its type.
func TestAnEventUnderAnotherTypeIsDropped(t *testing.T) {
	t.Parallel()
	for _, routed := range []string{"", events.TypeJobCompleted, events.TypeRebuild, events.TypeJobAccepted} {
		r := setup(t)
		d := delivery(t, made())
		d.Type = routed
		got := r.process(t, d)
		if routed == "" || routed == events.TypeJobCompleted {
			require.Len(t, r.seen, 1)
			continue
		}
		require.Equal(t, queue.Result{}, got)
		require.Empty(t, r.seen)
		require.Contains(t, r.log.String(), `level=ERROR msg="dropped: an event that was sent under another type"`)
	}
}

func TestTheTypeOfAMessageWithoutAnEnvelope(t *testing.T) {
	t.Parallel()
	const pause = "recompose.command.rebuild.pause.v1"
	one, several := queue.Function{Name: "rebuild", Types: []string{events.TypeRebuild}}, queue.Function{Name: "rebuild", Types: []string{events.TypeRebuild, pause}}
	require.Equal(t, events.TypeRebuild, one.BareType(""))
	require.Equal(t, events.TypeRebuild, one.BareType(pause))
	require.Equal(t, pause, several.BareType(pause))
	require.Equal(t, "recompose.command.rebuild", several.BareType(""), "answered as invalid")
	require.Equal(t, "other", several.BareType("other"))
	require.Empty(t, queue.Function{Name: "watchjob"}.BareType(""))
}

// requireReadable requires that every reader can decode an event.
func requireReadable(t *testing.T, e events.Envelope) {
	t.Helper()
	b, err := json.Marshal(e)
	require.NoError(t, err)
	_, err = events.Decode(nil, b, events.Bare{})
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), events.MaxMessage)
}

func TestAcceptedCommands(t *testing.T) {
	t.Parallel()
	t.Run("of just the size", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		d := delivery(t, command())
		d.Headers, d.Body = nil, []byte(`{"message":"`+strings.Repeat("m", events.MaxMessage-14)+`"}`)
		require.Len(t, d.Body, events.MaxMessage)
		r.process(t, d)
		require.Len(t, r.seen, 1)
	})
	t.Run("oversize as a delayed form, which is larger by its envelope", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		e := command()
		e.Data = json.RawMessage(`{"message":"` + strings.Repeat("m", events.MaxMessage-14) + `"}`)
		d := delivery(t, e)
		d.Headers[queue.AttemptHeader] = []string{"1"}
		require.Greater(t, len(d.Body), events.MaxMessage)
		r.process(t, d)
		require.Len(t, r.seen, 1, "it may have an unknown outcome by now")
	})
	t.Run("oversize as an event of our own", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		e := made()
		e.Subject = "x"
		e.Data = append([]byte(`{"padding":"`+strings.Repeat("m", events.MaxMessage)+`",`), made().Data[1:]...)
		r.process(t, delivery(t, e))
		require.Len(t, r.seen, 1)
	})
	t.Run("bare without an id where nothing is written", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.Writes = false
		d := delivery(t, command())
		d.Headers, d.Body, d.Bare.NoID = nil, []byte(rebuildData), true
		r.process(t, d)
		require.Len(t, r.seen, 1)
		require.Equal(t, "msg-1", r.seen[0].Envelope.ID)
	})
	t.Run("an envelope beside a made-up id", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		d := delivery(t, command())
		d.Bare.NoID = true
		r.process(t, d)
		require.Len(t, r.seen, 1)
	})
	t.Run("without any time", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		d := delivery(t, command())
		d.Headers, d.Body = nil, []byte(rebuildData)
		d.Bare = events.Bare{Type: d.Bare.Type, Source: d.Bare.Source, ID: d.Bare.ID}
		r.process(t, d)
		require.Equal(t, now, r.seen[0].Envelope.Time, "else it would never be too old")
	})
}

func TestUnreadableMessages(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no id":        `{"specversion":"1.0","source":"s","type":"` + events.TypeRebuild + `","data":{}}`,
		"malformed":    `{"specversion"`,
		"not UTF-8":    "\xff",
		"a bell in it": `{"specversion":"1.0","source":"s","id":"\u0007"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			d := delivery(t, command())
			d.Body, d.Deliveries = []byte(body), 7
			got := r.process(t, d)
			require.NotNil(t, got.Dead)
			require.Equal(t, queue.Result{Dead: got.Dead}, got, "a dead letter alone")
			require.Equal(t, "unreadable", got.Dead.Class)
			require.Contains(t, got.Dead.Reason, "the envelope cannot be read: ")
			require.Zero(t, got.Dead.Envelope)
			require.Equal(t, d, got.Dead.Delivery)
			require.Equal(t, 7, got.Dead.Attempts)
			require.Regexp(t, `^[a-z2-7]{52}$`, got.Dead.ID)

			redelivered := d
			redelivered.Deliveries = 8
			require.Equal(t, got.Dead.ID, r.process(t, redelivered).Dead.ID, "stable")
			redelivered.Bare.ID = "msg-2"
			require.NotEqual(t, got.Dead.ID, r.process(t, redelivered).Dead.ID)
			require.Empty(t, r.seen)
		})
	}
}

// An event that reached the wrong queue is not a command: an answer would end a chain that continues, or be routed
// back.
func TestMisdirectedEvents(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]events.Envelope{
		"accepted":        acceptedEvent(),
		"failed":          {ID: "f", Source: "s", Type: events.TypeCommandFailed, Causation: "rebuild-1", Data: json.RawMessage(`{}`)},
		"version to come": {ID: "f", Source: "s", Type: "recompose.event.job.accepted.v2", Data: json.RawMessage(`{}`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			require.Equal(t, queue.Result{}, r.process(t, delivery(t, e)))
			require.Empty(t, r.seen)
		})
	}
	t.Run("invalid", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		d := delivery(t, command())
		d.Body = []byte(`{"specversion":"9","id":"i","source":"s","type":"` + events.TypeCommandFailed + `"}`)
		require.Equal(t, queue.Result{}, r.process(t, d))
	})
}

func TestStableDeadLetters(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.handles(nil, queue.Permanent(errors.New("one reason")))
	first := r.process(t, delivery(t, command()))
	r.handles(nil, queue.Permanent(errors.New("another reason")))
	d := delivery(t, command())
	d.Deliveries = 3
	second := r.process(t, d)
	require.Equal(t, first.Dead.ID, second.Dead.ID)
	require.Equal(t, first.Events[0].ID, second.Events[0].ID)

	other := command()
	other.Source = "another"
	require.NotEqual(t, first.Dead.ID, r.process(t, delivery(t, other)).Dead.ID)
	d.Deliveries = 6
	require.NotEqual(t, first.Dead.ID, r.process(t, d).Dead.ID, "of another class")
}
