package rollout

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestARetryOrRollbackOfNoDesktopOfTheRolloutChangesNothing(t *testing.T) {
	t.Parallel()
	w := calm(t, 30)
	w.failing("d-00001")
	w.start("r", strategy(5, []string{"50%", "100%"}, 30, "50%"), nil)
	before := *w.until("r", Halted)
	wrong := events.RolloutCommand{DesktopIDs: []string{"no-such-desktop"}}
	for _, typ := range []string{events.TypeRolloutRetry, events.TypeRolloutRollback} {
		w.rejected("r", typ, wrong, "there is no desktop for the")
		h := w.head("r")
		require.Equal(t, Halted, h.Phase)
		require.Equal(t, before.Why, h.Why)
		require.Equal(t, before.Reason, h.Reason)
		require.Empty(t, h.PreviousReason)
		require.Equal(t, before.Accepted, h.Accepted)
		require.Equal(t, before.Waves, h.Waves)
		require.Nil(t, h.Queued)
	}
	one := int64(1)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &one})
	require.Equal(t, Counts{Done: 29, Failed: 1}, w.until("r", Completed).Counts())
	w.rejected("r", events.TypeRolloutRetry, wrong, "there is no desktop for the")
	require.Equal(t, Completed, w.head("r").Phase)
	w.audit("r")
}

func TestAPauseEndsARetryThatWaits(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.failing("d-00001")
	w.start("r", strategy(0, []string{"50%", "100%"}, 30, "50%"), nil)
	w.run(10*day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Failed] == 1 && h.Counts()[Sent] > 0 })
	id := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.run(day, func() bool { return w.head("r").Queued != nil })
	require.Equal(t, events.TypeRolloutPaused, w.do("r", events.TypeRolloutPause, events.RolloutCommand{Reason: "stop"}).Why)
	require.Equal(t, events.TypeRolloutRejected, w.answer(id).Why)
	w.run(day, func() bool { return len(w.head("r").Open) == 0 })
	require.Equal(t, Paused, w.head("r").Phase)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 39, Failed: 1}, w.until("r", Completed).Counts())
	w.audit("r")
}

func TestTheIDOfAnotherCommandAnswersNothing(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(strategy(0, whole, 20, "50%"), approval), nil)
	w.until("r", Planned)
	id := w.command(0, "r", events.TypeRolloutResume, events.RolloutCommand{})
	require.Equal(t, events.TypeRolloutRejected, w.answer(id).Why)
	abort := verb(id, events.TypeRolloutAbort, events.RolloutCommand{Name: "r", Reason: "x"})
	w.deliver("r", 0, abort, false)
	w.until("r", Aborted)
}

func TestAShareForAllWavesIsNotRaisedForOneWithoutAnApproval(t *testing.T) {
	t.Parallel()
	w := calm(t, 100)
	w.start("r", with(strategy(0, []string{"10%", "100%"}, 60, "10%"), approval), nil)
	h := w.until("r", Planned)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: h.Digest})
	require.Equal(t, events.TypeRolloutPlanned, w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage("10")}).Why)
	require.Equal(t, events.TypeRolloutChanged, w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxFailed: json.RawMessage(`"9%"`)}).Why)
}

func TestAWindowThatIsTooShortIsNotSet(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", strategy(0, whole, 20, "50%"), nil)
	w.until("r", Running)
	window := json.RawMessage(`{"from": "03:00", "to": "03:01", "timezone": "UTC"}`)
	w.rejected("r", events.TypeRolloutSet, events.RolloutCommand{Window: window}, "a batch may take")
	require.Equal(t, Counts{Done: 20}, w.until("r", Completed).Counts())
}

func TestAnExcludeOfForeignDesktopsStoresNoClaims(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(strategy(0, whole, 20, "50%"), approval), nil)
	w.until("r", Planned)
	foreign := make([]string, 1000)
	for i := range foreign {
		foreign[i] = fmt.Sprintf("foreign-%d", i)
	}
	before := len(w.store)
	w.rejected("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: foreign, Reason: "r"}, "1000 are not part of the rollout")
	after := len(w.store)
	require.Equal(t, before, after)
}

func TestARolloutIsRolledBackOnlyAfterItsAbortHasEnded(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.start("r", strategy(0, []string{"50%", "100%"}, 30, "50%"), nil)
	w.run(10*day, func() bool { h := w.head("r"); return h != nil && h.Counts()[Done] > 0 && h.Counts()[Sent] > 0 })
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "wrong image"})
	h := w.head("r")
	require.Equal(t, Aborting, h.Phase)
	require.NotZero(t, h.Counts()[Done])
	require.Empty(t, h.next())
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "wait until it is aborted")
	w.rejected("r", events.TypeRolloutRetry, events.RolloutCommand{}, "a rollout that is aborting is not retried; start another")
	require.Equal(t, "rollback", w.until("r", Aborted).next()[0].Words[1])
}
