// Package getdesktop describes one desktop.
//
//	recompose.command.getdesktop.v1 ─▶ GET /v2/{project_id}/desktops/{desktop_id} ─▶ desktop.described
package getdesktop

import (
	"context"
	"encoding/json"
	"fmt"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the call that this function makes.
type API interface {
	ProjectID() string
	GetDesktop(ctx context.Context, desktopID string) (workspace.Desktop, error)
}

// New makes the function. A second delivery asks the service again and says what it answers then, under the same id.
func New(api API) queue.Function {
	return queue.Function{
		Name: events.FnGetDesktop,
		Type: events.TypeGetDesktop,
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			cmd, err := events.DecodeGetDesktop(c.Envelope.Data)
			if err != nil {
				return nil, queue.Invalid(err)
			}
			if err := queue.CheckProject(cmd.ProjectID, api.ProjectID()); err != nil {
				return nil, err
			}
			desktop, err := api.GetDesktop(ctx, cmd.DesktopID)
			if err != nil {
				return nil, verdict.Read(err, c.Attempt, cmd.DesktopID)
			}
			if desktop.DesktopID != "" && desktop.DesktopID != cmd.DesktopID {
				failed := queue.Failed(events.KindBadAnswer, "asked for desktop %s, the service described %s", cmd.DesktopID, desktop.DesktopID)
				failed.DesktopIDs = []string{cmd.DesktopID}
				return nil, failed
			}
			described, err := json.Marshal(desktop)
			if err != nil {
				return nil, fmt.Errorf("write desktop %s: %w", cmd.DesktopID, err)
			}
			return []queue.Outcome{{
				Type: events.TypeDesktopDescribed, About: []string{"desktop.described"},
				Data: events.DesktopDescribed{Desktop: described},
			}}, nil
		},
	}
}
