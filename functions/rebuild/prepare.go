package rebuild

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// shared is the API; commands that are prepared or searched for at the same time share its lists.
type shared struct {
	once.SharedLists
	others
}

// others is the API one level deeper, so that shared has the lists of SharedLists.
type others struct{ API }

// Prepare splits a command that is too large for a call. Else it reads which jobs the desktops had, and then which image
// each runs now. Desktops that run the image already are skipped, unless the command wants them rebuilt all the same.
func (o operation) Prepare(ctx context.Context, earlier, kept ledger.Detail) (ledger.Detail, *queue.Outcome, error) {
	switch {
	case len(earlier.DesktopIDs) > 0:
		return o.prepareSecond(ctx, earlier)
	case len(o.cmd.DesktopIDs) > events.MaxRebuildCall:
		return o.split(ctx)
	}
	d, err := once.RebuildJobs.Before(ctx, o.api, ledger.Detail{DesktopIDs: o.cmd.DesktopIDs})
	if err != nil {
		return o.notRead(ctx, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...))
	}
	if once.Holds(kept, d, o.api.ServiceNow()) {
		d.Previous, d.ReadAt, d.Volumes = kept.Previous, kept.ReadAt, kept.Volumes
	} else if d, err = o.checkImages(ctx, d); err != nil {
		return o.notRead(ctx, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...))
	}
	runs := make(map[string]string, len(d.Previous))
	for _, p := range d.Previous {
		runs[p.DesktopID] = p.ImageID
	}
	d.DesktopIDs = nil
	var same []string // will be rebuilt to the image that they run
	for _, id := range o.cmd.DesktopIDs {
		current := o.wants(runs[id])
		if current && !o.cmd.RebuildCurrent {
			d.Skipped = append(d.Skipped, id)
			continue
		}
		if current {
			same = append(same, id)
		}
		d.DesktopIDs = append(d.DesktopIDs, id)
	}
	if len(d.DesktopIDs) == 0 {
		return d, o.allSkipped(), nil
	}
	if err := o.checkOS(ctx, d); err != nil {
		return d, nil, err
	}
	if d.Volumes, err = once.Volumes(ctx, o.api, same, d.Volumes); err != nil {
		_, outcome, err := o.notRead(ctx, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...))
		return d, outcome, err
	}
	return d, nil, nil
}

// checkImages adds to a detail which image each of its desktops runs.
func (o operation) checkImages(ctx context.Context, d ledger.Detail) (ledger.Detail, error) {
	d.ReadAt = o.api.ServiceNow()
	infos, err := o.api.CheckImages(ctx, d.DesktopIDs)
	if err != nil {
		return d, err
	}
	for _, i := range infos {
		if slices.Contains(d.DesktopIDs, i.DesktopID) {
			d.Previous = append(d.Previous, events.ImageInfo{
				DesktopID: i.DesktopID, ImageID: i.ImageID, ImageName: i.ImageName, ImageType: i.ImageType, OSType: i.OSType,
			})
		}
	}
	return d, nil
}

// split divides the command into parts of one call each.
func (o operation) split(ctx context.Context) (ledger.Detail, *queue.Outcome, error) {
	parts := o.cmd.Parts()
	err := o.prepareParts(ctx, parts)
	if failed, ok := queue.AsFailed(err); ok { // each part reads for itself, and ends for itself
		o.engine.Log.WarnContext(ctx, "cannot read the images for all parts of a command", "command_id", o.c.Envelope.ID, "error", failed)
		err = nil
	}
	if err != nil {
		return ledger.Detail{}, nil, err
	}
	return ledger.Detail{}, once.Split(o, parts), nil
}

// prepareParts reads the images for several parts at a time, since check-images takes more desktops than a rebuild, and
// records the answers with the parts. It skips the parts of an earlier delivery.
func (o operation) prepareParts(ctx context.Context, parts [][]string) error {
	const atOnce = events.MaxCheckCall / events.MaxRebuildCall
	var jobs *once.JobList
	for first := 0; first < len(parts); first += atOnce {
		group := parts[first:min(first+atOnce, len(parts))]
		done, err := o.engine.PartPrepared(ctx, o, first+len(group)-1)
		switch {
		case err != nil:
			return err
		case done:
			continue
		case jobs == nil:
			list, err := once.RebuildJobs.List(ctx, o.api)
			if err != nil {
				return verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...)
			}
			jobs = &list
		}
		all, err := o.checkImages(ctx, ledger.Detail{DesktopIDs: slices.Concat(group...)})
		if err != nil {
			return verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...)
		}
		for i, ids := range group {
			read := jobs.Before(ledger.Detail{DesktopIDs: ids, ReadAt: all.ReadAt})
			for _, p := range all.Previous {
				if slices.Contains(ids, p.DesktopID) {
					read.Previous = append(read.Previous, p)
				}
			}
			if err := o.engine.PreparePart(ctx, o, first+i, ids, read); err != nil {
				return err
			}
		}
	}
	return nil
}

// prepareSecond prepares a second call. It skips desktops that already run the image. With rebuild_current it skips only
// those that run it on another disk than before, and never a desktop that was busy before the first call: that other job
// may have changed the disk.
func (o operation) prepareSecond(ctx context.Context, earlier ledger.Detail) (ledger.Detail, *queue.Outcome, error) {
	infos, err := o.api.CheckImages(ctx, earlier.DesktopIDs)
	if err != nil {
		return o.notRead(ctx, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...))
	}
	disks, err := once.Volumes(ctx, o.api, slices.Sorted(maps.Keys(earlier.Volumes)), nil)
	if err != nil {
		return o.notRead(ctx, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...))
	}
	var current, rest []string
	for _, id := range earlier.DesktopIDs {
		runs := slices.ContainsFunc(infos, func(i workspace.ImageInfo) bool { return i.DesktopID == id && o.wants(i.ImageID) })
		if o.cmd.RebuildCurrent { // then the image alone proves no rebuild
			same := false
			if before, ran := earlier.Volumes[id]; ran {
				same, _ = once.SameDisk(before, disks[id])
			}
			runs = runs && !same && !slices.Contains(earlier.Busy, id)
		}
		if runs {
			current = append(current, id)
		} else {
			rest = append(rest, id)
		}
	}
	switch {
	case len(current) == 0:
		return earlier, nil, nil
	case len(rest) > 0:
		return earlier, once.Split(o, [][]string{slices.Concat(current, earlier.Skipped), rest}), nil
	}
	busy, err := once.WithTask(ctx, o.api, current)
	switch {
	case err != nil:
		return o.notRead(ctx, verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...))
	case len(busy) > 0: // the job that gave it the image may not be done
		return earlier, nil, queue.RetryAfter(busyWait, fmt.Errorf("%d of %d desktops that run the image by now have a task", len(busy), len(current)))
	}
	return earlier, o.withoutJob(earlier, disks), nil
}

// notRead is the result of a preparation whose read failed. If the read was refused because a desktop no longer exists,
// the batch is divided.
func (o operation) notRead(ctx context.Context, err error) (ledger.Detail, *queue.Outcome, error) {
	failed, ok := queue.AsFailed(err)
	if !ok || failed.Failure.Kind != events.KindNotFound || len(o.cmd.DesktopIDs) < 2 {
		return ledger.Detail{}, nil, err
	}
	outcome, err := o.Divide(ctx, ledger.Detail{DesktopIDs: o.cmd.DesktopIDs}, failed.Failure, false)
	return ledger.Detail{}, outcome, err
}
