package rebuild_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func lose(r *functiontest.Rig, more ...emulator.Fault) {
	r.Faults(append([]emulator.Fault{{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "after"}}}, more...)...)
}

func TestALostCallIsFoundByWhateverNameAndTimeItsJobHas(t *testing.T) {
	t.Parallel()
	for name, quirk := range map[string]string{"as it is": "", "type spelled otherwise": "job-type-typo", "listed late": "sub-jobs-empty"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 5)
			lose(r)
			d := command(r)
			first := r.Process(function(r), d)
			functiontest.Unclear(t, first)
			if quirk != "" {
				times := 0
				if quirk == "sub-jobs-empty" {
					times = 4
				}
				r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Times: times, Do: emulator.Do{Quirk: quirk}})
			}
			a := functiontest.OnlyData[events.JobAccepted](t, r.Follow(function(r), r.Later(first.Delay)))
			require.Equal(t, r.Desktops, a.DesktopIDs)
			require.Len(t, a.Previous, 5)
			require.False(t, a.Deadline.IsZero())
			_, accepted := r.Calls(emulator.CallRebuild)
			require.Equal(t, 1, accepted)
		})
	}
}

func TestAnOlderJobOfTheDesktopsIsNotTakenForTheLostOne(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	other, imageType := r.OtherImage()
	// A person rebuilt the desktops by hand, to the image they run.
	_, err := r.API.Rebuild(t.Context(), r.API.ServiceNow(), workspace.RebuildRequest{
		DesktopIDs: r.Desktops, ImageID: r.Emulator.State().Desktops[0].Metadata["metering.image_id"], ImageType: "gold",
	})
	require.NoError(t, err)
	r.Clock.Add(30 * time.Minute)
	byHand := r.Emulator.State().Jobs[0].ID
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "before"}})
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: other, ImageType: imageType}
	a := functiontest.OnlyData[events.JobAccepted](t, r.Follow(function(r), r.Command(events.TypeRebuild, "c1", cmd)))
	require.NotEqual(t, byHand, a.JobID)
	require.Len(t, r.Emulator.State().Jobs, 2)
}

func TestAJobOfAnotherCommandIsNotAdopted(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "before"}})
	first := r.Process(function(r), command(r))
	functiontest.Unclear(t, first)
	second := functiontest.OnlyData[events.JobAccepted](t, r.Process(function(r), r.Command(events.TypeRebuild, "c2", data(r))))
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), r.Later(first.Delay)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, second.JobID)
	require.Len(t, r.Emulator.State().Jobs, 1)
}

func TestResendNeverResendsNothing(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Config.Resend = config.ResendNever
	f := function(r)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "before"}})
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(f, command(r)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Equal(t, 1, asked)
}

func TestWhatChangedMeanwhileIsNotRebuiltAgain(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	lose(r, emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "history-deleted"}})
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), command(r)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Equal(t, events.EffectUnknown, failed.Effect)
	asked, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, [2]int{1, 1}, [2]int{asked, accepted})
}

func TestARebuildToTheSameImageIsSeenByItsDisk(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: r.Emulator.State().Desktops[0].Metadata["metering.image_id"], ImageType: "gold"}
	cmd.RebuildCurrent = true
	d := r.Command(events.TypeRebuild, "c1", cmd)
	lose(r)
	first := r.Process(function(r), d)
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "history-deleted"}})
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), r.Later(first.Delay)))
	require.Equal(t, events.KindUnknownOutcome, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, "another system disk")
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Equal(t, 1, asked)
}

// chain carries a command and all its parts to their ends. It returns the events and the ends by desktop.
func chain(t *testing.T, r *functiontest.Rig, f queue.Function, d queue.Delivery) (published []events.Envelope, ends map[string]string) {
	t.Helper()
	ends = map[string]string{}
	todo := []queue.Delivery{d}
	for len(todo) > 0 {
		result := r.Follow(f, todo[0])
		todo = todo[1:]
		for _, next := range result.Next {
			todo = append(todo, r.Message(next.Envelope))
		}
		for _, e := range result.Events {
			published = append(published, e)
			switch e.Type {
			case events.TypeJobAccepted:
				for _, id := range functiontest.Data[events.JobAccepted](t, e).DesktopIDs {
					ends[id] = "accepted"
				}
			case events.TypeCommandFailed:
				failed := functiontest.Data[events.CommandFailed](t, e)
				for _, id := range failed.DesktopIDs {
					ends[id] = failed.Error.Kind
				}
			}
		}
	}
	return published, ends
}

func TestOneDeletedDesktopDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 99)
	cmd := data(r)
	cmd.DesktopIDs = append([]string{"deleted-desktop"}, r.Desktops...)
	published, ends := chain(t, r, function(r), r.Command(events.TypeRebuild, "c1", cmd))
	require.Equal(t, events.KindNotFound, ends["deleted-desktop"])
	for _, id := range r.Desktops {
		require.Equal(t, "accepted", ends[id])
	}
	require.Len(t, r.Emulator.State().Jobs, 1, "the others go at once, together")
	require.Len(t, events.Open(events.Root{ID: "c1"}, published), 1, "the one job")
}

// The desktops are described one by one only if the service does not show them in one list: a function on AWS may make 15
// reads a minute.
func TestABusyDesktopWaitsByItself(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		list      emulator.Do
		described int
	}{
		"listed":               {},
		"the first is listed":  {emulator.Do{Quirk: "list-first-id"}, 3},
		"the list is refused":  {emulator.Do{Status: 403}, 4},
		"the list is not sent": {emulator.Do{Status: 429}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 5)
			_, err := r.API.DesktopToImage(t.Context(), r.API.ServiceNow(), workspace.DesktopToImageRequest{ImageName: "n", DesktopID: r.Desktops[2]})
			require.NoError(t, err)
			if c.list != (emulator.Do{}) {
				r.Faults(emulator.Fault{Call: emulator.CallListDesktops, Times: 1, Do: c.list})
			}
			_, ends := chain(t, r, function(r), command(r))
			for _, id := range r.Desktops {
				require.Equal(t, "accepted", ends[id])
			}
			jobs := r.Emulator.State().Jobs
			require.Len(t, jobs, 3)
			require.Len(t, jobs[1].SubJobs, 4, "the four that were idle")
			require.Len(t, jobs[2].SubJobs, 1, "the busy one, when it was done")
			described, _ := r.Calls(emulator.CallGetDesktop)
			require.Equal(t, c.described, described)
		})
	}
}

// A list that never comes, such as one longer than the client reads, is no reason to end the command.
func TestABatchIsDividedWithoutAList(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(
		emulator.Fault{Call: emulator.CallRebuild, DesktopID: r.Desktops[0], Do: emulator.Do{Status: 400, ErrorCode: "WKS.0999"}},
		emulator.Fault{Call: emulator.CallListDesktops, Do: emulator.Do{Status: 502}},
	)
	_, ends := chain(t, r, function(r), command(r))
	require.Equal(t, map[string]string{r.Desktops[0]: events.KindRefused, r.Desktops[1]: "accepted"}, ends)
}

func TestABatchOfBusyDesktopsWaitsAsOne(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 20)
	cmd := data(r)
	_, err := r.API.Rebuild(t.Context(), r.API.ServiceNow(), workspace.RebuildRequest{DesktopIDs: r.Desktops, ImageID: cmd.ImageID, ImageType: cmd.ImageType})
	require.NoError(t, err)
	r.Clock.Add(time.Second)
	cmd.RebuildCurrent = true
	_, ends := chain(t, r, function(r), r.Command(events.TypeRebuild, "c1", cmd))
	for _, id := range r.Desktops {
		require.Equal(t, "accepted", ends[id])
	}
	require.Len(t, r.Emulator.State().Jobs, 2)
	r.Config.ConflictDeadline = 2 * time.Minute
	_, ends = chain(t, r, function(r), r.Command(events.TypeRebuild, "c2", cmd))
	for _, id := range r.Desktops {
		require.Equal(t, events.KindConflict, ends[id])
	}
}

func TestABatchOfDeletedDesktopsEndsAsOne(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	cmd := data(r)
	cmd.DesktopIDs = []string{"gone-1", "gone-2", "gone-3"}
	published, ends := chain(t, r, function(r), r.Command(events.TypeRebuild, "c1", cmd))
	require.Len(t, published, 1)
	require.Equal(t, map[string]string{"gone-1": events.KindNotFound, "gone-2": events.KindNotFound, "gone-3": events.KindNotFound}, ends)
}

func TestABatchWithoutAVisibleReasonIsHalved(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 8)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, DesktopID: r.Desktops[5], Do: emulator.Do{Status: 400, ErrorCode: "WKS.0999", ErrorMsg: "cannot"}})
	_, ends := chain(t, r, function(r), command(r))
	for i, id := range r.Desktops {
		want := "accepted"
		if i == 5 {
			want = events.KindRefused
		}
		require.Equal(t, want, ends[id])
	}
	asked, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, [2]int{7, 3}, [2]int{asked, accepted}, "8 = 4 + 2 + 1 and the one")
}

func TestAnImageThatIsGoneIsNotAskedForDesktopByDesktop(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 8)
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: "no-such-image", ImageType: "private"}
	_, ends := chain(t, r, function(r), r.Command(events.TypeRebuild, "c1", cmd))
	require.Len(t, ends, 8)
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Equal(t, 1, asked)
}

// The service accepted a part of a batch whose answer was lost: the job found is followed for its desktops, and the
// others are decided separately.
func TestALostBatchOfWhichAPartIsFound(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 6)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "before"}})
	d := command(r)
	first := r.Process(function(r), d)
	functiontest.Unclear(t, first)
	// As if the service had taken four of the six: the same call, made beside the ledger.
	cmd := data(r)
	_, err := r.API.Rebuild(t.Context(), r.API.ServiceNow(), workspace.RebuildRequest{DesktopIDs: r.Desktops[:4], ImageID: cmd.ImageID, ImageType: cmd.ImageType})
	require.NoError(t, err)
	published, ends := chain(t, r, function(r), r.Later(first.Delay))
	for _, id := range r.Desktops {
		require.Equal(t, "accepted", ends[id])
	}
	jobs := r.Emulator.State().Jobs
	require.Len(t, jobs, 2)
	require.Len(t, jobs[1].SubJobs, 2)
	split := functiontest.Data[events.CommandSplit](t, published[0])
	require.Equal(t, r.Desktops[4:], split.Parts[1].DesktopIDs)
	adopted, _, err := r.Ledger.Get(t.Context(), events.Identity(events.Source(events.FnRebuild), split.Parts[0].ID))
	require.NoError(t, err)
	require.Equal(t, jobs[0].ID, adopted.JobID)
	require.Equal(t, once.Accepted, once.StateOf(adopted))
}

// brokenStore is a ledger that cannot be reached.
type brokenStore struct{ ledger.Store }

func (brokenStore) Get(context.Context, string) (ledger.Record, store.Revision, error) {
	return ledger.Record{}, 0, errors.New("no responders")
}

func TestALedgerThatCannotBeReachedCostsOnlyTime(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	options := r.Options()
	options.Store = brokenStore{options.Store}
	result := r.Process(rebuild.New(r.API, r.EngineWith(options)), command(r))
	require.NoError(t, result.Retry, "no delivery is spent")
	require.NotNil(t, result.Delay)
	require.Empty(t, r.Emulator.Requests(0, 0))
	e := functiontest.Only(t, r.Process(function(r), r.Later(result.Delay)))
	require.Equal(t, events.TypeJobAccepted, e.Type)
}

func TestWaitingIsNoFailure(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Status: 429, ErrorCode: "APIGW.0308"}})
	d := command(r)
	d.Headers[queue.AttemptHeader] = []string{"500"} // it waited long, for example for a thaw
	first := r.Process(function(r), d)
	require.Empty(t, first.Events)
	require.Equal(t, 501, first.Delay.Attempt)
	require.Equal(t, 1, first.Delay.Failures)
	e := functiontest.Only(t, r.Follow(function(r), r.Later(first.Delay)))
	require.Equal(t, events.TypeJobAccepted, e.Type)
}
