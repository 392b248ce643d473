package once_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/workspace"
)

// lists answers with sub-jobs of the plain spelling of the type.
type lists struct {
	subs       []workspace.SubJob
	incomplete bool
	date       time.Time // zero: the answers have none
	capped     bool
}

func (l lists) ListSubJobs(_ context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	if q.JobType != workspace.JobTypeRebuild {
		return workspace.SubJobs{Complete: true, Date: l.date}, nil
	}
	subs := l.subs
	if l.capped && !q.Sure { // and the service reports that as the total
		subs = subs[:1]
	}
	return workspace.SubJobs{Jobs: subs, Complete: !l.incomplete, Date: l.date}, nil
}

func sub(job, desktop string, begun workspace.Time) workspace.SubJob {
	return workspace.SubJob{
		JobID: job, JobType: workspace.JobTypeRebuild, Status: "RUNNING", BeginTime: begun, Entities: &workspace.JobEntities{DesktopID: desktop},
	}
}

func TestWhichJobMayBeThatOfACall(t *testing.T) {
	t.Parallel()
	signed := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	at := func(d time.Duration) workspace.Time { return workspace.Time{Time: signed.Add(d), Zoned: true} }
	unzoned := workspace.Time{Time: signed.Add(-11 * time.Hour), Raw: "2026-01-14 21:30:00"}
	dayOlder := workspace.Time{Time: signed.Add(-24 * time.Hour), Raw: "2026-01-14 08:30:00"}
	for name, c := range map[string]struct {
		subs                []workspace.SubJob
		incomplete, partial bool // the lists after and before the call
		capped              bool
		known               []string
		jobs                map[string][]string
		doubt, foreign      bool
	}{
		"all desktops":             {subs: []workspace.SubJob{sub("j", "d-2", at(0)), sub("j", "d-1", at(0))}, jobs: map[string][]string{"j": {"d-1", "d-2"}}},
		"one desktop":              {subs: []workspace.SubJob{sub("j", "d-1", at(0))}, jobs: map[string][]string{"j": {"d-1"}}},
		"a minute early":           {subs: []workspace.SubJob{sub("j", "d-1", at(-time.Minute))}, jobs: map[string][]string{"j": {"d-1"}}},
		"older":                    {subs: []workspace.SubJob{sub("j", "d-1", at(-2*time.Minute))}, partial: true},
		"older, not listed before": {subs: []workspace.SubJob{sub("j", "d-1", at(-2*time.Minute))}, foreign: true},
		"soon after the answer":    {subs: []workspace.SubJob{sub("j", "d-1", at(90*time.Second))}, jobs: map[string][]string{"j": {"d-1"}}},
		"long after the answer":    {subs: []workspace.SubJob{sub("j", "d-1", at(2*time.Minute))}, foreign: true},
		"in the future":            {subs: []workspace.SubJob{sub("j", "d-1", at(8*time.Hour))}, jobs: map[string][]string{"j": {"d-1"}}},
		"after the list began":     {subs: []workspace.SubJob{sub("j", "d-1", at(15*time.Minute))}, foreign: true},
		"future, not known all":    {subs: []workspace.SubJob{sub("j", "d-1", at(8*time.Hour))}, partial: true, doubt: true},
		"hours older, not listed":  {subs: []workspace.SubJob{sub("j", "d-1", at(-5*time.Hour))}, jobs: map[string][]string{"j": {"d-1"}}},
		"known before":             {subs: []workspace.SubJob{sub("j", "d-1", at(0))}, known: []string{"j"}},
		"other desktops beside":    {subs: []workspace.SubJob{sub("j", "d-1", at(0)), sub("j", "d-3", at(0))}, foreign: true},
		"of other desktops":        {subs: []workspace.SubJob{sub("j", "d-3", at(0))}},
		"no zone, known all":       {subs: []workspace.SubJob{sub("j", "d-1", unzoned)}, jobs: map[string][]string{"j": {"d-1"}}},
		"no zone, not known all":   {subs: []workspace.SubJob{sub("j", "d-1", unzoned)}, partial: true, doubt: true},
		"no desktop":               {subs: []workspace.SubJob{sub("j", "", at(0))}, doubt: true},
		"no desktop, older":        {subs: []workspace.SubJob{sub("j", "", at(-time.Hour))}},
		"no desktop, no zone":      {subs: []workspace.SubJob{sub("j", "", unzoned)}, doubt: true},
		"no desktop, a day older":  {subs: []workspace.SubJob{sub("j", "", dayOlder)}},
		"no desktop, no time":      {subs: []workspace.SubJob{sub("j", "", workspace.Time{})}, doubt: true},
		"no type":                  {subs: []workspace.SubJob{{JobID: "j", Entities: &workspace.JobEntities{DesktopID: "d-1"}, BeginTime: at(0)}}, doubt: true},
		"no id":                    {subs: []workspace.SubJob{sub("", "d-1", at(0))}, doubt: true},
		"no id, older":             {subs: []workspace.SubJob{sub("", "d-1", at(-time.Hour))}},
		"no id, other desktops":    {subs: []workspace.SubJob{sub("", "d-3", at(0))}},
		"in other letters":         {subs: []workspace.SubJob{sub("j", "D-2", at(0)), sub("j", "D-1", at(0))}, jobs: map[string][]string{"j": {"d-1", "d-2"}}},
		"another kind":             {subs: []workspace.SubJob{{JobID: "j", JobType: "attachUser", Entities: &workspace.JobEntities{DesktopID: "d-1"}, BeginTime: at(0)}}},
		"the list is capped":       {capped: true, subs: []workspace.SubJob{sub("i", "d-9", at(0)), sub("j", "d-1", at(0))}, jobs: map[string][]string{"j": {"d-1"}}},
		"the list is not complete": {incomplete: true, doubt: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := ledger.Detail{DesktopIDs: []string{"d-1", "d-2"}, Known: c.known, KnownAll: !c.partial}
			found, err := once.RebuildJobs.Find(t.Context(), lists{c.subs, c.incomplete, signed.Add(10 * time.Minute), c.capped}, d, signed, signed.Add(30*time.Second))
			require.NoError(t, err)
			if c.jobs == nil {
				c.jobs = map[string][]string{}
			}
			require.Equal(t, c.jobs, found.Jobs)
			require.Equal(t, c.doubt, found.Incomplete != "", found.Incomplete)
			require.Equal(t, c.foreign, found.Foreign != "", found.Foreign)
		})
	}
}

func TestTheJobsBeforeACall(t *testing.T) {
	t.Parallel()
	done := sub("j-2", "d-1", workspace.Time{})
	done.Status = "SUCCESS"
	odd := sub("j-4", "d-4", workspace.Time{})
	odd.Status = "PREPARING"
	ids := []string{"d-1", "d-2", "d-4"}
	d, err := once.RebuildJobs.Before(t.Context(), lists{subs: []workspace.SubJob{sub("j-1", "d-2", workspace.Time{}), done, sub("j-3", "d-3", workspace.Time{}), odd}},
		ledger.Detail{DesktopIDs: ids})
	require.NoError(t, err)
	require.Equal(t, ledger.Detail{DesktopIDs: ids, Known: []string{"j-1", "j-2", "j-4"}, KnownAll: true, Busy: []string{"d-2", "d-4"}}, d)
}

// A job under way that names no desktop may have any: it could appear later as a new one.
func TestAJobWithoutADesktopBeforeACall(t *testing.T) {
	t.Parallel()
	running := sub("j", "", workspace.Time{})
	ended := running
	ended.Status = "SUCCESS"
	for _, s := range []workspace.SubJob{running, ended} {
		d, err := once.RebuildJobs.Before(t.Context(), lists{subs: []workspace.SubJob{s}}, ledger.Detail{DesktopIDs: []string{"d-1"}})
		require.NoError(t, err)
		require.Equal(t, s.Status == "SUCCESS", d.KnownAll)
		require.Empty(t, d.Known)
	}
}
