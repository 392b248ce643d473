package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Whatever is sent after an abort and rejected, how the rollout ended and why stays.
func TestARejectedVerbLeavesTheReasonOfAnAbort(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.start("r", strategy(0, []string{"50%", "100%"}, 9, "20%"), nil)
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Done] > 0 && h.Counts()[Sent] > 0 }))
	w.run(time.Minute, nil) // it is accepted
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "power cut", By: "ann"})
	none := int64(0)
	stands := func() {
		t.Helper()
		h := w.head("r")
		require.Contains(t, []string{Aborting, Aborted}, h.Phase)
		require.Equal(t, []string{"power cut", "ann", "", ""}, []string{h.Reason, h.By, h.Why, h.Before})
	}
	send := func() {
		t.Helper()
		stands()
		for typ, data := range map[string]events.RolloutCommand{
			events.TypeRolloutPause:    {Reason: "other", By: "bob"},
			events.TypeRolloutResume:   {AcceptFailed: &none, By: "bob"},
			events.TypeRolloutPromote:  {By: "bob"},
			events.TypeRolloutExclude:  {DesktopIDs: []string{"other"}, Reason: "other", By: "bob"},
			events.TypeRolloutSet:      {MaxFailed: json.RawMessage(`"x"`), By: "bob"},
			events.TypeRolloutRetry:    {By: "bob"},
			events.TypeRolloutRollback: {DesktopIDs: []string{"other"}, By: "bob"},
			events.TypeRolloutApprove:  {PlanSHA256: "other", By: "bob"},
			events.TypeRolloutAbort:    {Reason: "other", By: "bob"},
			events.TypeRolloutStart:    {Spec: spec("r", nil)},
		} {
			w.rejected("r", typ, data, "")
			stands()
		}
	}
	send()
	w.until("r", Aborted)
	send()
	// A rollback that waits for its turn, and finds that another rollout holds the desktops.
	w.start("two", with(map[string]any{"image": map[string]any{"image_id": "new-2", "image_type": "private"}}, approval), nil)
	w.until("two", Planned)
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{By: "bob"}, "rollout two holds")
	send()
}

// A capture that was begun is not published once more after its record is gone: an operator has accepted the loss.
func TestACaptureThatWasBegunIsNotMadeTwice(t *testing.T) {
	t.Parallel()
	for name, show := range map[string]func(w *world, c *call) Event{
		"accepted": func(w *world, c *call) Event {
			return c.message.event(events.TypeJobAccepted, events.JobAccepted{
				Function: events.FnDesktopToImage, Command: w.ref(c.message, c.source), JobID: "j", Deadline: w.now.Add(time.Hour),
			})
		},
		"unclear": func(w *world, c *call) Event {
			return c.message.event(events.TypeCommandUnclear, events.CommandUnclear{Command: w.ref(c.message, c.source)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := calm(t, 3)
			captures := 0
			w.capture = func(name string, c *call) {
				captures++
				w.send(name, time.Second, show(w, c))
				delete(w.ledger, events.Identity(c.source, c.message.ID))
			}
			w.start("r", map[string]any{"image": map[string]any{"from_desktop": "d-00000", "execute_sysprep": false}}, nil)
			h := w.until("r", Aborted)
			require.Contains(t, h.Reason, "the ledger has no record of the capture, which was begun")
			require.Equal(t, 1, captures)
		})
	}
}

// A pause takes a retry back that waits after a halt. What comes then is a halt once more, unless a person accepts the failures.
func TestAPauseOfARetryAcceptsNoFailures(t *testing.T) {
	t.Parallel()
	w := calm(t, 250)
	w.fails = func(id string, _ Message) bool { return id[len(id)-1] == '5' } // in every batch
	w.start("r", strategy(0, whole, 200, "3%"), nil)
	h := w.until("r", Halted)
	require.Equal(t, "max_failed", h.Why)
	require.Positive(t, h.Counts()[Sent], "the other batch runs")
	require.Positive(t, h.Counts()[Pending])
	retry := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.do("r", events.TypeRolloutPause, events.RolloutCommand{Reason: "wait"})
	require.Contains(t, w.answer(retry).Reason, "the rollout was paused before the retry began")
	require.True(t, w.run(day, func() bool { return w.head("r").Counts()[Sent] == 0 }))
	h = w.head("r")
	sent := w.accepted
	require.Equal(t, Paused, h.Phase)
	require.Equal(t, "wait", h.Reason)
	require.Equal(t, events.TypeRolloutResumed, w.do("r", events.TypeRolloutResume, events.RolloutCommand{}).Why)
	h = w.until("r", Halted)
	require.Equal(t, "max_failed", h.Why)
	require.Equal(t, sent, w.accepted, "nothing was sent in between")
	failed := int64(h.Counts().failed())
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &failed})
	w.fails = nil
	require.Equal(t, Counts{Done: 230, Failed: 20}, w.until("r", Completed).Counts())
	w.audit("r")
}

// A name is used once, so a service that is away for a night must not use it up.
func TestAPlanWaitsForAServiceThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.odds.listFails = 100
	start := w.start("r", strategy(0, whole, 9, "20%"), nil)
	w.run(9*time.Hour, nil)
	h := w.head("r")
	require.Equal(t, Planning, h.Phase)
	require.Equal(t, "plan", h.Waiting.Reason)
	require.Regexp(t, "^the plan is made: the desktops could not be read, [5-6][0-9] times in a row, at last: unreachable: ", h.Waiting.Text)
	require.Empty(t, w.published[start])
	w.odds.listFails = 0
	require.Equal(t, Counts{Done: 9}, w.until("r", Completed).Counts())
	w.audit("r")

	w = calm(t, 9)
	w.odds.listFails = 100
	start = w.start("r", nil, func(c *events.RolloutCommand) { c.PlanOnly = true })
	w.run(time.Hour, nil)
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "not today"})
	require.Contains(t, w.answer(start).Reason, "aborted before its plan was made: not today")
	w.until("r", Aborted)
}

// What no later request mends ends it at once.
func TestAPlanEndsIfTheServiceRefusesToList(t *testing.T) {
	t.Parallel()
	for _, kind := range lasting {
		s, f := newSim(t, 3)
		s.answer = func(m Message, now time.Time) []timed {
			if m.Type != events.TypeListImages {
				return f.answerAll(m, now)
			}
			d := events.CommandFailed{
				Command: events.CommandRef{ID: m.ID, Type: m.Type}, Effect: events.EffectNone,
				Error: events.Failure{Kind: kind, ErrorMsg: "no"},
			}
			return []timed{{at: now.Add(time.Second), event: m.event(events.TypeCommandFailed, d)}}
		}
		s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
		run(t, s, func() bool { return s.head != nil && s.head.Phase != Planning })
		require.Equal(t, Aborted, s.head.Phase)
		require.Equal(t, "the images could not be read: "+kind+": no", s.head.Reason)
	}
}
