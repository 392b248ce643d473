package rollout

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func named(ids ...string) map[string]any {
	return map[string]any{"targets": map[string]any{"desktop_ids": ids}}
}

// It is not known whether the service takes an id in another letter case for the same desktop.
func TestAClaimHoldsInEveryLetterCase(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.desktops["D-00003"] = w.desktops["d-00003"] // the service accepts both
	w.start("one", nil, nil)
	w.until("one", Running)
	second := w.start("two", named("D-00003"), nil)
	require.Contains(t, w.answer(second).Reason, "rollout one holds 1 of the desktops: d-00003")
	w.until("two", Aborted)
	require.Equal(t, Counts{Done: 10}, w.until("one", Completed).Counts())
}

func TestTargetsExclusionsAndRetriesIgnoreTheLetterCase(t *testing.T) {
	t.Parallel()
	w := calm(t, 4)
	w.failing("d-00002")
	one := int64(1)
	w.start("r", with(named("d-00000", "d-00001", "d-00002", "d-00003"), strategy(1, []string{"50%", "100%"}, 4, "50%")), nil)
	w.until("r", Running)
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: []string{"D-00003"}, Reason: "a guest"})
	h := w.until("r", Completed)
	require.Equal(t, Counts{Done: 2, Excluded: 1, Failed: 1}, h.Counts())
	w.fails = nil
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: []string{"D-00002"}, AcceptFailed: &one})
	require.Equal(t, Counts{Done: 3, Excluded: 1}, w.until("r", Completed).Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"D-00001"}})
	require.Equal(t, Counts{Done: 2, BackDone: 1, Excluded: 1}, w.until("r", RolledBack).Counts())

	plan := MakePlan(PlanInput{
		Spec: h.Spec, IDs: []string{"D-00001", "d-00001", "D-00002"},
		Fleet: []Desktop{{ID: "d-00001", Status: "ACTIVE"}, {ID: "d-00002", Status: "ACTIVE"}, {ID: "d-00003", Status: "ACTIVE"}},
	})
	var planned []string
	for _, slot := range plan.Slots {
		planned = append(planned, slot.ID)
	}
	slices.Sort(planned)
	require.Equal(t, "d-00001 d-00002", strings.Join(planned, " "), "the service's own spelling, each desktop once")
}

// An image id is compared like that of a desktop: else no desktop would be seen to run it.
func TestAnImageIsTheSameInEveryLetterCase(t *testing.T) {
	t.Parallel()
	w := calm(t, 6)
	w.showsUpperCase = true
	w.desktops["d-00004"].image = "new"
	w.start("r", with(strategy(1, []string{"50%", "100%"}, 6, "50%")), nil)
	h := w.until("r", Completed)
	require.Equal(t, Counts{Done: 5, Skipped: 1}, h.Counts())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, Counts{BackDone: 5, Skipped: 1}, w.until("r", RolledBack).Counts())
	drift := Drift(PlanInput{Image: h.Image, IDs: []string{"d-1", "d-2"}, Fleet: []Desktop{{ID: "d-1", Image: "New"}, {ID: "d-2", Image: "other"}}})
	require.Equal(t, 1, drift.Same)
}
