package once

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// A desktop that is busy is asked for again after 20 s, one whose disk is being changed after 5 min (what Terraform
// waits), and given up after half an hour.
const (
	conflictWait            = 20 * time.Second
	diskWait                = 5 * time.Minute
	DefaultConflictDeadline = 30 * time.Minute
)

// refusal is what the ledger keeps of a refusal that may pass, or of that of a batch.
type refusal struct {
	Class   workspace.Class `json:"class"`
	Failure events.Failure  `json:"failure"`
	Divide  bool            `json:"divide,omitempty"`
}

// judge tells the ledger what an error of the call means. A batch that is refused because of some of its desktops is
// divided; a conflict may pass.
func (r Rules) judge(w Write, called int, err error, fail func(*queue.FailedError) *ledger.End) ledger.Judgement {
	e, ok := errors.AsType[*workspace.Error](err)
	if !ok || e.MayHaveExecuted() {
		return ledger.Judgement{MayHaveExecuted: true}
	}
	said := refusal{Class: e.Class, Failure: verdict.Failure(err)}
	wait := conflictWait
	switch e.Class {
	case workspace.Refused, workspace.NotFound:
		if w.Part == nil || called < 2 {
			return verdict.Judge(err, w.Command.Failures, fail)
		}
		said.Divide = true
	case workspace.Conflict:
		said.Divide = w.Part != nil && called > 1
	case workspace.DiskBusy:
		wait = diskWait
	default:
		return verdict.Judge(err, w.Command.Failures, fail)
	}
	data, bad := json.Marshal(said)
	if bad != nil { // a struct of strings that cannot be written
		panic(bad)
	}
	return ledger.Judgement{Refusal: data, RetryIn: r.paced(wait)}
}

// refused decides about a refusal: it divides the batch, gives up after the deadline, or lets it be tried again.
func (r Rules) refused(ctx context.Context, w Write, record ledger.Record, fail func(*queue.FailedError) *ledger.End) (*ledger.End, error) {
	var said refusal
	if err := json.Unmarshal(record.Refused.Data, &said); err != nil {
		return nil, fmt.Errorf("read the ledger record: %w", err)
	}
	if said.Divide {
		var d Detail
		if err := json.Unmarshal(record.Detail, &d); err != nil {
			return nil, fmt.Errorf("read the ledger record: %w", err)
		}
		fresh := r.Now().Before(record.Refused.NotBefore)
		if end, err := r.divide(ctx, w, d, said, fresh, fail); err != nil || end != nil {
			return end, err
		}
	}
	most := r.ConflictDeadline
	if most == 0 {
		most = DefaultConflictDeadline
	}
	if r.Now().Sub(record.Refused.Since) < most {
		return nil, nil
	}
	return fail(&queue.FailedError{Failure: said.Failure}), nil
}

// divide ends a refused batch in command.split: by one look at its desktops, those that cannot be rebuilt now go on by
// themselves, each to its own end, and the rest goes on together. Where nothing is seen that tells them apart, the batch
// is halved. There is no end where all of them are busy, and the batch waits, or where they are no more after it has
// waited, and it is tried again; a fresh refusal is one that was not waited for yet.
func (r Rules) divide(ctx context.Context, w Write, d Detail, said refusal, fresh bool, fail func(*queue.FailedError) *ledger.End) (*ledger.End, error) {
	if w.Hopeless != nil && said.Class != workspace.Conflict {
		why, err := w.Hopeless(ctx)
		if err != nil {
			return nil, verdict.Read(err, w.Command.Failures, w.DesktopIDs...)
		}
		if why != "" {
			said.Failure.ErrorDetail = why
			return fail(&queue.FailedError{Failure: said.Failure}), nil
		}
	}
	working, err := underWay(ctx, w.Search.API)
	if err != nil {
		if again := verdict.Read(err, w.Command.Failures); !isFailed(again) {
			return nil, again
		}
	}
	var fit, unfit []string
	gone := 0
	for _, id := range d.DesktopIDs {
		if working[id] {
			unfit = append(unfit, id)
			continue
		}
		desktop, err := getPatiently(ctx, w.Search.API, id)
		switch {
		case workspace.IsNotFound(err):
			gone++
			unfit = append(unfit, id)
		case err != nil:
			if again := verdict.Read(err, w.Command.Failures); !isFailed(again) {
				return nil, again
			}
			fit = append(fit, id) // it cannot be seen: no reason to set it apart
		case busy(desktop):
			unfit = append(unfit, id)
		default:
			fit = append(fit, id)
		}
	}
	switch {
	case gone == len(d.DesktopIDs):
		return fail(&queue.FailedError{Failure: said.Failure, DesktopIDs: d.DesktopIDs}), nil
	case said.Class == workspace.Conflict && (len(fit) == 0 || len(unfit) == 0 && !fresh):
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
	return w.end(split(w.Command, parts), r.Now())
}

// underWay are the desktops that are being rebuilt or captured: they need not show a task.
func underWay(ctx context.Context, api Jobs) (map[string]bool, error) {
	working := map[string]bool{}
	for _, t := range []string{workspace.JobTypeRebuild, workspace.JobTypeRebuild + "s", workspace.JobTypeImage} {
		list, err := api.ListSubJobs(ctx, workspace.SubJobsQuery{JobType: t, Status: []string{"WAITING", "RUNNING"}})
		if err != nil {
			return nil, err
		}
		for _, sub := range list.Jobs {
			if s := sub.State(); s != workspace.Succeeded && s != workspace.Failed {
				working[sub.DesktopID()] = true
			}
		}
	}
	return working, nil
}

func isFailed(err error) bool {
	_, failed := err.(*queue.FailedError) //nolint:errorlint // only an end by itself counts, not one that is the reason of another verdict
	return failed
}

// busy reports whether a desktop cannot be rebuilt now, as far as it shows.
func busy(d workspace.Desktop) bool {
	switch d.State() {
	case "ACTIVE", "SHUTOFF", "HIBERNATED":
		return d.HasTask()
	default:
		return true
	}
}

// getPatiently describes a desktop. A look is at up to a hundred desktops, more than the rate limit gives at once: it
// waits for its turn, which is rare enough to hold a message for.
func getPatiently(ctx context.Context, api Jobs, id string) (workspace.Desktop, error) {
	for {
		d, err := api.GetDesktop(ctx, id)
		e, ok := errors.AsType[*workspace.Error](err)
		if !ok || e.Class != workspace.NotSent || e.RetryAfter <= 0 || e.RetryAfter > time.Minute {
			return d, err
		}
		turn := time.NewTimer(e.RetryAfter)
		select {
		case <-turn.C:
		case <-ctx.Done():
			turn.Stop()
			return d, err
		}
	}
}

// Idle tells whether the desktops exist unchanged: the same system disk and no task. It asks for each by itself.
func (s Search) Idle(ctx context.Context, d Detail) (yes bool, why string, err error) {
	for _, id := range d.DesktopIDs {
		desktop, err := getPatiently(ctx, s.API, id)
		switch {
		case workspace.IsNotFound(err): // it is gone; no call of ours can have done that
			continue
		case err != nil:
			return false, "", err
		case desktop.HasTask():
			return false, fmt.Sprintf("desktop %s has the task %s", id, desktop.TaskStatus), nil
		}
		if before := d.Volumes[id]; before != "" && volume(desktop) != before {
			return false, fmt.Sprintf("desktop %s has another system disk than before", id), nil
		}
	}
	return true, "", nil
}

// Volumes are the system disks of desktops, by which a rebuild to the same image is seen.
func (s Search) Volumes(ctx context.Context, ids []string) (map[string]string, error) {
	volumes := make(map[string]string, len(ids))
	for _, id := range ids {
		desktop, err := getPatiently(ctx, s.API, id)
		if err != nil {
			return nil, err
		}
		volumes[id] = volume(desktop)
	}
	return volumes, nil
}

func volume(d workspace.Desktop) string {
	if d.RootVolume == nil {
		return ""
	}
	return d.RootVolume.VolumeID + " " + d.RootVolume.CreateTime.Raw
}

func split(c queue.Command, parts [][]string) queue.Outcome {
	said := events.CommandSplit{Command: c.Ref()}
	for i, ids := range parts {
		said.Parts = append(said.Parts, events.Part{ID: events.PartID(c.Identity(), i), DesktopIDs: ids})
	}
	return queue.Outcome{Type: events.TypeCommandSplit, About: []string{"command.split"}, Data: said}
}

// Split ends a command in command.split with these parts.
func Split(c queue.Command, parts [][]string) *queue.Outcome {
	o := split(c, parts)
	return &o
}
