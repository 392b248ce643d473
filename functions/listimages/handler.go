// Package listimages lists the gold and private images.
//
//	recompose.command.listimages.v1 ─▶ GET /v2/{project_id}/images ─▶ images.listed, one event a page
package listimages

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
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
	ListImages(ctx context.Context, q workspace.ImagesQuery) (workspace.Images, error)
}

// How often the list is read in another delivery if it changes while it is read.
const (
	attempts  = 4
	firstWait = 10 * time.Second
	longest   = time.Minute
)

// New makes the function. A second delivery of a command publishes the pages of the first.
func New(api API, engine *once.Engine) queue.Function {
	return engine.Read(queue.Function{
		Name:  events.FnListImages,
		Types: []string{events.TypeListImages},
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			cmd, err := events.DecodeListImages(c.Envelope.Data)
			if err != nil {
				return nil, queue.Invalid(err)
			}
			if err := queue.CheckProject(cmd.ProjectID, api.ProjectID()); err != nil {
				return nil, err
			}
			answer, err := api.ListImages(ctx, workspace.ImagesQuery{
				ImageType: cmd.ImageType, ImageID: cmd.ImageID, SortField: "name", SortType: "asc",
			})
			if err != nil {
				return nil, queue.DividedBy(verdict.Read(err, c.Failures), engine.Config.Pace)
			}
			if !answer.Complete {
				return nil, incomplete(len(answer.Images), c.Failures, engine)
			}
			return publish(c, cmd, answer.Images)
		},
	}, nil)
}

// incomplete is the verdict on a list of which it is not certain that it has all images.
func incomplete(images, failures int, engine *once.Engine) error {
	if failures < attempts {
		return queue.RetryFailed(engine.Paced(verdict.Backoff(failures, firstWait, longest)),
			fmt.Errorf("the list of images changes while it is read: %d images", images))
	}
	return queue.Failed(events.KindBadAnswer, "the list of images has %d entries and is not complete, in %d attempts: "+
		"its total_count differs or changes, or there are over 5,100 images, of which the service shows no more; use "+
		"image_type or image_id", images, failures+1)
}

// publish returns the pages of the images that match.
func publish(c queue.Command, cmd events.ListImages, images []workspace.Image) ([]queue.Outcome, error) {
	rows := make([]events.ListedImage, 0, len(images))
	for _, i := range images {
		if i.ID != "" && matches(cmd, i) {
			rows = append(rows, events.ListedImage{
				ID: i.ID, Name: i.Name, ImageType: i.ImageType, OSType: i.OSType, OSVersion: i.OSVersion,
				Architecture: i.Architecture, DiskFormat: i.DiskFormat, MinRAM: i.MinRAM, MinDisk: i.MinDisk,
				ProductCode: i.ProductCode, CreatedAt: i.CreatedAt.String(), KMSID: i.KMSID,
			})
		}
	}
	slices.SortFunc(rows, func(a, b events.ListedImage) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	pages, err := events.Pages(rows)
	if err != nil {
		return nil, queue.Permanent(err)
	}
	outcomes := make([]queue.Outcome, len(pages))
	for i, page := range pages {
		data := events.ImagesListed{Command: c.Ref(), Page: i + 1, Images: page}
		about := append(c.AboutData("images.listed"), strconv.Itoa(i+1))
		if data.Last = i == len(pages)-1; data.Last {
			data.Total = len(rows)
			about = about[:len(about)-1]
		}
		outcomes[i] = queue.Outcome{Type: events.TypeImagesListed, About: about, Data: data}
	}
	return outcomes, nil
}

// matches checks every filter: the service may have ignored it, and it has none by name.
func matches(cmd events.ListImages, i workspace.Image) bool {
	return (cmd.ImageType == "" || cmd.ImageType == i.ImageType) && (cmd.ImageID == "" || strings.EqualFold(cmd.ImageID, i.ID)) &&
		(cmd.Name == "" || cmd.Name == i.Name)
}
