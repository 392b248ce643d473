//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
	"recompose/shared/workspace"
)

// Each of these aims at one moment in the life of a write, with processes that are killed and frozen. What happens
// at the service is counted there.

func TestAWorkerThatStoodStillBeforeItsCallSendsNothing(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300")
	stopped, gate := a.gated(cmd)
	a.rebuild(cmd)
	list := gate.reached()
	stopped.freeze(t)
	_, err := list.WriteString(strings.Join(cmd.DesktopIDs, "\n"))
	require.NoError(t, err)
	require.NoError(t, list.Close())
	other := a.working()
	call := a.requested(1)[0] // past lease and fence
	require.Equal(t, emulator.EffectJob, call.Effect)
	stopped.thaw(t)
	eventually(t, func() bool {
		return strings.Contains(stopped.err.String(), "was suspended before its call") || a.quiet() == ""
	}, "it does not continue")
	a.honest(cmd)
	require.Len(t, a.calls(emulator.CallRebuild), 1)
	require.Equal(t, 1, strings.Count(other.err.String(), "is proved absent and is made once more"))
	require.Equal(t, events.Succeeded, a.completed("c").Outcome)
}

func TestACallThatComesLateIsRefusedAndRepeatedOnce(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300")
	hold := make(chan struct{})
	way := a.way(chaostest.Until(hold))
	stopped := a.workerOf([]string{"rebuild"}, along(way)) // so that nothing else waits for it
	a.rebuild(cmd)
	eventually(t, func() bool { return way.Held.Load() == 1 }, "the worker does not call")
	stopped.freeze(t) // its call is on its way
	a.working()
	require.Equal(t, emulator.EffectJob, a.requested(1)[0].Effect, "another worker's")
	close(hold)
	late := a.requested(2)[1]
	require.Equal(t, 401, late.Status, "the service refuses the old signature")
	require.Empty(t, late.Effect)
	stopped.thaw(t)
	a.honest(cmd)
	require.Len(t, a.calls(emulator.CallRebuild), 2)
	require.Len(t, a.accepted(), 1)
	require.Equal(t, events.Succeeded, a.completed("c").Outcome)
}

func TestTheJobOfAKilledWorkerIsAdopted(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300")
	killed := a.working()
	a.faults(emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Delay: time.Minute}})
	a.rebuild(cmd)
	call := a.requested(1)[0] // taken, and not answered
	killed.kill()
	a.faults()
	a.working()
	a.honest(cmd)
	require.Len(t, a.calls(emulator.CallRebuild), 1)
	done := a.completed("c")
	require.Equal(t, call.JobID, done.JobID)
	require.Equal(t, events.Succeeded, done.Outcome)
	require.Equal(t, 1, a.logged("its job adopted"))
}

func TestTheIntentOfAKilledWorkerIsCarriedOutByAnother(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300")
	killed, gate := a.gated(cmd)
	a.rebuild(cmd)
	begun := time.Now()
	gate.reached()
	killed.kill()
	a.working()
	a.honest(cmd)
	calls := a.calls(emulator.CallRebuild)
	require.Len(t, calls, 1)
	require.Greater(t, calls[0].Time.Sub(begun), a.window, "not before the killed worker's call could not be taken any more")
	require.Equal(t, events.Succeeded, a.completed("c").Outcome)
}

func TestALostCallIsRepeatedOnceAndOnlyPastTheFence(t *testing.T) {
	t.Parallel()
	for name, credentials := range map[string]func(*arena) []string{
		"an access key": func(*arena) []string { return aksk() }, "the keys of an agency": (*arena).agency,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, cmd := stage(t, 2, "300")
			a.faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropBefore}})
			a.working(credentials(a)...)
			a.working(credentials(a)...)
			a.rebuild(cmd)
			a.honest(cmd)
			calls := a.calls(emulator.CallRebuild)
			require.Len(t, calls, 2)
			require.Empty(t, calls[0].Effect)
			require.Equal(t, emulator.EffectJob, calls[1].Effect)
			require.Greater(t, calls[1].Time.Sub(calls[0].Time), a.window)
			require.Equal(t, calls[1].JobID, a.completed("c").JobID)
		})
	}
}

func TestALostCallIsNotRepeatedWhereThatIsNotAllowed(t *testing.T) {
	t.Parallel()
	token := func(a *arena) []string { return []string{"RECOMPOSE_AUTH_TOKEN=" + a.token()} }
	for name, setting := range map[string]func(*arena) []string{
		"turned off":                      func(*arena) []string { return []string{"RECOMPOSE_RESEND=never"} },
		"a token is no fence":             token,
		"a token, and a worker is killed": token,
		"a login is no fence":             (*arena).login,
		"a login, and a worker is killed": (*arena).login,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, cmd := stage(t, 2, "300")
			fault := emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Drop: emulator.DropBefore}}
			kill := strings.HasSuffix(name, "killed")
			if kill {
				fault.Do.Delay = time.Minute
			}
			a.faults(fault)
			env := setting(a)
			worker := a.working(env...)
			a.rebuild(cmd)
			a.requested(1)
			if kill {
				worker.kill()
			}
			a.faults()
			a.working(env...)
			a.honest(cmd)
			require.Len(t, a.calls(emulator.CallRebuild), 1)
			require.Empty(t, a.accepted())
			failed := a.failed("c")
			require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
			require.Equal(t, events.EffectUnknown, failed.Effect)
			require.Equal(t, cmd.DesktopIDs, failed.DesktopIDs)
		})
	}
}

func TestTheSameCommandForManyWorkersAtOnceIsOneCall(t *testing.T) {
	t.Parallel()
	const commands, copies = 25, 6
	a := newArena(t, settings{desktops: commands, window: proofWindow, speed: "300", pace: "20"})
	for range 3 {
		a.working()
	}
	state := a.state()
	image, kind := chaostest.OtherImage(t, state)
	about, roots := map[string][]string{}, []string{}
	for i, d := range state.Desktops {
		id := fmt.Sprintf("c%02d", i)
		about[id], roots = []string{d.DesktopID}, append(roots, id)
		cmd := events.Rebuild{DesktopIDs: about[id], ImageID: image, ImageType: kind}
		for n := range copies { // not waiting for one another
			_, err := a.js.PublishMsgAsync(command(t, id, events.TypeRebuild, fmt.Sprint(id, "/", n), cmd))
			require.NoError(t, err)
		}
	}
	<-a.js.PublishAsyncComplete()
	a.settle(within, roots...)
	chaostest.Once(t, a.events(), roots)
	chaostest.Take(t, a.events(), a.state(), about).Honest()
	require.Len(t, a.calls(emulator.CallRebuild), commands)
	require.Len(t, a.accepted(), commands)
}

func TestOneDeletedDesktopAmongManyStopsNoOther(t *testing.T) {
	t.Parallel()
	const fleet = 149
	a, cmd := stage(t, fleet, "300")
	gone := "gone-0000-0000"
	cmd.DesktopIDs = slices.Insert(cmd.DesktopIDs, 70, gone)
	a.working()
	a.working()
	a.rebuild(cmd)
	a.honest(cmd)
	account := chaostest.Take(t, a.events(), a.state(), map[string][]string{"c": cmd.DesktopIDs})
	for _, id := range cmd.DesktopIDs {
		end := account.Rebuilt[id][0]
		if id == gone {
			require.Equal(t, chaostest.Ending{Command: end.Command, Effect: events.EffectNone, Kind: events.KindNotFound}, end)
			continue
		}
		require.Equal(t, events.Succeeded, end.Outcome, id)
	}
	require.Len(t, account.Rebuilt, fleet+1)
}

func TestNothingIsDoneTwiceWhereTheServiceDoesNotShowItsJobs(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "20") // the job outlasts the search
	a.faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropAfter}},
		emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "sub-jobs-empty"}})
	a.working()
	a.working()
	a.rebuild(cmd)
	a.honest(cmd)
	require.Len(t, a.calls(emulator.CallRebuild), 1)
	require.Len(t, a.accepted(), 1)
	failed := a.failed("c")
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Equal(t, events.EffectUnknown, failed.Effect)
}

func TestAListThatIsNotWholeProvesNothing(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300")
	way := a.way(nil)
	short := func(path string, body []byte) []byte {
		var list map[string]any
		if !strings.HasSuffix(path, "/workspace-sub-jobs") || json.Unmarshal(body, &list) != nil {
			return body
		}
		list["total_count"] = 1000 // more than it shows
		changed, _ := json.Marshal(list)
		return changed
	}
	way.Turn.Store(&short)
	a.faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropBefore}})
	a.working(along(way))
	a.rebuild(cmd)
	a.honest(cmd)
	require.Len(t, a.calls(emulator.CallRebuild), 1)
	failed := a.failed("c")
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, "incomplete")
}

func TestTheJobOfAnotherClientIsNotAdopted(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 3, "300")
	others := cmd.DesktopIDs
	cmd.DesktopIDs = others[:2]
	a.faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropBefore}})
	a.working()
	a.working()
	a.rebuild(cmd)
	a.requested(1)
	byHand := a.byHand()
	theirs, err := byHand.Rebuild(t.Context(), byHand.ServiceNow(), workspace.RebuildRequest{DesktopIDs: others, ImageID: cmd.ImageID, ImageType: cmd.ImageType})
	require.NoError(t, err)
	a.settle(within, "c")
	failed := a.failed("c")
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, theirs.JobID)
	require.Len(t, a.accepted(), 1)
	require.Len(t, a.calls(emulator.CallRebuild), 2, "ours that was lost, and theirs")
}

func TestAnOlderJobIsNotAdopted(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300") // the times of its jobs have no zone
	byHand := a.byHand()
	older, err := byHand.Rebuild(t.Context(), byHand.ServiceNow(), workspace.RebuildRequest{DesktopIDs: cmd.DesktopIDs, ImageID: cmd.ImageID, ImageType: cmd.ImageType})
	require.NoError(t, err)
	idle := func() bool {
		return !slices.ContainsFunc(a.state().Desktops, func(d emulator.Desktop) bool { return d.TaskStatus != "" || d.Notes == nil || d.Notes.Rebuilds != 1 })
	}
	eventually(t, idle, "the older job does not end")
	cmd.RebuildCurrent = true // to the image that they run by now
	a.faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropBefore}})
	a.working()
	a.working()
	a.rebuild(cmd)
	a.settle(within, "c")
	done := a.completed("c")
	require.NotEqual(t, older.JobID, done.JobID)
	require.Equal(t, events.Succeeded, done.Outcome)
	require.Len(t, a.accepted(), 2, "the older one, and ours once")
	require.Equal(t, 1, a.logged("is made once more"))
}
