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
	"time"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the calls that this function makes: one write, before it reads of what is there, and others only where a call
// was lost or refused.
type API interface {
	once.Jobs
	CheckImages(ctx context.Context, desktopIDs []string) ([]workspace.ImageInfo, error)
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
	Rebuild(ctx context.Context, signedAt time.Time, r workspace.RebuildRequest) (workspace.Accepted, error)
}

// Settings are what holds for every rebuild.
type Settings struct {
	once.Rules
	Deadline time.Duration // of a job, beside its delay_time; zero: 45 minutes
}

const defaultDeadline = 45 * time.Minute

// New makes the function. A rebuild wipes system disks, so each command is carried out at most once: a second delivery
// finds its record in the ledger and says the same again, without a call.
func New(api API, s Settings) queue.Function {
	if s.Deadline == 0 {
		s.Deadline = defaultDeadline
	}
	return queue.Function{
		Name:   events.FnRebuild,
		Type:   events.TypeRebuild,
		Reacts: []string{events.TypeJobCompleted},
		Writes: true,
		React:  react,
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			w, err := s.write(api, c)
			if err != nil {
				return nil, err
			}
			said, err := s.Do(ctx, w)
			if err != nil {
				return nil, err
			}
			return withParts(c, w.Data.(events.Rebuild), said)
		},
		GiveUp: func(ctx context.Context, c queue.Command, reason string) ([]queue.Outcome, error) {
			w, err := s.write(api, c)
			if err != nil {
				return nil, err
			}
			said, err := s.GiveUp(ctx, w, reason)
			if err != nil {
				return nil, err
			}
			return withParts(c, w.Data.(events.Rebuild), said)
		},
	}
}

// react implies the rebuild that stands in then, with the image that the job has made.
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

// write is the command as a write that happens at most once.
func (s Settings) write(api API, c queue.Command) (once.Write, error) {
	cmd, err := events.DecodeRebuild(c.Envelope.Data)
	if err != nil {
		return once.Write{}, queue.Invalid(err)
	}
	if err := s.CheckDelay("delay_time", cmd.DelayTime); err != nil {
		return once.Write{}, err
	}
	search := once.Search{
		API: api, Types: []string{workspace.JobTypeRebuild, workspace.JobTypeRebuild + "s"}, // the service writes both
		Is: workspace.SubJob.IsRebuild,
	}
	search.Unchanged = func(ctx context.Context, d once.Detail) (bool, string, error) { return unchanged(ctx, api, search, d) }
	return once.Write{
		Function: events.FnRebuild, Command: c, Data: cmd, ProjectID: cmd.ProjectID, DesktopIDs: cmd.DesktopIDs,
		Watch: s.Deadline + time.Duration(cmd.DelayTime)*time.Minute,
		Prepare: func(ctx context.Context) (once.Detail, *queue.Outcome, error) {
			if len(cmd.DesktopIDs) > events.MaxRebuildCall {
				return once.Detail{}, once.Split(c, cmd.Parts()), nil
			}
			return s.baseline(ctx, api, search, c, cmd)
		},
		Send: func(ctx context.Context, signedAt time.Time, d once.Detail) (workspace.Accepted, error) {
			return api.Rebuild(ctx, signedAt, request(cmd, d.DesktopIDs))
		},
		Accepted: func(a *events.JobAccepted) {
			a.Function, a.ImageID, a.ImageType, a.DelayTime = events.FnRebuild, cmd.ImageID, cmd.ImageType, cmd.DelayTime
		},
		Search:   search,
		Part:     func(ids []string) any { return cmd.Only(ids) },
		Hopeless: func(ctx context.Context) (string, error) { return imageGone(ctx, api, cmd) },
	}, nil
}

// baseline asks which image each desktop runs now. Those that run the image already are skipped, unless the command
// wants them rebuilt all the same.
func (s Settings) baseline(ctx context.Context, api API, search once.Search, c queue.Command, cmd events.Rebuild) (once.Detail, *queue.Outcome, error) {
	infos, err := api.CheckImages(ctx, cmd.DesktopIDs)
	if err != nil {
		return once.Detail{}, nil, verdict.Read(err, c.Failures, cmd.DesktopIDs...)
	}
	var d once.Detail
	var same []string // will be rebuilt to the image that they run
	runs := make(map[string]string, len(infos))
	for _, i := range infos {
		if !slices.Contains(cmd.DesktopIDs, i.DesktopID) {
			continue
		}
		runs[i.DesktopID] = i.ImageID
		d.Previous = append(d.Previous, events.ImageInfo{
			DesktopID: i.DesktopID, ImageID: i.ImageID, ImageName: i.ImageName, ImageType: i.ImageType, OSType: i.OSType,
		})
	}
	for _, id := range cmd.DesktopIDs {
		current := runs[id] == cmd.ImageID
		if current && !cmd.RebuildCurrent {
			d.Skipped = append(d.Skipped, id)
			continue
		}
		if current {
			same = append(same, id)
		}
		d.DesktopIDs = append(d.DesktopIDs, id)
	}
	if len(d.DesktopIDs) > 0 {
		if err := search.Before(ctx, &d); err != nil {
			return once.Detail{}, nil, verdict.Read(err, c.Failures, cmd.DesktopIDs...)
		}
		if d.Volumes, err = search.Volumes(ctx, same); err != nil {
			return once.Detail{}, nil, verdict.Read(err, c.Failures, cmd.DesktopIDs...)
		}
		return d, nil, nil
	}
	done := events.JobCompleted{
		Function: events.FnRebuild, Command: c.Ref(), Outcome: events.Succeeded, ImageID: cmd.ImageID, ImageType: cmd.ImageType,
	}
	for _, id := range d.Skipped {
		done.Desktops = append(done.Desktops, events.DesktopResult{DesktopID: id, Outcome: events.Skipped})
	}
	return d, &queue.Outcome{Type: events.TypeJobCompleted, About: []string{"job.completed"}, Data: done}, nil
}

// unchanged tells whether the desktops run what they ran before the call, on the same disks, with no task.
func unchanged(ctx context.Context, api API, search once.Search, d once.Detail) (bool, string, error) {
	infos, err := api.CheckImages(ctx, d.DesktopIDs)
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
	return search.Idle(ctx, d)
}

// imageGone tells that there is no image to rebuild from, where the list of images can tell.
func imageGone(ctx context.Context, api API, cmd events.Rebuild) (string, error) {
	if cmd.ImageType != "gold" && cmd.ImageType != "private" {
		return "", nil
	}
	images, err := api.ListImages(ctx, workspace.ImagesQuery{ImageType: cmd.ImageType})
	if err != nil || !images.Complete {
		return "", err
	}
	for _, image := range images.Images {
		if image.ID == cmd.ImageID {
			return "", nil
		}
	}
	return fmt.Sprintf("no %s image has the id %s", cmd.ImageType, cmd.ImageID), nil
}

// withParts puts the parts' commands beside command.split, again each time that it is said. A part is as old as the
// command that it comes from.
func withParts(c queue.Command, cmd events.Rebuild, said []queue.Outcome) ([]queue.Outcome, error) {
	if len(said) != 1 || said[0].Type != events.TypeCommandSplit {
		return said, nil
	}
	raw, err := json.Marshal(said[0].Data)
	if err != nil {
		return nil, fmt.Errorf("read command.split: %w", err)
	}
	var split events.CommandSplit
	if err := json.Unmarshal(raw, &split); err != nil {
		return nil, fmt.Errorf("read command.split: %w", err)
	}
	for _, part := range split.Parts {
		said = append(said, queue.Outcome{
			To: events.FnRebuild, Type: events.TypeRebuild, ID: part.ID, Time: c.Envelope.Time, Data: cmd.Only(part.DesktopIDs),
		})
	}
	return said, nil
}

func request(cmd events.Rebuild, ids []string) workspace.RebuildRequest {
	delay := int(cmd.DelayTime)
	return workspace.RebuildRequest{
		DesktopIDs: ids, ImageType: cmd.ImageType, ImageID: cmd.ImageID, OSType: cmd.OSType, DelayTime: &delay,
		Message: cmd.Message, OrderID: cmd.OrderID, EnterpriseProjectID: cmd.EnterpriseProjectID,
		EncryptType: cmd.EncryptType, KMSID: cmd.KMSID, HandleType: cmd.HandleType,
	}
}
