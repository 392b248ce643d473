// Package desktoptoimage makes an image of a desktop.
//
//	recompose.command.desktoptoimage.v1 ─▶ POST /v2/{project_id}/desktops/desktop-to-image ─▶ job.accepted
package desktoptoimage

import (
	"context"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the calls that this function makes: one write, before it reads of what is there, and others only where a call
// was lost.
type API interface {
	once.Jobs
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
	DesktopToImage(ctx context.Context, signedAt time.Time, r workspace.DesktopToImageRequest) (workspace.Accepted, error)
}

// Settings are what holds for every capture.
type Settings struct {
	once.Rules
	Deadline time.Duration // of a job; zero: 2 hours
}

const (
	defaultDeadline = 2 * time.Hour
	incompleteRetry = 10 * time.Second
	incompleteMost  = 6
)

// New makes the function. Each command is carried out at most once: a second delivery finds its record in the ledger
// and says the same again, without a call.
func New(api API, s Settings) queue.Function {
	if s.Deadline == 0 {
		s.Deadline = defaultDeadline
	}
	return queue.Function{
		Name:   events.FnDesktopToImage,
		Type:   events.TypeDesktopToImage,
		Writes: true,
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			w, err := s.write(api, c)
			if err != nil {
				return nil, err
			}
			return s.Do(ctx, w)
		},
		GiveUp: func(ctx context.Context, c queue.Command, reason string) ([]queue.Outcome, error) {
			w, err := s.write(api, c)
			if err != nil {
				return nil, err
			}
			return s.GiveUp(ctx, w, reason)
		},
	}
}

// write is the command as a write that happens at most once.
func (s Settings) write(api API, c queue.Command) (once.Write, error) {
	cmd, err := events.DecodeDesktopToImage(c.Envelope.Data)
	if err != nil {
		return once.Write{}, queue.Invalid(err)
	}
	if cmd.Then != nil && cmd.Then.Rebuild != nil {
		if err := s.CheckDelay("then.rebuild.delay_time", cmd.Then.Rebuild.DelayTime); err != nil {
			return once.Write{}, err
		}
	}
	search := once.Search{
		API: api, Types: []string{workspace.JobTypeImage, workspace.JobTypeImage + "s"}, // as the service does with rebuilds
		Is: workspace.SubJob.IsImage,
	}
	search.Unchanged = func(ctx context.Context, d once.Detail) (bool, string, error) {
		return unchanged(ctx, api, search, d, cmd.ImageName)
	}
	return once.Write{
		Function: events.FnDesktopToImage, Command: c, Data: cmd, ProjectID: cmd.ProjectID, DesktopIDs: []string{cmd.DesktopID},
		Watch: s.Deadline,
		Prepare: func(ctx context.Context) (once.Detail, *queue.Outcome, error) {
			d := once.Detail{DesktopIDs: []string{cmd.DesktopID}}
			if err := nameIsFree(ctx, api, c, cmd); err != nil {
				return d, nil, err
			}
			if err := search.Before(ctx, &d); err != nil {
				return d, nil, verdict.Read(err, c.Failures, cmd.DesktopID)
			}
			return d, nil, nil
		},
		Send: func(ctx context.Context, signedAt time.Time, _ once.Detail) (workspace.Accepted, error) {
			return api.DesktopToImage(ctx, signedAt, request(cmd))
		},
		Accepted: func(a *events.JobAccepted) {
			a.Function, a.ImageName, a.Then = events.FnDesktopToImage, cmd.ImageName, cmd.Then
		},
		Search: search,
	}, nil
}

// nameIsFree refuses a name that a private image has already: the job does not tell the id of its image, so the name is
// all that finds it later.
func nameIsFree(ctx context.Context, api API, c queue.Command, cmd events.DesktopToImage) error {
	images, err := api.ListImages(ctx, workspace.ImagesQuery{ImageType: "private"})
	if err != nil {
		return verdict.Read(err, c.Failures, cmd.DesktopID)
	}
	for _, image := range images.Images {
		if image.Name == cmd.ImageName {
			return queue.Failed(events.KindConflict, "image_name: must be a name that no private image has, or the new image could not be told from it; %q is image %s", cmd.ImageName, image.ID)
		}
	}
	if images.Complete {
		return nil
	}
	if c.Attempt < incompleteMost {
		return queue.RetryAfter(incompleteRetry, fmt.Errorf("the list of private images was incomplete"))
	}
	return queue.Failed(events.KindBadAnswer, "image_name: the service did not give a complete list of private images, so %q cannot be known to be free", cmd.ImageName)
}

// unchanged tells whether there is still no image of the name, and the desktop has no task.
func unchanged(ctx context.Context, api API, search once.Search, d once.Detail, name string) (bool, string, error) {
	images, err := api.ListImages(ctx, workspace.ImagesQuery{ImageType: "private"})
	if err != nil {
		return false, "", err
	}
	for _, image := range images.Images {
		if image.Name == name {
			return false, fmt.Sprintf("the private image %s has the name by now, so the service may have taken the call; no job shows it", image.ID), nil
		}
	}
	if !images.Complete {
		return false, "the list of private images was incomplete", nil
	}
	return search.Idle(ctx, d)
}

func request(cmd events.DesktopToImage) workspace.DesktopToImageRequest {
	r := workspace.DesktopToImageRequest{
		ImageName: cmd.ImageName, ImageDescription: cmd.ImageDescription, DesktopID: cmd.DesktopID,
		ExecuteSysprep: cmd.ExecuteSysprep, EnterpriseProjectID: cmd.EnterpriseProjectID, IsClearData: cmd.IsClearData,
		MaxRAM: cmd.MaxRAM, MinRAM: cmd.MinRAM,
	}
	for _, tag := range cmd.ImageTags {
		r.ImageTags = append(r.ImageTags, workspace.ImageTag{Key: tag.Key, Value: tag.Value})
	}
	return r
}
