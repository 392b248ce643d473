package rebuild_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

// odd is a service that writes the rows of its jobs in an odd way.
type odd struct {
	*workspace.Client
	row func(*workspace.SubJob)
}

func (o odd) ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	list, err := o.Client.ListSubJobs(ctx, q)
	for i := range list.Jobs {
		o.row(&list.Jobs[i])
	}
	return list, err
}

// The answer of a rebuild is lost, and its desktops still wait: nothing but the list of jobs shows that it was accepted.
// However the list writes the job, the call is not made once more.
func TestAJobThatIsWrittenOddlyIsSeen(t *testing.T) {
	t.Parallel()
	zoned := func(s *workspace.SubJob, later time.Duration) {
		s.BeginTime = workspace.ParseTime(s.BeginTime.Add(later).Format(time.RFC3339))
	}
	for name, c := range map[string]struct {
		row     func(*workspace.SubJob)
		adopted bool
	}{
		"as usual":                     {func(*workspace.SubJob) {}, true},
		"its clock is behind":          {func(s *workspace.SubJob) { zoned(s, -5*time.Minute) }, false},
		"in a zone behind":             {func(s *workspace.SubJob) { zoned(s, -5*time.Hour) }, true},
		"in a zone ahead":              {func(s *workspace.SubJob) { zoned(s, 8*time.Hour) }, true},
		"begins after the delay":       {func(s *workspace.SubJob) { zoned(s, time.Hour) }, true},
		"no type":                      {func(s *workspace.SubJob) { s.JobType = "" }, false},
		"no id":                        {func(s *workspace.SubJob) { s.JobID = "" }, false},
		"no desktop":                   {func(s *workspace.SubJob) { s.Entities = nil; zoned(s, 0) }, false},
		"no desktop and no zone":       {func(s *workspace.SubJob) { s.Entities = nil }, false},
		"no desktop and no time":       {func(s *workspace.SubJob) { s.Entities = nil; s.BeginTime = workspace.Time{} }, false},
		"the desktop in other letters": {func(s *workspace.SubJob) { s.Entities.DesktopID = strings.ToUpper(s.Entities.DesktopID) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: emulator.DropAfter}})
			cmd := data(r)
			cmd.DelayTime = 60
			f := rebuild.New(odd{r.API, c.row}, r.Engine())
			e := functiontest.Only(t, r.Follow(f, r.Command(events.TypeRebuild, "c1", cmd)))
			asked, accepted := r.Calls(emulator.CallRebuild)
			require.Equal(t, [2]int{1, 1}, [2]int{asked, accepted})
			if c.adopted {
				a := functiontest.Data[events.JobAccepted](t, e)
				require.Equal(t, r.Emulator.State().Jobs[0].ID, a.JobID)
				return
			}
			failed := functiontest.Data[events.CommandFailed](t, e)
			require.Equal(t, events.EffectUnknown, failed.Effect)
		})
	}
}

// The refusal of a second copy of the call comes from its own job, whose time is that of another zone: the command reports
// that job, and begins no other.
func TestARefusalByAJobInAWrongZone(t *testing.T) {
	t.Parallel()
	for _, zone := range []time.Duration{-5 * time.Hour, 8 * time.Hour} {
		r := functiontest.New(t, 2)
		r.Faults(emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: "deliver-twice,desktop-lag"}})
		f := rebuild.New(odd{r.API, func(s *workspace.SubJob) {
			s.BeginTime = workspace.ParseTime(s.BeginTime.Add(zone).Format(time.RFC3339))
		}}, r.Engine())
		_, ends := chain(t, r, f, command(r))
		for _, id := range r.Desktops {
			require.Equal(t, "accepted", ends[id])
		}
		_, accepted := r.Calls(emulator.CallRebuild)
		require.Equal(t, 1, accepted, zone)
	}
}

// Desktops that run the image already are skipped in whatever letter case the command names the image.
func TestTheLetterCaseOfAnImageDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	cmd := data(r)
	cmd.ImageID, cmd.ImageType = strings.ToUpper(r.Emulator.State().Desktops[0].Metadata["metering.image_id"]), "gold"
	e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd)))
	done := functiontest.Data[events.JobCompleted](t, e)
	for _, d := range done.Desktops {
		require.Equal(t, events.Skipped, d.Outcome)
	}
	asked, _ := r.Calls(emulator.CallRebuild)
	require.Zero(t, asked)
}
