package once

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/rollout/fence"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// Desktops describes desktops, and lists their jobs.
type Desktops interface {
	Jobs
	GetDesktop(ctx context.Context, desktopID string) (workspace.Desktop, error)
}

// GetDesktop describes a desktop. The description of another one is an error: it proves nothing about this one.
func GetDesktop(ctx context.Context, api Desktops, id string) (workspace.Desktop, error) {
	d, err := api.GetDesktop(ctx, id)
	if err == nil && d.DesktopID != "" && fence.Fold(d.DesktopID) != fence.Fold(id) {
		return workspace.Desktop{}, &workspace.Error{
			Operation: "get-desktop", Class: workspace.BadAnswer,
			Err: fmt.Errorf("the service was asked for desktop %s and described %s", id, d.DesktopID),
		}
	}
	return d, err
}

// getDesktop describes a desktop. Callers describe up to a hundred desktops, more than the rate limit allows at once,
// so getDesktop blocks until its turn. This is rare enough to hold a message for.
func getDesktop(ctx context.Context, api Desktops, id string) (workspace.Desktop, error) {
	for {
		d, err := GetDesktop(ctx, api, id)
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

// Fleet describes many desktops.
type Fleet interface {
	Desktops
	SomeDesktops(ctx context.Context, ids []string) (map[string]workspace.ListedDesktop, error)
}

// listed describes the state of desktops by one list, as far as it shows it. The others must be described one by one: they may
// not exist, or the service refuses the list. What a list shows may be older than the description of a desktop, so it proves
// nothing; but the rate limit of a function on AWS has no room for a hundred descriptions. The error is a verdict.
func listed(ctx context.Context, api Fleet, ids []string, failures int) (map[string]workspace.Desktop, error) {
	if len(ids) < 2 {
		return nil, nil
	}
	rows, err := api.SomeDesktops(ctx, ids)
	if err != nil {
		if err = verdict.Read(err, failures); retried(err) {
			return nil, err
		}
	}
	shown := make(map[string]workspace.Desktop, len(rows))
	for id, row := range rows {
		if row.Status != "" {
			shown[id] = row.Desktop()
		}
	}
	return shown, nil
}

// Tasks selects which tasks of a desktop could be the effect of a call.
type Tasks string

// The values of Tasks.
const (
	AnyTask      Tasks = "any"      // to prove that nothing was done, before a call is made once more
	UnlistedTask Tasks = "unlisted" // a task that no listed job explains
)

// Idle reports whether the desktops that still exist are unchanged: the same system disk as in the detail and no task
// of the kind t. If the call gives desktops an image, those of which the detail has no image must show another one than
// that. If a desktop is not unchanged, why is the reason. It makes one call for each desktop.
func Idle(ctx context.Context, api Desktops, d ledger.Detail, t Tasks, image string) (idle bool, why string, err error) {
	ran := map[string]bool{}
	for _, p := range d.Previous {
		ran[p.DesktopID] = p.ImageID != ""
	}
	var listed map[string]bool
	if t == UnlistedTask {
		if listed, err = underWay(ctx, api); err != nil {
			return false, "", err
		}
	}
	for _, id := range d.DesktopIDs {
		desktop, err := getDesktop(ctx, api, id)
		switch {
		case workspace.IsNotFound(err): // it is gone; our calls delete no desktops
			continue
		case err != nil:
			return false, "", err
		case desktop.HasTask() && !listed[fence.Fold(id)]:
			return false, fmt.Sprintf("desktop %s has the task %s", id, desktop.TaskStatus), nil
		case t == AnyTask && busy(desktop): // a rebuild that failed late leaves an error
			return false, fmt.Sprintf("desktop %s is in the state %s", id, desktop.State()), nil
		case image != "" && !ran[id] && (strings.EqualFold(desktop.ImageID(), image) || desktop.ImageID() == ""):
			return false, fmt.Sprintf("desktop %s runs image %q, and what it ran before the call is not known", id, desktop.ImageID()), nil
		}
		if before, kept := d.Volumes[id]; kept {
			switch same, known := SameDisk(before, volume(desktop)); {
			case !known:
				return false, fmt.Sprintf("whether desktop %s has the system disk of before cannot be seen", id), nil
			case !same:
				return false, fmt.Sprintf("desktop %s has another system disk than before", id), nil
			}
		}
	}
	return true, "", nil
}

// WithTask returns the desktops that have a task. A desktop that no longer exists has no task.
func WithTask(ctx context.Context, api Desktops, ids []string) ([]string, error) {
	var with []string
	for _, id := range ids {
		desktop, err := getDesktop(ctx, api, id)
		switch {
		case workspace.IsNotFound(err):
		case err != nil:
			return nil, err
		case desktop.HasTask():
			with = append(with, id)
		}
	}
	return with, nil
}

// Volumes returns the system disk of each desktop, in the form "<volume id> <create time>". After a rebuild to the same
// image only the disk differs.
//
// It makes one call for each desktop that is not in known. With an error it returns what is known by then: the rate limit of
// a worker may need several deliveries for a batch.
func Volumes(ctx context.Context, api Desktops, ids []string, known map[string]string) (map[string]string, error) {
	volumes := make(map[string]string, len(ids))
	maps.Copy(volumes, known)
	for _, id := range ids {
		if _, is := known[id]; is {
			continue
		}
		desktop, err := getDesktop(ctx, api, id)
		if err != nil {
			return volumes, err
		}
		volumes[id] = volume(desktop)
	}
	return volumes, nil
}

// SameDisk reports whether two values of Volumes are the same disk. known is false if a value has no id or their times
// cannot be compared: the service writes times with or without a zone.
func SameDisk(a, b string) (same, known bool) {
	idA, rawA, _ := strings.Cut(a, " ")
	idB, rawB, _ := strings.Cut(b, " ")
	switch timeA, timeB := workspace.ParseTime(rawA), workspace.ParseTime(rawB); {
	case idA == "" || idB == "":
		return false, false
	case idA != idB:
		return false, true
	case rawA == rawB:
		return true, true
	case timeA.IsZero() || timeB.IsZero() || timeA.Zoned != timeB.Zoned:
		return false, false
	default:
		return timeA.Equal(timeB.Time), true
	}
}

func volume(d workspace.Desktop) string {
	if d.RootVolume == nil {
		return ""
	}
	return d.RootVolume.VolumeID + " " + d.RootVolume.CreateTime.Raw
}

// SortOut sorts the desktops of a refused batch: fit can be rebuilt now, unfit cannot because they are busy or gone;
// gone counts the desktops that no longer exist. failures is how often the command failed before. The error is a
// verdict.
func SortOut(ctx context.Context, api Fleet, ids []string, failures int) (fit, unfit []string, gone int, err error) {
	working, err := underWay(ctx, api)
	if err != nil {
		if err = verdict.Read(err, failures); retried(err) {
			return nil, nil, 0, err
		}
	}
	shown, err := listed(ctx, api, ids, failures)
	if err != nil {
		return nil, nil, 0, err
	}
	for _, id := range ids {
		if working[fence.Fold(id)] {
			unfit = append(unfit, id)
			continue
		}
		desktop, is := shown[id]
		var err error
		if !is {
			desktop, err = getDesktop(ctx, api, id)
		}
		switch {
		case workspace.IsNotFound(err):
			gone++
			unfit = append(unfit, id)
		case err != nil:
			if err = verdict.Read(err, failures); retried(err) {
				return nil, nil, 0, err
			}
			fit = append(fit, id) // its state cannot be read, which is no reason to separate it
		case busy(desktop):
			unfit = append(unfit, id)
		default:
			fit = append(fit, id)
		}
	}
	return fit, unfit, gone, nil
}

// retried reports whether a verdict on a read retries the message. Otherwise no attempt can succeed.
func retried(err error) bool {
	_, failed := queue.AsFailed(err)
	return !failed
}

// underWay returns the desktops that are being rebuilt or captured, by their folded ids. Such a desktop need not show a task.
func underWay(ctx context.Context, api Jobs) (map[string]bool, error) {
	working := map[string]bool{}
	for _, t := range slices.Concat(RebuildJobs.Types, ImageJobs.Types) {
		list, err := api.ListSubJobs(ctx, workspace.SubJobsQuery{JobType: t, Status: []string{"WAITING", "RUNNING"}})
		if err != nil {
			return nil, err
		}
		for _, sub := range list.Jobs {
			if s := sub.State(); s != workspace.Succeeded && s != workspace.Failed {
				working[fence.Fold(sub.DesktopID())] = true
			}
		}
	}
	return working, nil
}

// busy reports whether a desktop cannot be rebuilt now, by its state and task.
func busy(d workspace.Desktop) bool {
	switch d.State() {
	case "ACTIVE", "SHUTOFF", "HIBERNATED":
		return d.HasTask()
	default:
		return true
	}
}
