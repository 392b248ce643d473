package once

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/rollout/fence"
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

// JobList are all jobs of a kind.
type JobList struct {
	lists    [][]workspace.SubJob // one for each spelling, perhaps shared with others
	complete bool
	date     time.Time // of the earliest answer, zero if one had none
}

// List lists all jobs of a kind, in every spelling.
func (k JobKind) List(ctx context.Context, api Jobs) (JobList, error) { return k.list(ctx, api, false) }

func (k JobKind) list(ctx context.Context, api Jobs, sure bool) (JobList, error) {
	all := JobList{complete: true}
	for i, t := range k.Types {
		l, err := api.ListSubJobs(ctx, workspace.SubJobsQuery{JobType: t, Sure: sure})
		if err != nil {
			return JobList{}, err
		}
		all.lists, all.complete = append(all.lists, l.Jobs), all.complete && l.Complete
		if i == 0 || l.Date.Before(all.date) {
			all.date = l.Date
		}
	}
	return all, nil
}

// Before adds to a detail the jobs that its desktops have before the call. A job that appears later is then known to be
// new, whatever begin time the service reports.
func (k JobKind) Before(ctx context.Context, api Jobs, d ledger.Detail) (ledger.Detail, error) {
	all, err := k.List(ctx, api)
	if err != nil {
		return d, err
	}
	return all.Before(d), nil
}

// Before adds to a detail the jobs of its desktops. A job under way that names no desktop may have them: then not all are
// known.
func (l JobList) Before(d ledger.Detail) ledger.Detail {
	ours := folded(d.DesktopIDs)
	known, busy := map[string]bool{}, map[string]bool{}
	d.KnownAll = l.complete
	for _, list := range l.lists {
		for _, sub := range list {
			ended := sub.State() == workspace.Succeeded || sub.State() == workspace.Failed
			d.KnownAll = d.KnownAll && (ended || sub.DesktopID() != "")
			if id := ours[fence.Fold(sub.DesktopID())]; id != "" {
				known[sub.JobID] = true
				if !ended {
					busy[id] = true
				}
			}
		}
	}
	d.Known, d.Busy = slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(busy))
	return d
}

// folded returns desktop ids by their folded form: the service may return an id in another letter case.
func folded(ids []string) map[string]string {
	m := make(map[string]string, len(ids))
	for _, id := range ids {
		m[fence.Fold(id)] = id
	}
	return m
}

// keptFor is how long the images that were read before a call may be used for it.
const keptFor = 10 * time.Minute

// Holds reports whether the images in kept still hold for a call now. They must be young, and none of the desktops may
// have had a job under way then, or have a new one since: before is the detail with the jobs of now, all of them.
func Holds(kept, before ledger.Detail, now time.Time) bool {
	age := now.Sub(kept.ReadAt)
	return !kept.ReadAt.IsZero() && age >= 0 && age < keptFor && len(kept.Busy) == 0 && before.KnownAll && len(without(before.Known, kept.Known)) == 0
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

// mostBehind is how much later than the time on its clock it may be in a zone.
const mostBehind = 12 * time.Hour

// isOlder reports whether a job that began then is certainly older than a call that was signed at from.
func isOlder(begun workspace.Time, from time.Time) bool {
	latest := begun.Add(clockTolerance)
	if !begun.Zoned {
		latest = latest.Add(mostBehind)
	}
	return !begun.IsZero() && latest.Before(from)
}

// Find looks for the job of a call with this detail. By the service's clock, from is when the call was signed, and until
// is when it was answered, or when its signature expired; zero: no limit.
func (k JobKind) Find(ctx context.Context, api Jobs, d ledger.Detail, from, until time.Time) (Found, error) {
	all, err := k.list(ctx, api, true) // a job that the list lacks can be made twice
	if err != nil {
		return Found{}, err
	}
	f := Found{Jobs: map[string][]string{}, Begun: map[string]time.Time{}, Date: all.date}
	if !all.complete {
		f.Incomplete = "the list of jobs was incomplete"
	}
	byJob := map[string][]workspace.SubJob{}
	ours, batch := folded(d.DesktopIDs), folded(d.Batch)
	for _, list := range all.lists {
		for _, sub := range list {
			desktop := fence.Fold(sub.DesktopID())
			switch {
			case sub.JobType != "" && !k.Is(sub):
			case sub.JobID != "":
				byJob[sub.JobID] = append(byJob[sub.JobID], sub)
			case isOlder(sub.BeginTime, from):
			case desktop == "" || ours[desktop] != "" || batch[desktop] != "":
				f.Incomplete = "a job is listed without its id"
			}
		}
	}
	c := call{Detail: d, ours: ours, batch: batch, from: from, until: until}
	for _, job := range slices.Sorted(maps.Keys(byJob)) {
		f.add(job, byJob[job], c)
	}
	return f, nil
}

// call is what a search knows of the call whose job it looks for.
type call struct {
	ledger.Detail
	ours, batch map[string]string // by their folded ids: its desktops, and those of the call from which it was divided
	from, until time.Time
}

// listedWithin is how long after it began a job may still be missing from a complete list.
const listedWithin = 30 * time.Minute

// readWithin is how much later than the first answer of a list its last one may be: each page may wait for the rate limit.
const readWithin = 30 * time.Minute

// isWrong reports whether a desktop of the call cannot have begun to be rebuilt at the time of its sub-job, which some
// machine wrote with a wrong clock or zone: it is in the future, later than any reading of the list took, or so long before the
// call that the complete list that was read then would have had the job.
func (c call) isWrong(sub workspace.SubJob, now time.Time) bool {
	t := sub.BeginTime
	if t.IsZero() || !t.Zoned || c.ours[fence.Fold(sub.DesktopID())] == "" {
		return false
	}
	future := !now.IsZero() && t.After(now.Add(readWithin)) && t.After(c.until.Add(clockTolerance))
	return future || c.KnownAll && t.Before(c.from.Add(-listedWithin))
}

// add notes a job: as one that may be the call's, or as why that is not so or cannot be seen.
func (f *Found) add(job string, subs []workspace.SubJob, c call) {
	var its []string
	foreign, beside, nameless, typeless, old, late, doubtful := false, false, false, false, false, false, false
	for _, sub := range subs {
		typeless = typeless || sub.JobType == ""
		switch id := fence.Fold(sub.DesktopID()); {
		case id == "":
			nameless = true
		case c.ours[id] != "":
			its = append(its, c.ours[id])
		case c.batch[id] != "":
			beside = true
		default:
			foreign = true
		}
		switch t := sub.BeginTime; {
		case c.isWrong(sub, f.Date):
			doubtful = true
		case isOlder(t, c.from):
			old = true
		case t.IsZero() || !t.Zoned: // a time without a zone proves nothing by itself
			doubtful = true
		case !c.until.IsZero() && t.After(c.until.Add(clockTolerance)):
			late = true
		default:
			f.Begun[job] = t.Time
		}
	}
	if len(its) > 0 {
		f.Seen = append(f.Seen, job)
	}
	switch {
	case slices.Contains(c.Known, job), old && (len(its) == 0 || !c.KnownAll):
	case nameless && !late:
		f.Incomplete = fmt.Sprintf("job %s does not name all its desktops", job)
	case len(its) == 0:
	case typeless:
		f.Incomplete = fmt.Sprintf("job %s has the desktops, and does not name its type", job)
	case foreign:
		f.Foreign = fmt.Sprintf("job %s has some of the desktops, and others beside them", job)
	case beside && !late:
		f.Incomplete = fmt.Sprintf("job %s may be that of the call before it was divided", job)
	case old: // by its own clock
		f.Foreign = fmt.Sprintf("job %s has the desktops and began earlier than the call, and was not listed then", job)
	case late:
		f.Foreign = fmt.Sprintf("job %s has the desktops, and began later than the call", job)
	case doubtful && !c.KnownAll:
		f.Incomplete = fmt.Sprintf("job %s has the desktops, but may be older than the call", job)
	default:
		slices.Sort(its)
		f.Jobs[job] = slices.Compact(its)
	}
}
