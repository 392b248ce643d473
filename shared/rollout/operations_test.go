package rollout

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestARetryTakesTheFailedDesktopsOnly(t *testing.T) {
	t.Parallel()
	w := calm(t, 30)
	w.failing("d-00001", "d-00002", "d-00025")
	w.start("r", strategy(0, []string{"50%", "100%"}, 30, "20%"), nil)
	require.Equal(t, Counts{Done: 27, Failed: 3}, w.until("r", Completed).Counts())
	w.fails = nil
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: []string{"d-00001", "d-00003"}})
	require.Equal(t, Counts{Done: 28, Failed: 2}, w.until("r", Completed).Counts())
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 30}, w.until("r", Completed).Counts())
	require.Equal(t, 33, w.accepted)
	w.audit("r")
}

func TestARetryDoesNotForgetABatchThatIsNotSent(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.failing("d-00000")
	w.start("r", strategy(2, whole, 30, "50%"), nil)
	h := w.until("r", Halted)
	require.Equal(t, "canary_max_failed", h.Why)
	one := int64(1)
	w.do("r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &one})
	w.fails = nil
	require.True(t, w.run(day, func() bool {
		for _, o := range w.head("r").Open {
			if o.State == Looking && o.Size > 10 {
				return true
			}
		}
		return false
	}))
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 40}, w.until("r", Completed).Counts())
	w.audit("r")
}

func TestAnAbortAnswersARetryThatWaits(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.failing("d-00001")
	w.start("r", strategy(0, []string{"50%", "100%"}, 20, "20%"), nil)
	w.until("r", Running)
	w.run(day, func() bool { return w.accepted > 10 })
	retry := w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{}, "waits for the end of the batches")
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{Reason: "no"})
	require.Contains(t, w.answer(retry).Reason, "the rollout was aborted")
	require.Equal(t, Counts{Done: 19, Failed: 1}, w.until("r", Aborted).Counts())
	w.rejected("r", events.TypeRolloutAbort, events.RolloutCommand{}, "cannot be aborted")
	w.answers(true)
}

func TestARollbackOfACompletedRolloutBringsBackEachImage(t *testing.T) {
	t.Parallel()
	w := calm(t, 30)
	w.start("r", strategy(1, whole, 20, "20%"), nil)
	require.Equal(t, Counts{Done: 30}, w.until("r", Completed).Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"d-00007"}})
	require.Equal(t, Counts{Done: 29, BackDone: 1}, w.until("r", RolledBack).Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	w.until("r", RollingBack)
	require.Equal(t, Counts{BackDone: 30}, w.until("r", RolledBack).Counts())
	require.Equal(t, 60, w.accepted)
	w.audit("r")
	w.answers(true)
}

// A rollback goes in the waves of the strategy. Only the first one is watched for a while.
func TestARollbackGoesInTheWavesOfTheStrategy(t *testing.T) {
	t.Parallel()
	w := calm(t, 40)
	w.start("r", strategy(3, []string{"10%", "10.01%", "50%", "100%"}, 20, "20%"), nil)
	w.until("r", Completed)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: w.ids[:30]})
	h := w.until("r", RollingBack)
	var sizes []int
	for _, wave := range h.Waves[len(h.Waves)-4:] {
		require.Equal(t, BackWave, wave.Kind)
		sizes = append(sizes, wave.To-wave.From)
	}
	require.Equal(t, []int{3, 1, 11, 15}, sizes, "canary, 10.01%, 50%, 100%")
	h = w.until("r", RolledBack)
	require.Equal(t, Counts{Done: 10, BackDone: 30}, h.Counts())
	for i, wave := range h.Waves[len(h.Waves)-4:] {
		soak := wave.Judged.Sub(wave.Ended)
		require.Equal(t, i == 0, soak >= 10*time.Minute, "wave %d soaks %v", i, soak)
	}
	w.audit("r")
}

// The outcome of a rollback can be unknown. Named once its call can no longer take effect, the desktop is rolled back.
func TestADesktopOfUnknownOutcomeInARollbackIsRolledBackByName(t *testing.T) {
	t.Parallel()
	for _, acted := range []bool{true, false} {
		w := calm(t, 9)
		w.start("r", strategy(0, whole, 9, "4"), nil)
		w.until("r", Completed)
		w.refuse = func(c *call) (string, string) {
			if !slices.Contains(c.ids, "d-00003") {
				return "", ""
			}
			if acted {
				w.desktops["d-00003"].image = "old-0"
			}
			return "unknown_outcome", events.EffectUnknown
		}
		w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"d-00003", "d-00004"}})
		require.Equal(t, Counts{Done: 7, BackDone: 1, Unknown: 1}, w.until("r", RolledBack).Counts())
		w.refuse = nil
		w.rejected("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"d-00003"}},
			"1 stay unknown: their calls may still take effect: d-00003")
		w.run(time.Hour, nil)
		r := w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"d-00005"}})
		require.Equal(t, "rollback of 1 desktop", r.Reason)
		w.until("r", RolledBack)
		before := w.accepted
		w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"D-00003"}})
		require.Equal(t, Counts{Done: 6, BackDone: 3}, w.until("r", RolledBack).Counts())
		require.Equal(t, map[bool]int{true: 0, false: 1}[acted], w.accepted-before, "one that has its image is not rebuilt")
		require.Contains(t, w.do("r", events.TypeRolloutRollback, events.RolloutCommand{}).Reason, "rollback of 6 desktops")
		require.Equal(t, Counts{BackDone: 9}, w.until("r", RolledBack).Counts())
		w.audit("r")
	}
}

func TestDesktopsWithoutAWayBackStayAsTheyAre(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.desktops["d-00004"].image, w.desktops["d-00004"].base = "gone", "gone"
	w.desktops["d-00005"].image, w.desktops["d-00005"].base = "", ""
	w.start("r", strategy(0, whole, 9, "20%"), nil)
	require.Equal(t, Counts{Done: 9}, w.until("r", Completed).Counts())
	r := w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Contains(t, r.Reason, "rollback of 7 desktops; 2 have no way back: d-00004: its earlier image gone no longer exists")
	require.Equal(t, Counts{Done: 2, BackDone: 7}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A rebuild needs the type of the image, and its operating system need not be that of the new one.
func TestARollbackSendsWhatIsKnownOfTheEarlierImage(t *testing.T) {
	t.Parallel()
	for _, change := range []bool{false, true} {
		w := calm(t, 4)
		w.desktops["d-00002"].noType = true
		w.start("r", with(strategy(0, whole, 4, "20%"), map[string]any{
			"image":   map[string]any{"image_id": "new", "image_type": "private", "os_type": "Linux"},
			"options": map[string]any{"allow_os_change": change},
		}), nil)
		w.until("r", Completed)
		w.onAccepted = func(c *call) {
			var d events.Rebuild
			require.NoError(t, json.Unmarshal(c.message.Data, &d))
			require.Equal(t, map[bool]string{false: "Linux", true: ""}[change], d.OSType)
			require.Equal(t, "private", d.ImageType)
		}
		w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
		require.True(t, w.run(day, func() bool { return w.head("r").Phase == RollingBack }))
		require.Contains(t, w.head("r").Reason, "1 have no way back: d-00002: the type of its earlier image is not known")
		require.Equal(t, Counts{Done: 1, BackDone: 3}, w.until("r", RolledBack).Counts())
	}
}

// A retry of some desktops does not accept that the others have failed.
func TestARetryAcceptsNoFailures(t *testing.T) {
	t.Parallel()
	w := calm(t, 60)
	bad := map[string]bool{}
	w.fails = func(id string, _ Message) bool { return bad[id] }
	for _, id := range []string{"d-00001", "d-00002", "d-00003", "d-00004"} {
		bad[id] = true
	}
	w.start("r", with(strategy(0, []string{"50%", "100%"}, 60, "2")), nil)
	require.Equal(t, 4, w.until("r", Halted).Counts()[Failed])
	delete(bad, "d-00001")
	w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: []string{"d-00001"}})
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h.Phase == Halted && h.Counts()[Failed] == 3 && len(h.Open) == 0 }), w)
	require.Equal(t, Counts{Done: 27, Failed: 3, Pending: 30}, w.head("r").Counts(), "the retry ran, and no other wave")
	bad = map[string]bool{}
	w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	require.Equal(t, Counts{Done: 60}, w.until("r", Completed).Counts())
}

// What was accepted before a retry counts no longer once the retry has taken it up.
func TestARetryTakesBackWhatWasAccepted(t *testing.T) {
	t.Parallel()
	w := calm(t, 60)
	bad := map[string]bool{"d-00001": true, "d-00002": true, "d-00003": true, "d-00004": true}
	w.fails = func(id string, _ Message) bool { return bad[id] }
	w.start("r", with(strategy(0, []string{"50%", "100%"}, 60, "2")), nil)
	w.until("r", Halted)
	accepted := int64(4)
	w.command(0, "r", events.TypeRolloutResume, events.RolloutCommand{AcceptFailed: &accepted})
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h.Phase == Running && len(h.Open) > 0 }), w)
	bad = map[string]bool{"d-00041": true, "d-00042": true, "d-00043": true}
	w.command(0, "r", events.TypeRolloutRetry, events.RolloutCommand{})
	h := w.until("r", Halted)
	require.Equal(t, 3, h.Counts()[Failed], w)
}
