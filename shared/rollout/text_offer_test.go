package rollout

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/store/memstore"
)

// view is the rollout as a reader of the store sees it, with that store.
func (w *world) view(name string) (*View, *memstore.Store) {
	w.t.Helper()
	records := memstore.New()
	for key, v := range w.store {
		_, err := records.Put(w.t.Context(), key, v.value, 0)
		require.NoError(w.t, err)
	}
	v, err := (&Viewer{Store: records, Name: name}).Read(w.t.Context())
	require.NoError(w.t, err)
	return v, records
}

func (w *world) offered(name string) OfferSummary {
	w.t.Helper()
	v, records := w.view(name)
	require.NotNil(w.t, v.Offer)
	o, err := ReadOffer(w.t.Context(), records, v)
	require.NoError(w.t, err)
	return o
}

func TestWhatWaitsForApprovalIsDescribed(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.desktops["d-00004"].image, w.desktops["d-00004"].base = "gone", "gone"
	w.desktops["d-00005"].image, w.desktops["d-00005"].base = "", ""
	w.failing("d-00002")
	w.start("r", with(approval, strategy(0, whole, 9, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.until("r", Completed)

	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	o := w.offered("r")
	require.Equal(t, "retry     1 desktop is rebuilt: the data on their system disks is lost\n", text(o.Lines()))

	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	o = w.offered("r")
	require.Equal(t, "This approves the rollback: 7 desktops are rebuilt, the data on their system disks is lost", o.Question())
	require.Equal(t, `rollback  7 desktops are rebuilt: the data on their system disks is lost
back to   3: image old-0 (private)
          2: image old-1 (private)
          2: image old-2 (private)
left      1 desktop has no way back, its earlier image gone no longer exists: d-00004
left      1 desktop has no way back, its earlier image is not known: d-00005
`, text(o.Lines()))
	v, _ := w.view("r")
	require.Equal(t, []string{Done, Done, Failed, Done, Done, Done, Done, Done, Done}, v.Cells(0, 60))
	require.Contains(t, text(v.Lines(v.Status(w.now), w.now, Layout{CellRows: 1})), "##x######")

	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"D-00007", "d-00004"}})
	require.Equal(t, 1, w.offered("r").Desktops)
}

func TestAChangeThatWaitsForApprovalIsDescribed(t *testing.T) {
	t.Parallel()
	w := calm(t, 9)
	w.start("r", with(approval, strategy(0, whole, 5, "20%")), nil)
	w.until("r", Planned)
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 9, MaxFailed: []byte(`"30%"`)})
	o := w.offered("r")
	require.Equal(t, "change    max_unavailable 9, max_failed 30%\n", text(o.Lines()))
	require.Equal(t, "This approves the change", o.Question())
}

// A person approves a number: it must be that of the desktops whose disks are wiped.
func TestARollbackThatWaitsCountsAsItRuns(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.start("r", with(approval, strategy(0, whole, 20, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.until("r", Completed)
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: w.ids[:12]})
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Offer.Digest})
	require.True(t, w.run(day, func() bool { h := w.head("r"); return h.Phase == RollingBack && len(h.Open) > 0 }))
	w.do("r", events.TypeRolloutExclude, events.RolloutCommand{DesktopIDs: w.ids[19:], Reason: "a guest"})
	w.do("r", events.TypeRolloutAbort, events.RolloutCommand{})
	left := 19 - w.until("r", Aborted).Counts()[BackDone]
	require.Greater(t, left, 7, "some of the 12 are left")
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	o := w.offered("r")
	require.Contains(t, o.Question(), fmt.Sprintf("%d desktops are rebuilt", left))
	require.Contains(t, text(o.Lines()), "1 desktop has no way back, it is excluded: "+w.ids[19])
	r := w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Offer.Digest})
	require.Equal(t, events.TypeRolloutApproved, r.Why)
	require.Equal(t, Counts{BackDone: 19, Done: 1}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// A desktop that failed, and whose user was connected when it was retried, goes back, too.
func TestARollbackThatWaitsCountsThoseThatNoRetryHasReached(t *testing.T) {
	t.Parallel()
	w := calm(t, 10)
	w.failing("d-00001", "d-00002")
	w.start("r", with(approval, strategy(0, whole, 10, "20%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.until("r", Completed)
	w.desktops["d-00001"].login = "CONNECTED"
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{DesktopIDs: w.ids[1:2]})
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Offer.Digest})
	require.True(t, w.run(day, func() bool { return len(w.head("r").waveNumbers(DeferredWave)) > 0 }))
	w.desktops["d-00001"].login = "REGISTERED"
	w.fails = nil

	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{DesktopIDs: []string{"d-00001", "d-00009"}})
	require.Equal(t, "rollback  2 desktops are rebuilt: the data on their system disks is lost\n", text(w.offered("r").Lines()[:1]))
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.Equal(t, `rollback  10 desktops are rebuilt: the data on their system disks is lost
back to   4: image old-0 (private)
          3: image old-1 (private)
          3: image old-2 (private)
`, text(w.offered("r").Lines()))
	now, more := w.head("r").Rebuilds(events.TypeRolloutRollback)
	require.Equal(t, []int{9, 1}, []int{now, more})
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.head("r").Offer.Digest})
	require.Equal(t, Counts{BackDone: 10}, w.until("r", RolledBack).Counts())
	w.audit("r")
}

// After a retry a rollout goes on, also if it was halted: who approves it sees with how many desktops.
func TestTheApprovalOfARetryCountsTheDesktopsThatWait(t *testing.T) {
	t.Parallel()
	w := calm(t, 20)
	w.failing("d-00001", "d-00002")
	w.start("r", with(approval, strategy(0, []string{"50%", "100%"}, 20, "10%")), nil)
	w.do("r", events.TypeRolloutApprove, events.RolloutCommand{PlanSHA256: w.until("r", Planned).Digest})
	w.until("r", Halted)
	w.run(time.Hour, nil)
	w.do("r", events.TypeRolloutRetry, events.RolloutCommand{})
	o := w.offered("r")
	require.Equal(t, `retry     2 desktops are rebuilt: the data on their system disks is lost
then      the rollout goes on with the 10 that wait
`, text(o.Lines()))
	require.Equal(t, "This approves the retry: 2 desktops are rebuilt, the data on their system disks is lost, and the rollout goes on with "+
		"the 10 that wait", o.Question())
	w.do("r", events.TypeRolloutRollback, events.RolloutCommand{})
	require.NotContains(t, w.offered("r").Question(), "goes on", "what was not reached stays as it is")
}
