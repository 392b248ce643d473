// Package getdesktop describes one desktop.
//
//	recompose.command.getdesktop.v1 ─▶ GET /v2/{project_id}/desktops/{desktop_id} ─▶ desktop.described
package getdesktop

import (
	"context"
	"encoding/json"
	"strings"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the call that this function makes.
type API interface {
	ProjectID() string
	DescribeDesktop(ctx context.Context, desktopID string) (workspace.Description, error)
}

// described is the data of desktop.described, with the desktop that the ledger may keep.
type described struct {
	events.DesktopDescribed
	impersonal json.RawMessage
}

// kept is what the ledger keeps of a desktop.described: the desktop without personal data.
func kept(data any) any {
	d := data.(described)
	return events.DesktopDescribed{Command: d.Command, Desktop: d.impersonal}
}

// New makes the function. A second delivery of a command publishes the end of the first. With RECOMPOSE_BLANK_PERSONAL
// desktop.described has no personal data, see [workspace.Description].
func New(api API, engine *once.Engine) queue.Function {
	return engine.Read(queue.Function{
		Name:  events.FnGetDesktop,
		Types: []string{events.TypeGetDesktop},
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			cmd, err := events.DecodeGetDesktop(c.Envelope.Data)
			if err != nil {
				return nil, queue.Invalid(err)
			}
			if err := queue.CheckProject(cmd.ProjectID, api.ProjectID()); err != nil {
				return nil, err
			}
			desktop, err := api.DescribeDesktop(ctx, cmd.DesktopID)
			if err != nil {
				return nil, verdict.Read(err, c.Failures, cmd.DesktopID)
			}
			if desktop.DesktopID != "" && !strings.EqualFold(desktop.DesktopID, cmd.DesktopID) {
				failed := queue.Failed(events.KindBadAnswer, "desktop_id: the service was asked for desktop %s and described %s; send the command later", cmd.DesktopID, desktop.DesktopID)
				failed.DesktopIDs = []string{cmd.DesktopID}
				return nil, failed
			}
			published := desktop.JSON
			if engine.Config.BlankPersonal {
				published = desktop.Impersonal
			}
			return []queue.Outcome{{
				Type: events.TypeDesktopDescribed, About: c.AboutData("desktop.described"),
				Data: described{events.DesktopDescribed{Command: c.Ref(), Desktop: published}, desktop.Impersonal},
			}}, nil
		},
	}, kept)
}
