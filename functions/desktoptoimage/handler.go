// Package desktoptoimage makes an image of a desktop.
//
//	recompose.command.desktoptoimage.v1 ─▶ POST /v2/{project_id}/desktops/desktop-to-image ─▶ job.accepted
package desktoptoimage

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the calls that this function makes: reads of the current state, then one write. The other reads are made only
// after a lost or refused call.
type API interface {
	once.Desktops
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
	Sysprep(ctx context.Context, desktopID string) (workspace.Sysprep, error)
	DesktopToImage(ctx context.Context, signedAt time.Time, r workspace.DesktopToImageRequest) (workspace.Accepted, error)
}

const (
	incompleteRetry = 10 * time.Second
	incompleteMost  = 6
)

// New makes the function. Each command is carried out at most once: a second delivery finds its record in the ledger
// and publishes the same events, without a call.
func New(api API, engine *once.Engine) queue.Function {
	api = shared{engine.ShareLists(api), others{api}}
	return engine.Write(queue.Function{
		Name:  events.FnDesktopToImage,
		Types: []string{events.TypeDesktopToImage},
	}, func(c queue.Command) (once.Operation, error) { return decode(api, engine, c) })
}

// shared is the API; commands that are prepared or searched for at the same time share its lists.
type shared struct {
	once.SharedLists
	others
}

// others is the API one level deeper, so that shared has the lists of SharedLists.
type others struct{ API }

// operation is one capture. Its methods stand in the order in which the engine runs them.
type operation struct {
	api     API
	log     *slog.Logger
	invalid error
	c       queue.Command
	cmd     events.DesktopToImage
	watch   time.Duration
}

func decode(api API, engine *once.Engine, c queue.Command) (once.Operation, error) {
	cmd, err := events.DecodeDesktopToImage(c.Envelope.Data)
	if err != nil {
		return nil, queue.Invalid(err)
	}
	var invalid error
	if cmd.Then != nil && cmd.Then.Rebuild != nil {
		invalid = engine.CheckDelay("then.rebuild.delay_time", cmd.Then.Rebuild.DelayTime)
	}
	return operation{api: api, log: engine.Log, invalid: invalid, c: c, cmd: cmd, watch: engine.Config.ImageDeadline}, nil
}

// About describes the command.
func (o operation) About() once.Command {
	return once.Command{
		Command: o.c, Function: events.FnDesktopToImage, Data: o.cmd, ProjectID: o.cmd.ProjectID,
		DesktopIDs: []string{o.cmd.DesktopID}, Watch: o.watch, Invalid: o.invalid,
	}
}

// Prepare checks that the name of the image is free and that the desktop can be captured, and reads which jobs it had.
func (o operation) Prepare(ctx context.Context, earlier, _ ledger.Detail) (ledger.Detail, *queue.Outcome, error) {
	retried := len(earlier.DesktopIDs) > 0
	if err := o.nameIsFree(ctx); err != nil {
		if failed, ok := queue.AsFailed(err); ok && retried { // the image may be that of the earlier call
			failed.Effect = events.EffectUnknown
		}
		return ledger.Detail{}, nil, err
	}
	if retried {
		return earlier, nil, nil
	}
	d := ledger.Detail{DesktopIDs: []string{o.cmd.DesktopID}}
	d, err := once.ImageJobs.Before(ctx, o.api, d)
	if err != nil {
		return ledger.Detail{}, nil, verdict.Read(err, o.c.Failures, o.cmd.DesktopID)
	}
	return d, nil, o.fit(ctx)
}

// fit fails a command whose desktop cannot be captured now: a capture that fails half-way leaves its desktop off or
// sealed.
func (o operation) fit(ctx context.Context) error {
	id := o.cmd.DesktopID
	desktop, err := once.GetDesktop(ctx, o.api, id)
	if err != nil {
		return verdict.Read(err, o.c.Failures, id)
	}
	switch state := desktop.State(); {
	case state != "ACTIVE":
		return queue.Failed(events.KindConflict, "desktop_id: an image is made of a desktop that is ACTIVE, and desktop %s is %s; start it first", id, state)
	case desktop.HasTask():
		return queue.Failed(events.KindConflict, "desktop_id: desktop %s has the task %s; send a new command when it is done", id, desktop.TaskStatus)
	case !o.cmd.ExecuteSysprep:
		return nil
	}
	s, err := o.api.Sysprep(ctx, id)
	switch {
	case slices.Contains([]workspace.Class{workspace.Unauthorized, workspace.Throttled, workspace.NotSent}, workspace.ClassOf(err)):
		return verdict.Read(err, o.c.Failures, id)
	case err != nil:
		o.log.WarnContext(ctx, "whether the desktop supports sysprep cannot be read; the capture begins all the same", "error", err)
	case s.CanImage == nil:
		o.log.WarnContext(ctx, "the service does not show whether the desktop supports sysprep; the capture begins all the same")
	case !*s.CanImage:
		return queue.Failed(events.KindRefused, "execute_sysprep: desktop %s does not support it (support_create_image is false, "+
			"sysprep_version %q): update its agent, or capture it with execute_sysprep false", id, s.Version)
	}
	return nil
}

// nameIsFree fails a command if a private image has its image_name already: the job does not contain the id of its
// image, so only the name finds the image later.
func (o operation) nameIsFree(ctx context.Context) error {
	c, cmd := o.c, o.cmd
	images, err := o.api.ListImages(ctx, workspace.ImagesQuery{ImageType: "private"})
	if err != nil {
		return verdict.Read(err, c.Failures, cmd.DesktopID)
	}
	for _, image := range images.Images {
		if image.Name == cmd.ImageName {
			return queue.Failed(events.KindConflict, "image_name: must be a name that no private image has, or the new image could not be distinguished from it; %q is image %s", cmd.ImageName, image.ID)
		}
	}
	if images.Complete {
		return nil
	}
	if c.Failures < incompleteMost { // waiting for a thaw is none
		return queue.RetryFailed(incompleteRetry, fmt.Errorf("the list of private images was incomplete"))
	}
	return queue.Failed(events.KindBadAnswer, "image_name: the service did not give a complete list of private images, so %q cannot be known to be free", cmd.ImageName)
}

// Send begins the capture.
func (o operation) Send(ctx context.Context, signedAt time.Time, _ ledger.Detail) (workspace.Accepted, error) {
	r := workspace.DesktopToImageRequest{
		ImageName: o.cmd.ImageName, ImageDescription: o.cmd.ImageDescription, DesktopID: o.cmd.DesktopID,
		ExecuteSysprep: o.cmd.ExecuteSysprep, EnterpriseProjectID: o.cmd.EnterpriseProjectID, IsClearData: o.cmd.IsClearData,
		MaxRAM: o.cmd.MaxRAM, MinRAM: o.cmd.MinRAM,
	}
	for _, tag := range o.cmd.ImageTags {
		r.ImageTags = append(r.ImageTags, workspace.ImageTag{Key: tag.Key, Value: tag.Value})
	}
	return o.api.DesktopToImage(ctx, signedAt, r)
}

// Accepted adds the name of the image and the command that follows to job.accepted.
func (o operation) Accepted(a *events.JobAccepted) { a.ImageName, a.Then = o.cmd.ImageName, o.cmd.Then }

// FindJob looks for the capture of a lost call.
func (o operation) FindJob(ctx context.Context, d ledger.Detail, from, until time.Time) (once.Found, error) {
	return once.ImageJobs.Find(ctx, o.api, d, from, until)
}

// Unchanged reports whether there is still no image of the name, and the desktop has no task of the kind t.
func (o operation) Unchanged(ctx context.Context, d ledger.Detail, t once.Tasks) (bool, string, error) {
	images, err := o.api.ListImages(ctx, workspace.ImagesQuery{ImageType: "private"})
	if err != nil {
		return false, "", err
	}
	for _, image := range images.Images {
		if image.Name == o.cmd.ImageName {
			return false, fmt.Sprintf("the private image %s has the name by now, so the service may have accepted the call; no job shows it", image.ID), nil
		}
	}
	if !images.Complete {
		return false, "the list of private images was incomplete", nil
	}
	return once.Idle(ctx, o.api, d, t, "")
}

// Divide does nothing: a capture is of one desktop.
func (operation) Divide(context.Context, ledger.Detail, events.Failure, bool) (*queue.Outcome, error) {
	return nil, nil
}

// Part is nil: a capture is of one desktop.
func (operation) Part([]string) any { return nil }
