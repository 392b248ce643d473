package once

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/workspace"
)

// Jobs is the calls with which a lost call is looked for. All are reads.
type Jobs interface {
	ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error)
	GetDesktop(ctx context.Context, desktopID string) (workspace.Desktop, error)
}

// Search is how a function finds the job of its call again.
type Search struct {
	API   Jobs
	Types []string                    // job types to list, in every spelling known
	Is    func(workspace.SubJob) bool // is it such a job, by the beginning of its type
	// Unchanged tells whether the desktops are as they were before the call, and if not, why not.
	Unchanged func(ctx context.Context, d Detail) (yes bool, why string, err error)
}

// clockTolerance is how much earlier than the signing date a job of that call may have begun: the service's machines
// need not agree on the time.
const clockTolerance = time.Minute

// list lists all jobs of the search's types. The date is that of the earliest answer, zero if one had none.
func (s Search) list(ctx context.Context) (subs []workspace.SubJob, complete bool, date time.Time, err error) {
	complete = true
	for i, t := range s.Types {
		l, err := s.API.ListSubJobs(ctx, workspace.SubJobsQuery{JobType: t})
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

// Before puts into the detail which jobs the desktops have before the call, so that what is there later and was not is
// known to be new, whatever the service says of its time.
func (s Search) Before(ctx context.Context, d *Detail) error {
	subs, complete, _, err := s.list(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, sub := range subs {
		if slices.Contains(d.DesktopIDs, sub.DesktopID()) {
			known[sub.JobID] = true
		}
	}
	d.Known, d.KnownAll = slices.Sorted(maps.Keys(known)), complete
	return nil
}

// found is what a look shows: the jobs that may be the call's, and whether anything else keeps its absence from being
// proved.
type found struct {
	jobs  map[string][]string // job → its desktops, all of them in the call
	begun map[string]time.Time
	doubt string // why an absence is not proved
	date  time.Time
}

func (s Search) find(ctx context.Context, d Detail, signedAt time.Time) (found, error) {
	subs, complete, date, err := s.list(ctx)
	if err != nil {
		return found{}, err
	}
	f := found{jobs: map[string][]string{}, begun: map[string]time.Time{}, date: date}
	if !complete {
		f.doubt = "the list of jobs was incomplete"
	}
	byJob := map[string][]workspace.SubJob{}
	for _, sub := range subs {
		if s.Is(sub) && sub.JobID != "" {
			byJob[sub.JobID] = append(byJob[sub.JobID], sub)
		}
	}
	for _, job := range slices.Sorted(maps.Keys(byJob)) {
		var ours []string
		foreign, old, doubtful := false, false, false
		for _, sub := range byJob[job] {
			id := sub.DesktopID()
			if slices.Contains(d.DesktopIDs, id) {
				ours = append(ours, id)
			} else {
				foreign = true
			}
			switch t := sub.BeginTime; {
			case t.IsZero() || !t.Zoned: // a time without a zone proves nothing by itself
				doubtful = true
			case t.Before(signedAt.Add(-clockTolerance)):
				old = true
			default:
				f.begun[job] = t.Time
			}
		}
		switch {
		case len(ours) == 0, slices.Contains(d.Known, job), old:
		case foreign:
			f.doubt = fmt.Sprintf("job %s has some of the desktops, and others beside them", job)
		case doubtful && !d.KnownAll:
			f.doubt = fmt.Sprintf("job %s has the desktops, but may be older than the call", job)
		default:
			slices.Sort(ours)
			f.jobs[job] = slices.Compact(ours)
		}
	}
	return f, nil
}

// look looks once for the job of a lost call.
func (r Rules) look(ctx context.Context, w Write, record ledger.Record, signedAt time.Time, past bool) (ledger.Finding, error) {
	var d Detail
	if err := json.Unmarshal(record.Detail, &d); err != nil {
		return ledger.Finding{}, fmt.Errorf("read the ledger record: %w", err)
	}
	f, err := w.Search.find(ctx, d, signedAt)
	if err != nil {
		return ledger.Finding{}, err
	}
	for job := range f.jobs {
		owner, err := r.Writer.JobOwner(ctx, job)
		if err != nil {
			return ledger.Finding{}, err
		}
		if owner != "" && owner != w.Command.Identity() {
			f.doubt = fmt.Sprintf("job %s of another command has the desktops", job)
			delete(f.jobs, job)
		}
	}
	jobs := slices.Sorted(maps.Keys(f.jobs))
	switch {
	case len(jobs) == 1 && len(f.jobs[jobs[0]]) == len(d.DesktopIDs):
		sent, err := f.sent(jobs[0], d, signedAt, w.Watch)
		return ledger.Finding{Job: &sent}, err
	case len(jobs) > 0 && !past:
		return ledger.Finding{Why: "not every desktop is seen in a job yet"}, nil
	case len(jobs) > 0:
		return r.partly(ctx, w, record, d, f, jobs, signedAt)
	case !past:
		return ledger.Finding{Why: f.doubt}, nil
	case f.doubt != "":
		return ledger.Finding{Why: f.doubt}, nil
	}
	unchanged, why, err := w.Search.Unchanged(ctx, d)
	return ledger.Finding{Absent: unchanged, Why: why, Date: f.date}, err
}

// sent is a job that was found, as if its acceptance had been answered.
func (f found) sent(job string, d Detail, signedAt time.Time, watch time.Duration) (ledger.Sent, error) {
	at := signedAt
	if begun, ok := f.begun[job]; ok {
		at = begun
	}
	d.Deadline = at.Add(watch)
	kept, err := json.Marshal(d)
	return ledger.Sent{JobID: job, At: at, Detail: kept}, err
}

// partly divides a lost call of which jobs show a part: each job found goes on by itself, and so do the desktops that no
// job shows, which are looked for further. The parts' records are made before the division is said.
func (r Rules) partly(ctx context.Context, w Write, record ledger.Record, d Detail, f found, jobs []string, signedAt time.Time) (ledger.Finding, error) {
	if w.Part == nil {
		return ledger.Finding{Why: fmt.Sprintf("jobs %v show a part of the call", jobs)}, nil
	}
	rest := slices.Clone(d.DesktopIDs)
	var parts [][]string
	for _, job := range jobs {
		parts = append(parts, f.jobs[job])
		rest = slices.DeleteFunc(rest, func(id string) bool { return slices.Contains(f.jobs[job], id) })
	}
	if len(rest) > 0 {
		parts = append(parts, rest)
	}
	for _, job := range jobs {
		if ours, err := r.Writer.ClaimJob(ctx, job, w.Command.Identity()); err != nil || !ours {
			return ledger.Finding{Why: fmt.Sprintf("job %s was taken by another command", job)}, err
		}
	}
	for i, ids := range parts {
		part := ledger.Record{Fence: 1, Owner: record.Owner, SignedAt: signedAt}
		detail := d.only(ids)
		asked := ids
		if i == 0 { // what was skipped goes with the first part
			detail.Skipped = d.Skipped
			asked = append(slices.Clone(ids), d.Skipped...)
		}
		parts[i] = asked
		kept, err := json.Marshal(detail)
		if err != nil {
			return ledger.Finding{}, err
		}
		part.Detail = kept
		if i < len(jobs) {
			sent, err := f.sent(jobs[i], detail, signedAt, w.Watch)
			if err != nil {
				return ledger.Finding{}, err
			}
			part.JobID, part.Accepted, part.Detail = sent.JobID, sent.At, sent.Detail
		} else {
			part.Unclear = &ledger.Unclear{Next: r.Now(), Reason: "the call before was found to be taken for other desktops only"}
		}
		if part.Digest, err = digest(w.Part(asked)); err != nil {
			return ledger.Finding{}, err
		}
		id := events.PartID(w.Command.Identity(), i)
		if err := r.Writer.Found(ctx, events.Identity(events.Source(w.Function), id), part); err != nil {
			return ledger.Finding{}, err
		}
	}
	end, err := w.end(split(w.Command, parts), r.Now())
	return ledger.Finding{End: end}, err
}

// only is the detail for some of the desktops in the call.
func (d Detail) only(ids []string) Detail {
	some := Detail{DesktopIDs: ids, Known: d.Known, KnownAll: d.KnownAll}
	for _, p := range d.Previous {
		if slices.Contains(ids, p.DesktopID) {
			some.Previous = append(some.Previous, p)
		}
	}
	for id, volume := range d.Volumes {
		if slices.Contains(ids, id) {
			if some.Volumes == nil {
				some.Volumes = map[string]string{}
			}
			some.Volumes[id] = volume
		}
	}
	return some
}
