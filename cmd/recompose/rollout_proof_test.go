//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/testkit/chaostest"
)

// failing lets the next rebuild of these desktops fail.
func (f *stand) failing(ids ...string) {
	f.t.Helper()
	var faults []emulator.Fault
	for _, id := range ids {
		faults = append(faults, emulator.Fault{Call: emulator.CallRebuild, DesktopID: id, Times: 1, Do: emulator.Do{Job: "fail", ErrorCode: "WKS.00010050"}})
	}
	f.faults(faults...)
}

// mostOnce checks that no desktop was part of more accepted calls than one.
func (f *stand) mostOnce() {
	f.t.Helper()
	calls := map[string]int{}
	for _, c := range acceptedWrites(f.t, f.url) {
		for _, id := range c.DesktopIDs {
			calls[id]++
			require.Equal(f.t, 1, calls[id], id)
		}
	}
}

// A rollout halts when one desktop more has failed than its threshold allows, and not before.
func TestARolloutEndsByItsThresholds(t *testing.T) {
	t.Parallel()
	for allowed, phase := range map[int]string{5: rollout.Halted, 6: rollout.Completed} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			f := small(t, 300)
			f.working()
			var bad []string // 2% of all: none in the canary, two in the first wave and four in the second
			for _, n := range []int{20, 90, 160, 200, 250, 290} {
				bad = append(bad, f.order()[n])
			}
			f.failing(bad...)
			spec := f.spec("thresholds")
			spec.Strategy = rollout.Strategy{Canary: 10, Waves: []string{"50%", "100%"}, MaxUnavailable: 100, MaxFailed: rollout.Amount{Number: allowed}}
			f.start(spec)
			h := f.comesTo("thresholds", rollout.Halted, rollout.Completed)
			require.Equal(t, phase, h.Phase)
			f.until(func() bool { h = f.head("thresholds"); return len(h.Open) == 0 }, "the batches do not end")
			require.Equal(t, rollout.Counts{rollout.Done: 294, rollout.Failed: 6}, h.Counts())
			f.mostOnce()
			times, _ := f.rebuiltTimes()
			for _, id := range f.ids {
				require.Equal(t, !slices.Contains(bad, id), times[id] == 1, "%s: %d", id, times[id])
			}
		})
	}
}

// order are the desktops in the order in which a rollout takes them: where all are alike, by id.
func (f *stand) order() []string { return slices.Sorted(slices.Values(f.ids)) }

// A batch waits in the queue while no worker rebuilds. Whatever stops the rollout in the meantime stops the batch: a
// worker that comes later makes no call.
func TestABatchInTheQueueIsStopped(t *testing.T) {
	t.Parallel()
	others := []string{events.FnRollout, events.FnListDesktops, events.FnListImages, events.FnCheckImages, events.FnWatchJob}
	queued := func(t *testing.T, change func(*rollout.Spec)) *stand {
		t.Helper()
		f := small(t, 4)
		f.workerOf(others).prints(t, "working on")
		spec := f.spec("queued")
		if change != nil {
			change(&spec)
		}
		f.start(spec)
		f.until(func() bool {
			open := f.head("queued").Open
			return len(open) == 1 && open[0].State == rollout.Sent
		}, "no batch is sent")
		return f
	}
	expired := func(f *stand) {
		f.t.Helper()
		f.workerOf([]string{events.FnRebuild}).prints(f.t, "working on")
		var failed []events.CommandFailed
		f.until(func() bool {
			failed = nil
			for _, e := range f.events() {
				if e.Type == events.TypeCommandFailed && e.Source == events.Source(events.FnRebuild) {
					failed = append(failed, chaostest.Read[events.CommandFailed](f.t, e))
				}
			}
			return len(failed) > 0
		}, "the batch does not end")
		require.Equal(f.t, events.KindExpired, failed[0].Error.Kind)
		require.Equal(f.t, events.EffectNone, failed[0].Effect)
	}
	t.Run("paused", func(t *testing.T) {
		t.Parallel()
		f := queued(t, nil)
		f.answered(f.verb(events.TypeRolloutPause, events.RolloutCommand{Name: "queued", Reason: "look first"}), events.TypeRolloutPaused)
		expired(f)
		f.until(func() bool { return f.head("queued").Counts()[rollout.Sent] == 0 }, "the desktops do not return")
		require.Equal(t, rollout.Counts{rollout.Pending: 4}, f.head("queued").Counts())
		require.Empty(t, acceptedWrites(t, f.url))
		f.answered(f.verb(events.TypeRolloutResume, events.RolloutCommand{Name: "queued"}), events.TypeRolloutResumed)
		f.comesTo("queued", rollout.Completed)
		f.mostOnce()
	})
	t.Run("aborted", func(t *testing.T) {
		t.Parallel()
		f := queued(t, nil)
		f.answered(f.verb(events.TypeRolloutAbort, events.RolloutCommand{Name: "queued", Reason: "a mistake"}), events.TypeRolloutChanged)
		expired(f)
		f.comesTo("queued", rollout.Aborted)
		require.Empty(t, acceptedWrites(t, f.url))
	})
	t.Run("the window closes", func(t *testing.T) {
		t.Parallel()
		var until time.Time
		f := queued(t, func(s *rollout.Spec) {
			until = time.Now().UTC().Add(90 * time.Second).Truncate(time.Minute) // in 30 s at the earliest
			s.Window = &rollout.Window{From: until.Add(-6 * time.Hour).Format("15:04"), To: until.Format("15:04"), Timezone: "UTC"}
		})
		<-time.After(time.Until(until)) // the window is one of the real clock
		expired(f)
		f.until(func() bool { return f.head("queued").Counts()[rollout.Sent] == 0 }, "the desktops do not return")
		require.Equal(t, "window", f.head("queued").Waiting.Reason)
		require.Empty(t, acceptedWrites(t, f.url))
	})
	t.Run("writes are frozen", func(t *testing.T) {
		t.Parallel()
		f := queued(t, func(s *rollout.Spec) {
			until := time.Now().UTC().Add(90 * time.Second).Truncate(time.Minute)
			s.Window = &rollout.Window{From: until.Add(-6 * time.Hour).Format("15:04"), To: until.Format("15:04"), Timezone: "UTC"}
		})
		require.Equal(t, exitDone, finish(t, f.env[:1], "freeze", "--reason", "look first").code)
		f.workerOf([]string{events.FnRebuild}).prints(t, "working on")
		f.until(func() bool { return f.head("queued").Counts()[rollout.Pending] == 4 }, "the desktops do not return")
		require.Empty(t, acceptedWrites(t, f.url))
	})
}

func TestOnlyThePlanThatWasReadIsApproved(t *testing.T) {
	t.Parallel()
	f := small(t, 4)
	f.working()
	spec := f.spec("read")
	spec.Approval = rollout.Approval{Required: true, Within: rollout.Duration(time.Hour)}
	raw, err := json.Marshal(spec)
	require.NoError(t, err)
	plan := f.answered(f.verb(events.TypeRolloutStart, events.RolloutCommand{Spec: raw, PlanOnly: true}), events.TypeRolloutPlanned)

	// Somebody else rebuilds a desktop: the plan is another.
	cmd := events.Rebuild{DesktopIDs: f.ids[:1], ImageID: spec.Image.ImageID, ImageType: spec.Image.ImageType}
	f.send("by-hand", events.TypeRebuild, cmd)
	f.settle(within, "by-hand")
	now := f.answered(f.start(spec), events.TypeRolloutPlanned)
	require.NotEqual(t, plan.Digest, now.Digest)
	why := f.refused(f.verb(events.TypeRolloutApprove, events.RolloutCommand{Name: "read", PlanSHA256: plan.Digest, By: "a"}))
	require.Contains(t, why, "the plan in force is "+now.Digest)
	require.Equal(t, rollout.Planned, f.head("read").Phase)
	require.Contains(t, f.refused(f.start(spec)), "name: read was used before")
	require.Len(t, acceptedWrites(t, f.url), 1)

	f.answered(f.verb(events.TypeRolloutApprove, events.RolloutCommand{Name: "read", PlanSHA256: now.Digest, By: "a"}), events.TypeRolloutApproved)
	h := f.comesTo("read", rollout.Completed)
	require.Equal(t, rollout.Counts{rollout.Done: 3, rollout.Skipped: 1}, h.Counts())
	require.Contains(t, f.refused(f.start(spec)), "name: read was used before")
	f.mostOnce()
}

func TestADesktopIsInOneRollout(t *testing.T) {
	t.Parallel()
	f := small(t, 4)
	f.working()
	first, second := f.spec("first"), f.spec("second")
	first.Targets.DesktopIDs, second.Targets.DesktopIDs = f.ids[:3], f.ids[2:]
	first.Approval = rollout.Approval{Required: true, Within: rollout.Duration(time.Hour)} // it stays
	plan := f.answered(f.start(first), events.TypeRolloutPlanned)
	f.answered(f.verb(events.TypeRolloutApprove, events.RolloutCommand{Name: "first", PlanSHA256: plan.Digest}), events.TypeRolloutApproved)
	f.answered(f.verb(events.TypeRolloutPause, events.RolloutCommand{Name: "first", Reason: "wait"}), events.TypeRolloutPaused)
	why := f.refused(f.start(second))
	require.Contains(t, why, "first")
	require.Contains(t, why, f.ids[2])

	cmd := events.Rebuild{DesktopIDs: f.ids[2:3], ImageID: first.Image.ImageID, ImageType: first.Image.ImageType}
	f.send("plain", events.TypeRebuild, cmd)
	f.until(func() bool { return len(f.ends("plain")) > 0 }, "the command does not end")
	failed := f.failed("plain")
	require.Equal(t, events.KindConflict, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, "rollout first holds "+f.ids[2])
	require.Empty(t, acceptedWrites(t, f.url))
	cmd.OverrideRollout = true
	f.send("overriding", events.TypeRebuild, cmd)
	f.until(func() bool { return len(f.ends("overriding")) > 0 }, "the command does not end")
	require.Equal(t, events.Succeeded, f.completed("overriding").Outcome)

	f.answered(f.verb(events.TypeRolloutAbort, events.RolloutCommand{Name: "first", Reason: "over"}), events.TypeRolloutChanged)
	f.comesTo("first", rollout.Aborted)
	third := f.spec("third") // the claims of one that is over are void
	f.start(third)
	f.comesTo("third", rollout.Completed)
	f.mostOnce()
}

func TestACanaryOfWhichEveryDesktopIsInUse(t *testing.T) {
	t.Parallel()
	f := small(t, 6)
	f.working()
	spec := f.spec("in-use")
	spec.Strategy.Canary = 2
	spec.Users.Connected = rollout.Skip
	spec.Approval = rollout.Approval{Required: true, Within: rollout.Duration(time.Hour)}
	plan := f.answered(f.start(spec), events.TypeRolloutPlanned)
	canary := f.head("in-use").Canary
	require.Len(t, canary, 2)
	for _, pick := range canary {
		f.users(emulator.User{DesktopID: pick.ID, LoginStatus: "CONNECTED"})
	}
	f.answered(f.verb(events.TypeRolloutApprove, events.RolloutCommand{Name: "in-use", PlanSHA256: plan.Digest}), events.TypeRolloutApproved)
	h := f.comesTo("in-use", rollout.Completed)
	require.Equal(t, rollout.Counts{rollout.Done: 4, rollout.Skipped: 2}, h.Counts())
	require.Equal(t, 4, h.Waves[0].To-h.Waves[0].From, "two other desktops took their place in the canary")
	times, inUse := f.rebuiltTimes()
	require.Zero(t, inUse)
	for _, pick := range canary {
		require.Zero(t, times[pick.ID])
	}
}

func TestEveryDesktopIsInUse(t *testing.T) {
	t.Parallel()
	f := small(t, 4)
	f.working()
	f.users(emulator.User{Every: 1, LoginStatus: "CONNECTED"})
	spec := f.spec("all-in-use")
	spec.Users.Connected = rollout.Skip
	f.start(spec)
	f.until(func() bool { p := f.head("all-in-use").Phase; return p == rollout.Halted || rollout.Over(p) }, "it does not end")
	require.Empty(t, acceptedWrites(t, f.url))
	require.Equal(t, rollout.Counts{rollout.Skipped: 4}, f.head("all-in-use").Counts())
}

func TestResumeAfterAHaltNamesWhatIsAccepted(t *testing.T) {
	t.Parallel()
	f := small(t, 10)
	f.working()
	spec := f.spec("halted")
	spec.Strategy.Canary, spec.Strategy.Waves = 2, []string{"50%", "100%"}
	f.failing(f.order()[0], f.order()[3])
	f.start(spec)
	h := f.comesTo("halted", rollout.Halted)
	require.Equal(t, "canary_max_failed", h.Why)
	resume := func(n *int64) string {
		return f.verb(events.TypeRolloutResume, events.RolloutCommand{Name: "halted", AcceptFailed: n})
	}
	one, two := int64(1), int64(2)
	require.Contains(t, f.refused(resume(nil)), "accept_failed: must be given after a halt")
	require.Contains(t, f.refused(resume(&two)), "must be the present number of failed desktops, 1; got 2")
	require.Equal(t, rollout.Halted, f.head("halted").Phase)
	f.answered(resume(&one), events.TypeRolloutResumed)
	f.until(func() bool { h = f.head("halted"); return h.Phase == rollout.Halted && h.Counts()[rollout.Failed] == 2 }, "later failures do not count")
	f.until(func() bool { h = f.head("halted"); return len(h.Open) == 0 }, "the batches do not end")
	f.answered(resume(&two), events.TypeRolloutResumed)
	h = f.comesTo("halted", rollout.Completed)
	require.Equal(t, rollout.Counts{rollout.Done: 8, rollout.Failed: 2}, h.Counts())
	f.mostOnce()
}

// The gap between the check and the call is short, and it is there: who logs in then is counted.
func TestAUserWhoLogsInBetweenCheckAndCallIsCounted(t *testing.T) {
	t.Parallel()
	f := small(t, 4)
	f.working()
	spec := f.spec("gap")
	spec.Users.Connected = rollout.Skip
	spec.Approval = rollout.Approval{Required: true, Within: rollout.Duration(time.Hour)}
	plan := f.answered(f.start(spec), events.TypeRolloutPlanned) // the fleet is read
	unlucky := f.order()[3]
	f.users(emulator.User{DesktopID: unlucky, AfterCall: emulator.CallListDesktops, LoginStatus: "CONNECTED"})
	f.answered(f.verb(events.TypeRolloutApprove, events.RolloutCommand{Name: "gap", PlanSHA256: plan.Digest}), events.TypeRolloutApproved)
	f.comesTo("gap", rollout.Completed)
	times, inUse := f.rebuiltTimes()
	require.Equal(t, 1, inUse)
	require.Equal(t, all(f.ids, 1), times)
}

// A service that does not do what its documentation describes changes nothing but the number of calls.
func TestAFleetIsReadRightThroughAServiceThatListsWrongly(t *testing.T) {
	t.Parallel()
	for _, quirks := range []string{
		"list-filters-ignored", "list-first-id", "list-pages-capped", "list-random-order", "list-total-of-all", "list-total-missing",
		"list-filters-ignored,list-pages-capped", "list-filters-ignored,list-pages-capped,list-total-missing",
	} {
		t.Run(quirks, func(t *testing.T) {
			t.Parallel()
			f := newStand(t, settings{desktops: 250, window: proofWindow, speed: "600", pace: "60", seed: severalImages(2)})
			f.working()
			f.faults(emulator.Fault{Call: emulator.CallListDesktops, Do: emulator.Do{Quirk: quirks}})
			spec := f.spec("quirk")
			spec.Targets = rollout.Targets{Where: &rollout.Where{ImageID: "earlier-1"}}
			spec.Strategy.MaxUnavailable = 250
			f.start(spec)
			h := f.comesTo("quirk", rollout.Completed)
			require.Equal(t, 125, h.Counts()[rollout.Done], fmt.Sprint(h.Counts()))
			times, _ := f.rebuiltTimes()
			for _, id := range f.ids {
				require.Equal(t, f.before[id] == "earlier-1", times[id] == 1, "%s: %d", id, times[id])
			}
			f.mostOnce()
		})
	}
	t.Run("desktops are deleted between pages", func(t *testing.T) {
		t.Parallel()
		f := newStand(t, settings{desktops: 250, window: proofWindow, speed: "600", pace: "60", seed: severalImages(2)})
		f.working()
		f.faults(
			emulator.Fault{Call: emulator.CallListDesktops, Times: 1, Do: emulator.Do{Quirk: "list-pages-capped"}},
			emulator.Fault{Call: emulator.CallListDesktops, Do: emulator.Do{Quirk: "list-pages-capped,list-desktop-deleted"}},
		)
		spec := f.spec("deleted")
		spec.Strategy.MaxUnavailable, spec.Strategy.MaxFailed = 250, rollout.Amount{Number: 1}
		f.start(spec)
		h := f.comesTo("deleted", rollout.Completed)
		times, _ := f.rebuiltTimes()
		gone := f.state().Desktops[0].DesktopID
		require.Zero(t, times[gone], "it is not listed directly before the call")
		require.Equal(t, 249, h.Counts()[rollout.Done], fmt.Sprint(h.Counts()))
		f.mostOnce()
	})
}
