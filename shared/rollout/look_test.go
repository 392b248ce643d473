package rollout

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// How old the knowledge of a desktop is counts, not how long the look has waited for a worker.
func TestALookThatWaitsForAWorkerIsAGroundForACommand(t *testing.T) {
	t.Parallel()
	w := calm(t, 30)
	w.queue = 8 * time.Minute
	w.start("r", strategy(1, []string{"50%", "100%"}, 30, "20%"), nil)
	require.Equal(t, Counts{Done: 30}, w.until("r", Completed).Counts())
	require.Less(t, w.now.Sub(t0), 4*time.Hour)
	for _, m := range w.reported {
		require.NotEqual(t, events.TypeRolloutChanged, m.Type, "%s", m.Data)
	}
	w.audit("r")
}

// An answer that comes too late is no ground for a command, whatever its worker's clock shows. The reason why nothing moves is
// in the status, and an event has it.
func TestARolloutWhoseLooksAreAnsweredTooLateShowsIt(t *testing.T) {
	t.Parallel()
	w := calm(t, 30)
	w.start("r", strategy(1, whole, 30, "20%"), nil)
	w.until("r", Running)
	w.back = 4 * time.Minute
	require.True(t, w.run(day, func() bool {
		h := w.head("r")
		return h.Open[0].Vain == vainLooks && h.Waiting.Reason == "batch"
	}), w)
	require.Zero(t, w.accepted)
	require.Equal(t, "batch 1 is looking; 3 looks at its desktops in a row failed, or were answered more than 2m30s after the "+
		"service was read, or too late for the window, or not at all; they are made anew", w.head("r").Waiting.Text)
	w.run(time.Hour, nil)
	require.Contains(t, (&View{Head: w.head("r")}).Status(w.now).Waiting.Text, "looks at its desktops in a row failed")
	var notices []events.Rollout
	for _, m := range w.reported {
		var r events.Rollout
		require.NoError(t, json.Unmarshal(m.Data, &r))
		if m.Type == events.TypeRolloutChanged {
			notices = append(notices, r)
		}
	}
	require.Len(t, notices, 1, "once, not with each look")
	require.True(t, strings.HasPrefix(notices[0].Reason, "batch 1: 3 looks at its desktops"), notices[0].Reason)
	w.back = 0
	require.Equal(t, Counts{Done: 30}, w.until("r", Completed).Counts())
	w.audit("r")
}

// The window has room for a batch for six minutes, and the answer takes longer each day.
func TestARolloutWhoseLooksAreTooLateForItsWindowShowsIt(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.queue = 7 * time.Minute
	window := map[string]any{"from": "01:00", "to": "01:26", "timezone": "UTC"}
	w.start("r", with(strategy(0, whole, 9, "20%"), map[string]any{"window": window}), nil)
	w.until("r", Running)
	w.run(4*day, nil)
	require.Zero(t, w.accepted)
	h := w.head("r")
	require.Equal(t, "window", h.Waiting.Reason)
	require.Contains(t, h.Waiting.Text, "the window is closed; 4 looks at its desktops in a row failed, or were answered")
	require.Contains(t, h.Waiting.Text, "; recompose rollout set makes the window longer")
	notices := 0
	for _, m := range w.reported {
		notices += strings.Count(string(m.Data), "3 looks at its desktops")
	}
	require.Equal(t, 1, notices)
	w.queue = 0
	require.Equal(t, Counts{Done: 9}, w.until("r", Completed).Counts())
	w.audit("r")
}

// The clock of the worker that asked was ahead, and then was set right. The answer must not look younger than it is.
func TestAClockThatWasAheadMakesNoLookYounger(t *testing.T) {
	t.Parallel()
	for _, back := range []time.Duration{4 * time.Minute, 11 * time.Minute} {
		w := calm(t, 30)
		w.start("r", strategy(1, whole, 30, "20%"), nil)
		w.until("r", Running)
		w.back = back
		var b Batch
		require.True(t, w.run(day, func() bool {
			record := w.store[BatchKey("r", 0)]
			return record.value != nil && json.Unmarshal(record.value, &b) == nil && b.Look != nil
		}))
		b.Look.At = b.Look.At.Add(10 * time.Minute)
		record := w.store[BatchKey("r", 0)]
		record.value, _ = json.Marshal(b)
		w.store[BatchKey("r", 0)] = record
		w.run(back+time.Minute, nil)
		require.Zero(t, w.accepted, back)
		w.back = 0
		require.Equal(t, Counts{Done: 30}, w.until("r", Completed).Counts())
		w.audit("r")
	}
}

// Of two clocks that disagree, the one that makes the look older counts. A time after now proves nothing.
func TestTheTimeOfALook(t *testing.T) {
	t.Parallel()
	asked := t0.Add(-10 * time.Minute)
	s := &step{Facts: Facts{Now: t0}}
	for read, want := range map[time.Time]time.Time{
		{}: asked, asked.Add(-time.Second): asked.Add(-time.Second), asked: asked, t0.Add(-time.Minute): t0.Add(-time.Minute), t0: t0,
		t0.Add(time.Second): asked,
	} {
		require.Equal(t, want, s.readAt(&Request{At: asked, Read: read}), read)
	}
}

// The clock of the worker that read the service was ahead: the answer was stored before the service was read.
func TestAReadingAfterItsAnswerIsNoGround(t *testing.T) {
	t.Parallel()
	asked, stored := t0, t0.Add(time.Minute)
	for read, want := range map[time.Time]time.Time{stored.Add(time.Second): asked, stored: stored, t0.Add(time.Second): t0.Add(time.Second)} {
		s, b := &step{Facts: Facts{Now: t0.Add(20 * time.Minute)}}, &Batch{Look: &Request{ID: "l", At: asked}}
		data, err := json.Marshal(events.DesktopsListed{Command: events.CommandRef{ID: "l"}, Page: 1, Last: true, ReadAt: read})
		require.NoError(t, err)
		s.noteBatch(b, Event{Type: events.TypeDesktopsListed, Time: stored, Data: data})
		require.True(t, b.Look.Taken)
		require.Equal(t, want, s.readAt(b.Look))
	}
}

// The clocks of the worker that asked and of the one that read are ahead: the answer is at least as old as its message.
func TestALookOfTwoClocksThatAreAheadIsAsOldAsItsMessage(t *testing.T) {
	t.Parallel()
	b := &Batch{Look: &Request{ID: "look", At: t0.Add(7 * time.Minute)}}
	s := &step{Facts: Facts{Now: t0.Add(7*time.Minute + time.Second)}}
	s.noteListed(b, events.DesktopsListed{Command: events.CommandRef{ID: "look"}, Page: 1, Last: true, ReadAt: t0.Add(8 * time.Minute)}, t0)
	require.True(t, b.Look.Taken)
	require.Equal(t, t0, s.readAt(b.Look))
	require.True(t, s.late(b.Look))
}
