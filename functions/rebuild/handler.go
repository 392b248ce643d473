// Package rebuild remakes the system disks of desktops from an image.
//
//	recompose.command.rebuild.v1                                ─▶ POST /v2/{project_id}/desktops/rebuild ─▶ job.accepted
//	recompose.event.job.completed.v1 of an image, then.rebuild  ─▶ the same with the new image
//	more than 100 desktops                                      ─▶ command.split, and a command a part
package rebuild

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the calls that this function makes. Before the call: ListSubJobs, CheckImages, and GetDesktop or ListImages if the
// disks or the image matter. After a lost or refused call: all of these reads. A refused batch is divided by SomeDesktops.
type API interface {
	once.Fleet
	ServiceNow() time.Time
	CheckImages(ctx context.Context, desktopIDs []string) ([]workspace.ImageInfo, error)
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
	Rebuild(ctx context.Context, signedAt time.Time, r workspace.RebuildRequest) (workspace.Accepted, error)
}

// busyWait is how long a batch waits for the next look if all its desktops are busy.
const busyWait = 2 * time.Minute

// New makes the function. A rebuild wipes system disks, so each command is carried out at most once: a second delivery
// finds its record in the ledger and publishes the same events, without a call.
func New(api API, engine *once.Engine) queue.Function {
	api = shared{engine.ShareLists(api), others{api}}
	systems := new(sync.Map)
	return engine.Write(queue.Function{
		Name:   events.FnRebuild,
		Types:  []string{events.TypeRebuild},
		Reacts: []string{events.TypeJobCompleted},
		React:  react,
	}, func(c queue.Command) (once.Operation, error) { return decode(api, engine, systems, c) })
}

// react makes the rebuild command of `then.rebuild`, with the new image.
func react(e events.Envelope) (events.Envelope, bool, error) {
	var done events.JobCompleted
	if err := json.Unmarshal(e.Data, &done); err != nil {
		return events.Envelope{}, false, fmt.Errorf("read %s %s: %w", e.Type, e.ID, err)
	}
	if !done.ImpliesRebuild() {
		return events.Envelope{}, false, nil
	}
	command, err := e.Implies(events.FnRebuild, done.Then.Rebuild.WithImage(done.Image.ImageID, done.Image.ImageType))
	return command, true, err
}

// operation is one rebuild command. Its methods stand in the order in which the engine runs them.
type operation struct {
	api     API
	engine  *once.Engine
	systems *sync.Map // the operating systems of images that were seen, which do not change, by image id
	c       queue.Command
	cmd     events.Rebuild
	watch   time.Duration
}

func decode(api API, engine *once.Engine, systems *sync.Map, c queue.Command) (once.Operation, error) {
	cmd, err := events.DecodeRebuild(c.Envelope.Data)
	if err != nil {
		return nil, queue.Invalid(err)
	}
	watch := engine.Config.RebuildDeadline + time.Duration(cmd.DelayTime)*time.Minute
	return operation{api: api, engine: engine, systems: systems, c: c, cmd: cmd, watch: watch}, nil
}

// About describes the command.
func (o operation) About() once.Command {
	return once.Command{
		Command: o.c, Function: events.FnRebuild, Data: o.cmd, ProjectID: o.cmd.ProjectID, DesktopIDs: o.cmd.DesktopIDs, Watch: o.watch,
		Batch: o.c.Envelope.Rollout != "", Override: o.cmd.OverrideRollout, FailBusy: o.cmd.WhenBusy == events.BusyFails,
		Invalid: o.engine.CheckDelay("delay_time", o.cmd.DelayTime),
	}
}

// wants reports whether an image is that of the command. As with desktops, the service may write it in another letter case.
func (o operation) wants(imageID string) bool { return strings.EqualFold(imageID, o.cmd.ImageID) }

// allSkipped ends a command whose desktops all run the image already: no call was made.
func (o operation) allSkipped() *queue.Outcome {
	return o.completed(func(string) events.DesktopResult { return events.DesktopResult{Outcome: events.Skipped} })
}

// withoutJob ends a command whose desktops run the image after an earlier attempt without a known job. Another image or
// another disk before that attempt proves that a desktop was rebuilt, but not that this command did it. The check of its
// image follows.
func (o operation) withoutJob(earlier ledger.Detail, disks map[string]string) *queue.Outcome {
	return o.completed(func(id string) events.DesktopResult {
		otherImage := slices.ContainsFunc(earlier.Previous, func(p events.ImageInfo) bool {
			return p.DesktopID == id && p.ImageID != "" && !o.wants(p.ImageID)
		})
		same, known := once.SameDisk(earlier.Volumes[id], disks[id])
		otherDisk := known && !same
		switch {
		case slices.Contains(earlier.Skipped, id):
			return events.DesktopResult{Outcome: events.Skipped}
		case otherImage, otherDisk:
			return events.DesktopResult{Outcome: events.Succeeded, Kind: events.KindUnknownOutcome}
		default:
			return events.DesktopResult{Outcome: events.Missing, Kind: events.KindUnknownOutcome}
		}
	})
}

// completed is a job.completed without a job, with the result of each desktop of the command.
func (o operation) completed(result func(desktopID string) events.DesktopResult) *queue.Outcome {
	done := events.JobCompleted{
		Function: events.FnRebuild, Command: o.c.Ref(), Outcome: events.Succeeded, ImageID: o.cmd.ImageID, ImageType: o.cmd.ImageType,
	}
	unknown := 0
	for _, id := range o.cmd.DesktopIDs {
		d := result(id)
		d.DesktopID = id
		done.Desktops = append(done.Desktops, d)
		if d.Outcome == events.Missing {
			unknown++
		}
	}
	if unknown > 0 {
		done.Outcome = events.Partial
		if unknown == len(done.Desktops) {
			done.Outcome = events.Lost
		}
		done.Error = &events.Failure{Kind: events.KindUnknownOutcome, ErrorMsg: fmt.Sprintf("it is not known whether "+
			"%d of %d desktops were rebuilt: they run the image, but what they ran before is not known",
			unknown, len(done.Desktops))}
	}
	return &queue.Outcome{Type: events.TypeJobCompleted, About: []string{"job.completed"}, Data: done}
}

// Send rebuilds the desktops that are not skipped.
func (o operation) Send(ctx context.Context, signedAt time.Time, d ledger.Detail) (workspace.Accepted, error) {
	delay := int(o.cmd.DelayTime)
	return o.api.Rebuild(ctx, signedAt, workspace.RebuildRequest{
		DesktopIDs: d.DesktopIDs, ImageType: o.cmd.ImageType, ImageID: o.cmd.ImageID, OSType: o.cmd.OSType, DelayTime: &delay,
		Message: o.cmd.Message, OrderID: o.cmd.OrderID, EnterpriseProjectID: o.cmd.EnterpriseProjectID,
		EncryptType: o.cmd.EncryptType, KMSID: o.cmd.KMSID, HandleType: o.cmd.HandleType,
	})
}

// Accepted adds the image to job.accepted.
func (o operation) Accepted(a *events.JobAccepted) {
	a.ImageID, a.ImageType, a.DelayTime = o.cmd.ImageID, o.cmd.ImageType, o.cmd.DelayTime
}

// FindJob looks for the rebuild job of a lost call. The job may begin only when the delay is over.
func (o operation) FindJob(ctx context.Context, d ledger.Detail, from, until time.Time) (once.Found, error) {
	if !until.IsZero() {
		until = until.Add(time.Duration(o.cmd.DelayTime) * time.Minute)
	}
	return once.RebuildJobs.Find(ctx, o.api, d, from, until)
}

// Unchanged reports whether the desktops run the same images on the same disks as before the call, without a task of
// the kind t.
func (o operation) Unchanged(ctx context.Context, d ledger.Detail, t once.Tasks) (bool, string, error) {
	infos, err := o.api.CheckImages(ctx, d.DesktopIDs)
	if err != nil {
		return false, "", err
	}
	before, now := map[string]string{}, map[string]string{}
	for _, p := range d.Previous {
		before[p.DesktopID] = p.ImageID
	}
	for _, i := range infos {
		now[i.DesktopID] = i.ImageID
	}
	for _, id := range d.DesktopIDs {
		if before[id] != now[id] {
			return false, fmt.Sprintf("desktop %s runs image %q, and ran %q before the call", id, now[id], before[id]), nil
		}
	}
	return once.Idle(ctx, o.api, d, t, o.cmd.ImageID)
}

// Divide ends a refused batch in command.split:
//
//   - a desktop that cannot be rebuilt now becomes a part of its own, and the others become one part
//   - if all or none of the desktops can be rebuilt, the batch is halved
//   - after a conflict the batch waits while all desktops are busy (with when_busy fail it ends), and the call is retried
//     if none is
func (o operation) Divide(ctx context.Context, d ledger.Detail, refusal events.Failure, repeated bool) (*queue.Outcome, error) {
	conflict := refusal.Kind == events.KindConflict
	if !conflict {
		why, err := o.imageGone(ctx)
		if err != nil {
			return nil, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...)
		}
		if why != "" {
			refusal.ErrorDetail = why
			return nil, &queue.FailedError{Failure: refusal}
		}
	}
	fit, unfit, gone, err := once.SortOut(ctx, o.api, d.DesktopIDs, o.c.Failures)
	switch {
	case err != nil:
		return nil, err
	case gone == len(d.DesktopIDs):
		return nil, &queue.FailedError{Failure: refusal, DesktopIDs: d.DesktopIDs}
	case conflict && len(fit) == 0 && o.cmd.WhenBusy == events.BusyFails:
		return nil, &queue.FailedError{Failure: refusal, DesktopIDs: d.DesktopIDs}
	case conflict && len(fit) == 0:
		return nil, queue.RetryAfter(busyWait, fmt.Errorf("all %d desktops are busy", len(unfit)))
	case conflict && len(unfit) == 0 && !repeated:
		return nil, nil
	}
	var parts [][]string
	if len(fit) == 0 || len(unfit) == 0 {
		half := (len(d.DesktopIDs) + 1) / 2
		parts = [][]string{d.DesktopIDs[:half], d.DesktopIDs[half:]}
	} else {
		parts = [][]string{fit}
		for _, id := range unfit {
			parts = append(parts, []string{id})
		}
	}
	parts[0] = append(slices.Clone(parts[0]), d.Skipped...)
	return once.Split(o, parts), nil
}

// Part is the command for some of its desktops.
func (o operation) Part(desktopIDs []string) any { return o.cmd.Only(desktopIDs) }
