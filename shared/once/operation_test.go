package once_test

import (
	"context"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// modelOperation is a rebuild of the model's desktops.
type modelOperation struct {
	w *worker
	c *command
}

func (o modelOperation) About() once.Command {
	e := events.Envelope{ID: o.c.id, Source: "test", Type: events.TypeRebuild, Time: time.Now()}
	if o.c.id != "root" {
		e.Source = events.Source(events.FnRebuild)
	}
	return once.Command{
		Command: queue.Command{Envelope: e, Failures: o.c.failures}, Function: events.FnRebuild, Data: o.c.ids, DesktopIDs: o.c.ids, Watch: time.Hour,
	}
}

// Prepare does what a rebuild does: the jobs are listed before the desktops are looked at, what an earlier preparation saw
// of them is used while it holds, desktops that run the image are skipped, and after an earlier call those that run it by
// now are not rebuilt once more.
func (o modelOperation) Prepare(ctx context.Context, earlier, kept ledger.Detail) (ledger.Detail, *queue.Outcome, error) {
	o.w.stop("before the preparation")
	if len(earlier.DesktopIDs) > 0 {
		return earlier, o.preparedAgain(earlier), nil
	}
	d, err := once.RebuildJobs.Before(ctx, o.w, ledger.Detail{DesktopIDs: o.c.ids})
	if err != nil {
		return d, nil, err
	}
	if once.Holds(kept, d, serviceNow()) {
		d.Previous, d.ReadAt = kept.Previous, kept.ReadAt
		o.w.world.usedKept++
	} else {
		d.ReadAt = serviceNow()
		for _, id := range o.c.ids {
			d.Previous = append(d.Previous, events.ImageInfo{DesktopID: id, ImageID: o.w.world.desktops[id].image})
		}
	}
	if o.w.stop(atImages).err != nil {
		return d, nil, queue.RetryAfter(20*time.Second, errLimited)
	}
	d.DesktopIDs, d.Volumes = nil, map[string]string{}
	for _, p := range d.Previous {
		if p.ImageID == wantedImage {
			d.Skipped = append(d.Skipped, p.DesktopID)
			continue
		}
		d.DesktopIDs, d.Volumes[p.DesktopID] = append(d.DesktopIDs, p.DesktopID), o.w.world.desktops[p.DesktopID].disk
	}
	if len(d.DesktopIDs) == 0 {
		return d, o.withoutCall(d.Skipped), nil
	}
	return d, nil, nil
}

func (o modelOperation) preparedAgain(earlier ledger.Detail) *queue.Outcome {
	var current, rest []string
	for _, id := range earlier.DesktopIDs {
		if o.w.world.desktops[id].image == wantedImage {
			current = append(current, id)
		} else {
			rest = append(rest, id)
		}
	}
	switch {
	case len(current) == 0:
		return nil
	case len(rest) > 0:
		return once.Split(o, [][]string{slices.Concat(current, earlier.Skipped), rest})
	default:
		return o.withoutCall(earlier.Skipped)
	}
}

// withoutCall ends the command without a job: what is not skipped was rebuilt by a job that is not known.
func (o modelOperation) withoutCall(skipped []string) *queue.Outcome {
	done := events.JobCompleted{Outcome: events.Succeeded}
	for _, id := range o.c.ids {
		result := events.DesktopResult{DesktopID: id, Outcome: events.Succeeded, Kind: events.KindUnknownOutcome}
		if slices.Contains(skipped, id) {
			result = events.DesktopResult{DesktopID: id, Outcome: events.Skipped}
		}
		done.Desktops = append(done.Desktops, result)
	}
	return &queue.Outcome{Type: events.TypeJobCompleted, About: []string{"job.completed"}, Data: done}
}

func (o modelOperation) Send(_ context.Context, signedAt time.Time, d ledger.Detail) (workspace.Accepted, error) {
	o.w.stop("before the call")
	r := &request{ids: d.DesktopIDs, signedAt: signedAt}
	for _, id := range d.DesktopIDs {
		o.w.world.desktops[id].sent++
	}
	o.w.world.network, o.w.request = append(o.w.world.network, r), r
	if o.w.stop(atAnswer).lost || r.answer == nil {
		return workspace.Accepted{}, errLost
	}
	return r.answer.accepted, r.answer.err
}

func (modelOperation) Accepted(*events.JobAccepted) {}

func (o modelOperation) FindJob(ctx context.Context, d ledger.Detail, from, until time.Time) (once.Found, error) {
	o.w.stop("before a look")
	found, err := once.RebuildJobs.Find(ctx, o.w, d, from, until)
	o.w.stop("after a look")
	return found, err
}

func (o modelOperation) Unchanged(_ context.Context, d ledger.Detail, t once.Tasks) (bool, string, error) {
	o.w.stop("before the proof")
	for _, p := range d.Previous {
		now := o.w.world.desktops[p.DesktopID]
		busy := now.busy && (t == once.AnyTask || !o.w.world.explained(p.DesktopID))
		if busy || now.image != p.ImageID || d.Volumes[p.DesktopID] != "" && now.disk != d.Volumes[p.DesktopID] {
			return false, "changed", nil
		}
	}
	o.w.stop("after the proof")
	return true, "", nil
}

func (o modelOperation) Divide(_ context.Context, d ledger.Detail, _ events.Failure, repeated bool) (*queue.Outcome, error) {
	o.w.stop("before the division")
	first, second := o.w.world.desktops["d-1"].busy, o.w.world.desktops["d-2"].busy
	if len(d.DesktopIDs) < 2 || first && second || !first && !second && !repeated {
		return nil, nil
	}
	return once.Split(o, [][]string{{"d-1"}, {"d-2"}}), nil
}

func (o modelOperation) Part(ids []string) any {
	if len(o.c.ids) < 2 {
		return nil
	}
	return ids
}

// ListSubJobs lists all jobs of the model.
func (w *worker) ListSubJobs(_ context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	list := workspace.SubJobs{Complete: true, Date: serviceNow()}
	if q.JobType != workspace.JobTypeRebuild {
		return list, nil
	}
	for _, job := range w.world.jobs {
		for _, id := range job.ids {
			if !job.listed() {
				continue
			}
			list.Jobs = append(list.Jobs, workspace.SubJob{
				JobID: job.id, JobType: workspace.JobTypeRebuild, Entities: &workspace.JobEntities{DesktopID: id},
				BeginTime: workspace.Time{Time: job.begun, Zoned: true},
			})
		}
	}
	return list, nil
}
