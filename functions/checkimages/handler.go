// Package checkimages reports which image each desktop runs, and after a rebuild whether that is the new one.
//
//	recompose.command.checkimages.v1                     ─▶ POST /v2/{project_id}/desktops/check-images ─▶ images.checked
//	recompose.event.job.completed.v1 of a rebuild        ─▶ the same for the desktops rebuilt
package checkimages

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the call that this function makes.
type API interface {
	ProjectID() string
	DescribeImages(ctx context.Context, desktopIDs []string) ([]workspace.ImageDescription, error)
}

// A desktop shows its new image some time after its job has ended, so a mismatch counts only after patience. The waits
// between two looks are 10 s, 15 s, … up to a minute. Their sum counts as the time that has passed, because clocks
// differ.
const (
	patience  = 10 * time.Minute
	firstWait = 10 * time.Second
	waitStep  = 5 * time.Second
	longest   = time.Minute
)

// New makes the function. A second delivery of a command publishes the end of the first.
func New(api API, engine *once.Engine) queue.Function {
	shared := inBatches(api, engine.Paced(batchGap), engine.Now)
	return engine.Read(queue.Function{
		Name:   events.FnCheckImages,
		Types:  []string{events.TypeCheckImages},
		Reacts: []string{events.TypeJobCompleted},
		React:  react,
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			if c.IsReaction() {
				return verify(ctx, shared, engine, c)
			}
			cmd, err := events.DecodeCheckImages(c.Envelope.Data)
			if err != nil {
				return nil, queue.Invalid(err)
			}
			if err := queue.CheckProject(cmd.ProjectID, api.ProjectID()); err != nil {
				return nil, err
			}
			checked, err := check(ctx, api, cmd.DesktopIDs, "")
			if err != nil {
				return nil, queue.DividedBy(verdict.Read(err, c.Failures, cmd.DesktopIDs...), engine.Config.Pace)
			}
			return publish(c, checked)
		},
	}, nil)
}

// react implies the check of the desktops that a rebuild has rebuilt.
func react(e events.Envelope) (events.Envelope, bool, error) {
	var done events.JobCompleted
	if err := json.Unmarshal(e.Data, &done); err != nil {
		return events.Envelope{}, false, fmt.Errorf("read %s %s: %w", e.Type, e.ID, err)
	}
	if !done.ImpliesCheck() {
		return events.Envelope{}, false, nil
	}
	command, err := e.Implies(events.FnCheckImages, events.CheckImages{DesktopIDs: done.Rebuilt()})
	return command, true, err
}

// verify checks whether every desktop runs the image that it was rebuilt from. It delays the message until all do or
// patience is over.
func verify(ctx context.Context, api API, engine *once.Engine, c queue.Command) ([]queue.Outcome, error) {
	var done events.JobCompleted
	if err := json.Unmarshal(c.Event.Data, &done); err != nil {
		return nil, queue.Permanent(err)
	}
	ids := done.Rebuilt()
	checked, err := check(ctx, api, ids, done.ImageID)
	if err != nil {
		return nil, queue.DividedBy(verdict.Read(err, c.Failures, ids...), engine.Config.Pace)
	}
	looks := c.Attempt - c.Failures
	if len(checked.Mismatched) > 0 && waited(looks) < patience {
		return nil, queue.RetryAfter(engine.Paced(wait(looks)),
			fmt.Errorf("%d of %d desktops do not show image %s yet", len(checked.Mismatched), len(ids), done.ImageID))
	}
	return publish(c, checked)
}

// wait is how long the next look waits after this number of looks.
func wait(looks int) time.Duration { return min(firstWait+time.Duration(looks)*waitStep, longest) }

// waited is how long this number of looks has waited in total, at most about patience.
func waited(looks int) time.Duration {
	var sum time.Duration
	for i := range looks {
		sum += wait(i)
		if sum >= patience {
			break
		}
	}
	return sum
}

// check reads the images of all desktops, in calls of at most events.MaxCheckCall, and compares them with the expected
// image; "" expects none.
func check(ctx context.Context, api API, ids []string, expected string) (events.ImagesChecked, error) {
	infos := make(map[string]workspace.ImageDescription, len(ids))
	for part := range slices.Chunk(ids, events.MaxCheckCall) {
		answer, err := api.DescribeImages(ctx, part)
		if err != nil {
			return events.ImagesChecked{}, err
		}
		for _, info := range answer {
			other, twice := infos[info.DesktopID]
			if twice && expected != "" && !strings.EqualFold(other.ImageID, expected) { // one entry of several proves no rebuild
				continue
			}
			infos[info.DesktopID] = info
		}
	}
	checked := events.ImagesChecked{ImageInfos: []json.RawMessage{}, Missing: []string{}}
	if expected != "" {
		checked.Expected = &events.Expected{ImageID: expected}
	}
	for _, id := range ids {
		info, answered := infos[id]
		if answered {
			checked.ImageInfos = append(checked.ImageInfos, info.JSON)
		}
		if info.ImageID == "" {
			checked.Missing = append(checked.Missing, id)
		}
		switch {
		case expected == "":
		case strings.EqualFold(info.ImageID, expected):
			checked.Matched = append(checked.Matched, id)
		default:
			checked.Mismatched = append(checked.Mismatched, id)
		}
	}
	return checked, nil
}

// maxInfos is how many bytes image_infos may have; NATS accepts messages of up to 1 MiB by default.
const maxInfos = 700 * 1024

// publish returns the images.checked. To keep the event small enough, it has fewer fields of each desktop if there are
// thousands.
func publish(c queue.Command, checked events.ImagesChecked) ([]queue.Outcome, error) {
	checked.Command = c.Ref()
	size := 0
	for _, info := range checked.ImageInfos {
		size += len(info)
	}
	if size > maxInfos {
		checked.Shortened = true
		for i, raw := range checked.ImageInfos {
			var info events.ImageInfo
			if err := json.Unmarshal(raw, &info); err != nil {
				return nil, fmt.Errorf("shorten image_infos: %w", err)
			}
			short, err := json.Marshal(events.ImageInfo{DesktopID: info.DesktopID, ImageID: info.ImageID})
			if err != nil {
				return nil, fmt.Errorf("shorten image_infos: %w", err)
			}
			checked.ImageInfos[i] = short
		}
	}
	return []queue.Outcome{{Type: events.TypeImagesChecked, About: c.AboutData("images.checked"), Data: checked}}, nil
}
