package natsqueue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// patient is a function that fails permanently until the test cures it. It reacts to events too.
type patient struct {
	cured   atomic.Bool
	delayed atomic.Bool // the first form of a message is only delayed
	got     chan queue.Command
}

func newPatient() *patient { return &patient{got: make(chan queue.Command, 100)} }

func (p *patient) function() queue.Function {
	return queue.Function{
		Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Reacts: []string{events.TypeJobCompleted},
		Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			if p.delayed.CompareAndSwap(true, false) {
				return nil, queue.RetryAfter(0, nil)
			}
			p.got <- c
			if !p.cured.Load() {
				return nil, queue.Permanent(errors.New("not yet cured"))
			}
			return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"done"}, Data: map[string]int{}}}, nil
		},
		React: func(e events.Envelope) (events.Envelope, bool, error) {
			command, err := e.Implies("getdesktop", e.Data)
			return command, true, err
		},
	}
}

// letters waits until there are n dead letters, and lists them.
func letters(t *testing.T, q *natsqueue.Queue, n int) []queue.Letter {
	t.Helper()
	var found []queue.Letter
	require.Eventually(t, func() bool {
		var err error
		found, err = q.DeadLetters(t.Context(), queue.LetterFilter{})
		require.NoError(t, err)
		return len(found) == n
	}, 20*time.Second, 10*time.Millisecond)
	return found
}

// TestRedriveKeepsIdentityAndAge makes a dead letter of every form of a message and redrives it.
func TestRedriveKeepsIdentityAndAge(t *testing.T) {
	t.Parallel()
	large := `{"desktop_id":"` + strings.Repeat("x", events.MaxMessage-100) + `"}`
	structured := func(more string) string {
		return `{"specversion":"1.0", "id":"c1","source":"test","type":"` + events.TypeGetDesktop + `"` + more + `,"data":{"desktop_id": "d1"}}`
	}
	for name, m := range map[string]struct {
		subject string
		headers nats.Header
		body    string
		asBytes bool // the redriven bytes are unchanged
		delayed bool
	}{
		"an envelope":                      {body: structured(`,"time":"2026-01-15T08:30:00.5Z","correlationid":"k"`), asBytes: true},
		"an envelope without a time":       {body: structured(``)},
		"an envelope of the future":        {body: structured(`,"time":"2999-01-15T08:30:00Z"`)},
		"an envelope with extensions":      {body: structured(`,"time":"2026-01-15T08:30:00Z","vendor":"kept"`), asBytes: true},
		"headers and data":                 {headers: nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"a%20b"}, "CE-Source": {"test"}, "ce-type": {events.TypeGetDesktop}}, body: `{"desktop_id":"d1"}`},
		"data with the sender's id":        {headers: nats.Header{"Nats-Msg-Id": {"mine"}}, body: `{"desktop_id":"d1"}`},
		"data without an id":               {body: `{"desktop_id":"d1"}`},
		"data as large as may be":          {headers: nats.Header{"Nats-Msg-Id": {"mine"}}, body: large},
		"a delayed form as large as it is": {headers: nats.Header{"Nats-Msg-Id": {"mine"}}, body: large, asBytes: true, delayed: true},
		"an event":                         {subject: events.TypeJobCompleted, body: `{"specversion":"1.0","id":"e1","source":"test","type":"` + events.TypeJobCompleted + `","time":"2026-01-15T08:30:00Z","data":{"n":1}}`, asBytes: true},
		"an event without a time":          {subject: events.TypeJobCompleted, body: `{"specversion":"1.0","id":"e1","source":"test","type":"` + events.TypeJobCompleted + `","data":{"n":1}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr, p := newTransport(t, "test"), newPatient()
			p.delayed.Store(m.delayed)
			running(t, tr.queue(t, nil), p.function())
			subject := m.subject
			if subject == "" {
				subject = events.TypeGetDesktop
			}
			_, err := tr.js.PublishMsg(t.Context(), &nats.Msg{Subject: tr.subject(subject), Header: m.headers, Data: []byte(m.body)})
			require.NoError(t, err)
			first := take(t, p.got)
			l := letters(t, tr.q, 1)[0]
			require.Equal(t, first.Envelope.ID, l.Command.ID)

			complete, err := queue.LettersOf(t.Context(), tr.q, l.ID)
			require.NoError(t, err)
			require.Len(t, complete, 1)
			expected, err := tr.q.CheckRedrive(complete[0])
			require.NoError(t, err)
			p.cured.Store(true)
			require.NoError(t, tr.q.Redrive(t.Context(), l))
			second := take(t, p.got)
			require.Contains(t, []string{second.Envelope.ID, second.Event.ID}, expected.ID)

			require.Equal(t, first.Identity(), second.Identity())
			for _, pair := range [][2]events.Envelope{{first.Envelope, second.Envelope}, {first.Event, second.Event}} {
				before, after := pair[0], pair[1]
				require.JSONEq(t, string(orNull(before.Data)), string(orNull(after.Data)))
				if m.asBytes && !m.delayed {
					require.Equal(t, string(before.Data), string(after.Data))
				}
				before.Data, after.Data = nil, nil
				require.Equal(t, before, after)
			}
			require.Empty(t, letters(t, tr.q, 0))
			require.Eventually(t, func() bool { return tr.Pending(t) == 0 }, 20*time.Second, 10*time.Millisecond)
			for _, e := range tr.Events(t) {
				require.NotContains(t, string(e.Data), "may have at most", "it is not refused now for its size")
			}

			err = tr.q.Redrive(t.Context(), l)
			require.ErrorIs(t, err, queue.ErrNoLetter)
		})
	}
}

func orNull(b []byte) []byte {
	if len(b) == 0 {
		return []byte("null")
	}
	return b
}

// TestAFailedRedriveKeepsTheDeadLetter redrives a message several times that fails each time.
func TestAFailedRedriveKeepsTheDeadLetter(t *testing.T) {
	t.Parallel()
	tr, p := newTransport(t, ""), newPatient()
	running(t, tr.queue(t, nil), p.function())
	_, err := tr.q.Send(t.Context(), get("c1"))
	require.NoError(t, err)
	id := letters(t, tr.q, 1)[0].ID
	for range 5 {
		before := letters(t, tr.q, 1)[0]
		err = tr.q.Redrive(t.Context(), before)
		require.NoError(t, err)
		after := letters(t, tr.q, 1)[0]
		require.Greater(t, after.Number, before.Number)
		require.Equal(t, id, after.ID)
		require.Equal(t, "RECOMPOSE_NEXT", after.Stream)
		require.Equal(t, events.CommandRef{ID: "c1", Type: events.TypeGetDesktop, Source: "test"}, after.Command)
	}
	p.cured.Store(true)
	err = tr.q.Redrive(t.Context(), letters(t, tr.q, 1)[0])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(p.got) == 7 && tr.Pending(t) == 0 }, 20*time.Second, 10*time.Millisecond)
	require.Empty(t, letters(t, tr.q, 0))
}

func TestRedriveOfUnreadableMessages(t *testing.T) {
	t.Parallel()
	tr, p := newTransport(t, ""), newPatient()
	running(t, tr.queue(t, nil), p.function())
	body := `{"specversion":"1.0","id":"","source":"test","type":"` + events.TypeGetDesktop + `"}`
	_, err := tr.js.Publish(t.Context(), events.TypeGetDesktop, []byte(body))
	require.NoError(t, err)
	l := letters(t, tr.q, 1)[0]
	require.Equal(t, queue.ClassUnreadable, l.Class)
	require.Empty(t, l.Command)
	require.Equal(t, len(body), l.Size)
	require.Nil(t, l.Body, "a list has no bodies")
	require.NoError(t, tr.q.Redrive(t.Context(), l))
	require.Eventually(t, func() bool { return letters(t, tr.q, 1)[0].Number > l.Number }, 20*time.Second, 10*time.Millisecond)
	second, err := queue.LettersOf(t.Context(), tr.q, letters(t, tr.q, 1)[0].ID)
	require.NoError(t, err)
	require.Equal(t, body, string(second[0].Body), "the same bytes")
}

func TestNoRedriveOfIncompleteMessages(t *testing.T) {
	t.Parallel()
	tr, p := newTransport(t, ""), newPatient()
	running(t, tr.queue(t, nil), p.function())
	m := &nats.Msg{Subject: events.TypeGetDesktop, Header: nats.Header{"ce-specversion": {"1.0"}, "ce-id": {"giant"}, "ce-source": {"test"}, "ce-type": {events.TypeGetDesktop}}}
	m.Header.Set(queue.AttemptHeader, "1") // set by a sender, so not valid
	m.Data = append(bytes.Repeat([]byte(" "), int(tr.nc.MaxPayload())-m.Size()-500), `{"desktop_id":"d1"}`...)
	m.Subject = "recompose.next.getdesktop.v1"
	_, err := tr.js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	l := letters(t, tr.q, 1)[0]
	require.NotEmpty(t, l.Cut)
	err = tr.q.Redrive(t.Context(), l)
	require.ErrorContains(t, err, "too large to be stored completely")
	require.Len(t, letters(t, tr.q, 1), 1, "it stays")
	require.NoError(t, tr.q.Drop(t.Context(), l))
	require.Empty(t, letters(t, tr.q, 0))
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	_, err := tr.q.DeadLetters(t.Context(), queue.LetterFilter{})
	require.ErrorIs(t, err, natsqueue.ErrNotSetUp)
	p := newPatient()
	rebuild := queue.Function{Name: "rebuild", Types: []string{events.TypeRebuild}, Handle: func(context.Context, queue.Command) ([]queue.Outcome, error) { panic("always") }}
	begun := time.Now()
	running(t, tr.queue(t, nil), p.function(), rebuild)
	require.Empty(t, letters(t, tr.q, 0))
	const many = 40
	for i := range many {
		_, err := tr.q.Send(t.Context(), get(fmt.Sprint("c", i)))
		require.NoError(t, err)
	}
	_, err = tr.js.Publish(t.Context(), "recompose.dead.getdesktop", []byte("of another program"))
	require.NoError(t, err)
	_, err = tr.q.Send(t.Context(), events.Envelope{ID: "r1", Source: "test", Type: events.TypeRebuild, Correlation: "k", Data: json.RawMessage(`{}`)})
	require.NoError(t, err)
	all := letters(t, tr.q, many+2)

	list := func(f queue.LetterFilter) []queue.Letter {
		found, err := tr.q.DeadLetters(t.Context(), f)
		require.NoError(t, err)
		return found
	}
	require.Len(t, list(queue.LetterFilter{Function: "rebuild"}), 1)
	require.Len(t, list(queue.LetterFilter{Function: "getdesktop"}), many+1)
	require.Len(t, list(queue.LetterFilter{Class: queue.ClassPermanent}), many)
	require.Empty(t, list(queue.LetterFilter{Class: queue.ClassPermanent, Function: "rebuild"}))
	require.Len(t, list(queue.LetterFilter{Since: begun}), many+2)
	require.Empty(t, list(queue.LetterFilter{Since: time.Now().Add(time.Hour)}))
	require.Len(t, list(queue.LetterFilter{ID: all[0].ID}), 1)

	used := list(queue.LetterFilter{Class: queue.ClassUsedUp})
	require.Len(t, used, 1)
	l := used[0]
	require.Equal(t, queue.MaxDeliveries+1, l.Attempts)
	require.Equal(t, "k", l.Correlation)
	require.Equal(t, events.CommandRef{ID: "r1", Type: events.TypeRebuild, Source: "test"}, l.Command)
	require.False(t, l.Last.Before(l.First))
	require.Equal(t, events.TypeRebuild, l.Subject)
	require.Equal(t, "r1", l.Headers.Get("Nats-Msg-Id"))

	foreign := list(queue.LetterFilter{ID: "unnamed-"})
	require.Len(t, foreign, 1)
	require.Equal(t, "getdesktop", foreign[0].Function)
	require.NoError(t, tr.q.Drop(t.Context(), foreign[0]))
	require.NoError(t, tr.q.Drop(t.Context(), foreign[0]), "once more does nothing")
	require.Len(t, letters(t, tr.q, many+1), many+1)

	got, err := queue.LettersOf(t.Context(), tr.q, l.ID[:len(l.ID)-1])
	require.NoError(t, err, "a prefix of an id is accepted")
	require.Equal(t, l.ID, got[0].ID)
	require.Contains(t, string(got[0].Body), `"id":"r1"`)
	_, err = queue.LettersOf(t.Context(), tr.q, "nosuch")
	require.ErrorIs(t, err, queue.ErrNoLetter)
	_, err = queue.LettersOf(t.Context(), tr.q, "")
	require.ErrorContains(t, err, "must be given")
	byLetter := map[byte]int{}
	for _, l := range all { // of 41 ids at least two begin with the same of 32 letters
		byLetter[l.ID[0]]++
		if byLetter[l.ID[0]] == 2 {
			_, err = queue.LettersOf(t.Context(), tr.q, l.ID[:1])
			require.ErrorContains(t, err, "several ids begin with it")
			require.ErrorContains(t, err, l.ID)
			break
		}
	}
}
