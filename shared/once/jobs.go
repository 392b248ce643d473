package once

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/workspace"
)

// Jobs lists the jobs of the service.
type Jobs interface {
	ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error)
}

// JobKind is the kind of job that a call begins.
type JobKind struct {
	Types []string                    // to list, in every known spelling
	Is    func(workspace.SubJob) bool // whether a sub-job is of this kind
}

// Kinds of jobs. The service writes the type of a rebuild in two ways; the same is expected of captures.
var (
	RebuildJobs = JobKind{Types: []string{workspace.JobTypeRebuild, workspace.JobTypeRebuild + "s"}, Is: workspace.SubJob.IsRebuild}
	ImageJobs   = JobKind{Types: []string{workspace.JobTypeImage, workspace.JobTypeImage + "s"}, Is: workspace.SubJob.IsImage}
)

// clockTolerance is how much earlier than the signing date a job of that call may have begun: the service's machines
// need not agree on the time.
const clockTolerance = time.Minute

// list lists all jobs of a kind. date is that of the earliest answer; zero if an answer had no Date header.
func (k JobKind) list(ctx context.Context, api Jobs) (subs []workspace.SubJob, complete bool, date time.Time, err error) {
	complete = true
	for i, t := range k.Types {
		l, err := api.ListSubJobs(ctx, workspace.SubJobsQuery{JobType: t})
		if err != nil {
			return nil, false, time.Time{}, err
		}
		subs, complete = append(subs, l.Jobs...), complete && l.Complete
		if i == 0 || l.Date.Before(date) {
			date = l.Date
		}
	}
	return subs, complete, date, nil
}

// Before adds to a detail the jobs that its desktops have before the call. A job that appears later is then known to be
// new, whatever begin time the service reports.
func (k JobKind) Before(ctx context.Context, api Jobs, d ledger.Detail) (ledger.Detail, error) {
	subs, complete, _, err := k.list(ctx, api)
	if err != nil {
		return d, err
	}
	known, busy := map[string]bool{}, map[string]bool{}
	for _, sub := range subs {
		if id := sub.DesktopID(); slices.Contains(d.DesktopIDs, id) {
			known[sub.JobID] = true
			if sub.State() == workspace.Pending {
				busy[id] = true
			}
		}
	}
	d.Known, d.KnownAll, d.Busy = slices.Sorted(maps.Keys(known)), complete, slices.Sorted(maps.Keys(busy))
	return d, nil
}

// Found is the result of a search for a lost call.
type Found struct {
	Jobs  map[string][]string  // jobs that may be the call's: job id to those of its desktops that are in the call
	Begun map[string]time.Time // when they began, if the service reports it with a zone
	// Incomplete is why the search may have missed a job of the call; "" if it saw all jobs.
	Incomplete string
	// Foreign describes a job that has some of the desktops and appears not to be the call's; "" if there is none.
	Foreign string
	Seen    []string  // all jobs that have one of the desktops, the call's or not
	Date    time.Time // the service's clock at the search
}

// ids returns the ids of the jobs found, sorted.
func (f Found) ids() []string { return slices.Sorted(maps.Keys(f.Jobs)) }

// whole returns the jobs that have all desktops of the call.
func (f Found) whole(desktopIDs []string) []string {
	return slices.DeleteFunc(f.ids(), func(job string) bool { return len(f.Jobs[job]) != len(desktopIDs) })
}

// Find looks for the job of a call with this detail. from and until bound, by the service's clock, when the service
// took the call: from is its signing date, until its answer or the end of its signature. A zero until is no bound.
func (k JobKind) Find(ctx context.Context, api Jobs, d ledger.Detail, from, until time.Time) (Found, error) {
	subs, complete, date, err := k.list(ctx, api)
	if err != nil {
		return Found{}, err
	}
	f := Found{Jobs: map[string][]string{}, Begun: map[string]time.Time{}, Date: date}
	if !complete {
		f.Incomplete = "the list of jobs was incomplete"
	}
	byJob := map[string][]workspace.SubJob{}
	for _, sub := range subs {
		if k.Is(sub) && sub.JobID != "" {
			byJob[sub.JobID] = append(byJob[sub.JobID], sub)
		}
	}
	for _, job := range slices.Sorted(maps.Keys(byJob)) {
		var ours []string
		foreign, beside, nameless, old, late, doubtful := false, false, false, false, false, false
		for _, sub := range byJob[job] {
			switch id := sub.DesktopID(); {
			case id == "":
				nameless = true
			case slices.Contains(d.DesktopIDs, id):
				ours = append(ours, id)
			case slices.Contains(d.Batch, id):
				beside = true
			default:
				foreign = true
			}
			switch t := sub.BeginTime; {
			case t.IsZero() || !t.Zoned: // a time without a zone proves nothing by itself
				doubtful = true
			case t.Before(from.Add(-clockTolerance)):
				old = true
			case !until.IsZero() && t.After(until.Add(clockTolerance)):
				late = true
			default:
				f.Begun[job] = t.Time
			}
		}
		if len(ours) > 0 {
			f.Seen = append(f.Seen, job)
		}
		switch {
		case slices.Contains(d.Known, job), old:
		case nameless && !doubtful && !late:
			f.Incomplete = fmt.Sprintf("job %s does not name all its desktops", job)
		case len(ours) == 0:
		case foreign:
			f.Foreign = fmt.Sprintf("job %s has some of the desktops, and others beside them", job)
		case beside && !late:
			f.Incomplete = fmt.Sprintf("job %s may be that of the call before it was divided", job)
		case late:
			f.Foreign = fmt.Sprintf("job %s has the desktops, and began later than the call", job)
		case doubtful && !d.KnownAll:
			f.Incomplete = fmt.Sprintf("job %s has the desktops, but may be older than the call", job)
		default:
			slices.Sort(ours)
			f.Jobs[job] = slices.Compact(ours)
		}
	}
	return f, nil
}
