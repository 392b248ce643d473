package rebuild

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// checkOS fails a command that would give a desktop another operating system, unless the command allows it. The current
// system is the one that check-images reported; a desktop without a reported system is not checked.
func (o operation) checkOS(ctx context.Context, d ledger.Detail) error {
	runs := make(map[string]string, len(d.Previous))
	for _, p := range d.Previous {
		if p.OSType != "" && slices.Contains(d.DesktopIDs, p.DesktopID) {
			runs[p.DesktopID] = p.OSType
		}
	}
	if o.cmd.AllowOSChange || len(runs) == 0 {
		return nil
	}
	image, err := o.imageOS(ctx, d)
	if err != nil {
		return err
	}
	for _, other := range []struct{ what, os string }{{"image " + o.cmd.ImageID, image}, {"the command's os_type", o.cmd.OSType}} {
		if other.os == "" {
			continue
		}
		var changed []string
		for _, id := range slices.Sorted(maps.Keys(runs)) {
			if !workspace.SameOSType(runs[id], other.os) {
				changed = append(changed, id)
			}
		}
		if len(changed) > 0 {
			failed := queue.Failed(events.KindNotAllowed, "allow_os_change: must be true (--allow-os-change) to give a desktop another operating system: "+
				"%s is %s, and desktop %s runs %s (%d in all); nothing was rebuilt", other.what, other.os, changed[0], runs[changed[0]], len(changed))
			failed.Failure.ErrorDetail = "another operating system: " + strings.Join(changed, ", ")
			return failed
		}
	}
	return nil
}

// imageOS returns the operating system of the image; "" if it is not known. A desktop that runs the image shows it
// without a call. If the service refuses to list images, the command's own os_type is used.
func (o operation) imageOS(ctx context.Context, d ledger.Detail) (string, error) {
	for _, p := range d.Previous {
		if o.wants(p.ImageID) && p.OSType != "" {
			return p.OSType, nil
		}
	}
	if !o.listed() {
		return "", nil
	}
	if os, known := o.systems.Load(o.cmd.ImageID); known {
		return os.(string), nil
	}
	images, err := o.api.ListImages(ctx, workspace.ImagesQuery{ImageType: o.cmd.ImageType, ImageID: o.cmd.ImageID})
	if err != nil {
		err = verdict.Read(err, o.c.Failures, o.cmd.DesktopIDs...)
		switch failed, ok := queue.AsFailed(err); {
		case !ok:
		case o.cmd.OSType != "" && slices.Contains([]string{events.KindForbidden, events.KindEndpoint, events.KindRefused}, failed.Failure.Kind):
			return "", nil
		default:
			failed.Failure.ErrorDetail += " (the image's operating system could not be read; give os_type, or allow_os_change)"
		}
		return "", err
	}
	for _, image := range images.Images {
		if o.wants(image.ID) {
			if image.OSType != "" {
				o.systems.Store(o.cmd.ImageID, image.OSType)
			}
			return image.OSType, nil
		}
	}
	if !images.Complete { // the image may be missing from the list
		return "", queue.RetryAfter(incompleteWait, fmt.Errorf("the list of images was incomplete, and image %s is not in it", o.cmd.ImageID))
	}
	return "", nil
}

// incompleteWait is how long a rebuild waits for a complete list of images.
const incompleteWait = 15 * time.Second

// listed reports whether the list of images has images of this type.
func (o operation) listed() bool { return o.cmd.ImageType == "gold" || o.cmd.ImageType == "private" }

// imageGone returns the reason if the list of images proves that the image does not exist; else "".
func (o operation) imageGone(ctx context.Context) (why string, err error) {
	if !o.listed() {
		return "", nil
	}
	images, err := o.api.ListImages(ctx, workspace.ImagesQuery{ImageType: o.cmd.ImageType})
	if err != nil || !images.Complete {
		return "", err
	}
	for _, image := range images.Images {
		if o.wants(image.ID) {
			return "", nil
		}
	}
	return fmt.Sprintf("no %s image has the id %s", o.cmd.ImageType, o.cmd.ImageID), nil
}
