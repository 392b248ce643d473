package once_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/testkit/testclock"
)

// reader is a function that only reads, and what becomes of its messages. Its answers are the texts, one after the
// other: a kind of failure with "!" before it, "crash", or an answer.
type reader struct {
	t       *testing.T
	engine  *once.Engine
	store   *flaky
	answers []string
	asked   int
	during  func() // called during the call of the service
}

func newReader(t *testing.T, answers ...string) *reader {
	store := &flaky{Store: memledger.New()}
	c := testclock.New()
	return &reader{t: t, store: store, answers: answers, engine: once.New(config.Default(), service(c.Now), once.Options{Store: store, Owner: "w", Now: c.Now})}
}

func (r *reader) function() queue.Function {
	return r.engine.Read(queue.Function{
		Name: events.FnGetDesktop, Types: []string{events.TypeGetDesktop},
		Handle: func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			answer := r.answers[min(r.asked, len(r.answers)-1)]
			r.asked++
			if r.during != nil {
				r.during()
			}
			if kind, failed := strings.CutPrefix(answer, "!"); failed {
				return nil, queue.Failed(kind, "the service answers so")
			}
			if answer == "crash" {
				return nil, errors.New("crash")
			}
			return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"desktop.described"},
				Data: events.DesktopDescribed{Command: c.Ref(), Desktop: json.RawMessage(`"` + answer + `"`)}}}, nil
		},
	}, nil)
}

// deliver hands the command over for the n-th time.
func (r *reader) deliver(n int) queue.Result { return r.deliverData(n, `{"desktop_id":"d1"}`) }

func (r *reader) deliverData(n int, data string) queue.Result {
	r.t.Helper()
	body, err := json.Marshal(events.Envelope{ID: "c", Source: "s", Type: events.TypeGetDesktop, Time: r.engine.Now(), Data: json.RawMessage(data)})
	require.NoError(r.t, err)
	return queue.Processor{Now: r.engine.Now}.Process(r.t.Context(), r.function(), queue.Delivery{
		Headers: events.Headers{"Content-Type": {events.ContentType}}, Body: body, Deliveries: n,
	})
}

func (r *reader) end(n int) events.Envelope {
	r.t.Helper()
	result := r.deliver(n)
	require.NoError(r.t, result.Retry)
	require.Len(r.t, result.Events, 1)
	return result.Events[0]
}

func TestAReadEndsOnce(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]string{
		"another answer":       {"first", "second"},
		"a failure afterwards": {"first", "!" + events.KindNotFound},
		"an answer afterwards": {"!" + events.KindNotFound, "second"},
		"crashes afterwards":   {"first", "crash"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReader(t, answers...)
			first := r.end(1) // published, and then the worker dies before it acknowledges
			for n := 2; n <= 2*queue.MaxDeliveries+1; n++ {
				require.Equal(t, first, r.end(n), "delivery %d", n)
			}
			require.Equal(t, 1, r.asked)
		})
	}
}

func TestAReadThatUsedUpItsDeliveriesEndsOnce(t *testing.T) {
	t.Parallel()
	r := newReader(t, "crash")
	for n := 1; n <= queue.MaxDeliveries; n++ {
		require.Error(t, r.deliver(n).Retry)
	}
	r.answers = []string{"late"}
	end := r.end(queue.MaxDeliveries + 1)
	require.Equal(t, events.TypeCommandFailed, end.Type)
	require.Equal(t, end, r.end(queue.MaxDeliveries+2))

	require.Equal(t, end, r.end(1), "also where the dead letter is redriven")
}

// TestALateAnswerAfterTheReadWasGivenUp suspends a worker during its call until others give the command up.
func TestALateAnswerAfterTheReadWasGivenUp(t *testing.T) {
	t.Parallel()
	r := newReader(t, "late")
	var given events.Envelope
	r.during = func() {
		r.during = nil
		given = r.end(queue.MaxDeliveries + 1)
	}
	late := r.end(queue.MaxDeliveries)
	require.Equal(t, events.TypeCommandFailed, given.Type)
	require.Equal(t, given, late)
}

// A reaction inherits the expirytime of the write before it, and still runs: it proves what the write has done.
func TestAReadExpires(t *testing.T) {
	t.Parallel()
	r := newReader(t, "answer")
	now := r.engine.Now()
	c := queue.Command{Envelope: events.Envelope{ID: "c", Source: "s", Type: events.TypeGetDesktop, Time: now, Expiry: now,
		Data: json.RawMessage(`{"desktop_id":"d1"}`)}, DesktopIDs: []string{"d1"}, Digest: "x"}
	outcomes, err := r.function().Handle(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, outcomes, 1)
	require.Equal(t, events.TypeCommandFailed, outcomes[0].Type)
	failed, err := json.Marshal(outcomes[0].Data)
	require.NoError(t, err)
	require.Contains(t, string(failed), `"kind":"expired"`)
	require.Contains(t, string(failed), `"effect":"none"`)
	require.Contains(t, string(failed), "expirytime: passed at 2026-01-15T08:30:00Z")
	require.Zero(t, r.asked)
	repeated, err := r.function().Handle(t.Context(), c)
	require.NoError(t, err)
	require.JSONEq(t, string(failed), fmt.Sprintf("%s", repeated[0].Data))
	outcomes[0].About, repeated[0].Data = nil, outcomes[0].Data
	require.Equal(t, outcomes, repeated)

	c.Envelope.ID, c.Envelope.Expiry = "in time", now.Add(time.Second)
	outcomes, err = r.function().Handle(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, events.TypeDesktopDescribed, outcomes[0].Type)

	c.Envelope.ID, c.Envelope.Expiry = "reaction", now.Add(-time.Hour)
	c.Event = events.Envelope{ID: "done", Type: events.TypeJobCompleted}
	outcomes, err = r.function().Handle(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, events.TypeDesktopDescribed, outcomes[0].Type)
}

func TestTwoWorkersThatReadAtOncePublishOneEnd(t *testing.T) {
	t.Parallel()
	r := newReader(t, "slow", "fast")
	var fast events.Envelope
	r.during = func() {
		r.during = nil
		fast = r.end(2)
	}
	require.Equal(t, fast, r.end(1))
}

func TestOtherDataUnderTheIDIsAnotherRead(t *testing.T) {
	t.Parallel()
	r := newReader(t, "d1", "d2")
	require.JSONEq(t, `"d1"`, described(t, r.end(1)))
	require.JSONEq(t, `"d2"`, described(t, r.deliverData(1, `{"desktop_id":"d2"}`).Events[0]))
	require.JSONEq(t, `"d1"`, described(t, r.end(2)))
}

func described(t *testing.T, e events.Envelope) string {
	t.Helper()
	var d events.DesktopDescribed
	require.NoError(t, json.Unmarshal(e.Data, &d))
	return string(d.Desktop)
}

func TestAReadWaitsForTheLedger(t *testing.T) {
	t.Parallel()
	r := newReader(t, "first", "second")
	r.store.put = func(int) (bool, error) { return false, errStore }
	result := r.deliver(1)
	require.Empty(t, result.Events, "what is not recorded is not published")
	require.NotNil(t, result.Delay)
	r.store.put = func(n int) (bool, error) {
		if n == 2 { // stored, and the answer lost
			return true, errStore
		}
		return false, nil
	}
	second := r.end(1)
	require.JSONEq(t, `"second"`, described(t, second))
	require.Equal(t, second, r.end(2))
}

func TestALargeAnswerIsRecordedToo(t *testing.T) {
	t.Parallel()
	var ids strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&ids, "%032x %d ", i*7919, i)
	}
	r := newReader(t, ids.String(), "second")
	first := r.end(1)
	require.Equal(t, first, r.end(6))
}

// The first delivery asks the service before it looks for a record; each further one looks first.
func TestARepeatedReadPublishesTheRecordedEnd(t *testing.T) {
	t.Parallel()
	r := newReader(t, "first", "second")
	first := r.end(1)
	require.Zero(t, r.store.gets.Load(), "no end can be recorded without a delivery before")
	require.Equal(t, first, r.end(1), "another message with the same command")
	require.Equal(t, 2, r.asked)
	require.Equal(t, first, r.end(2))
	require.Equal(t, 2, r.asked)
}
