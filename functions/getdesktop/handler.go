// Package getdesktop describes one desktop.
//
//	recompose.command.getdesktop.v1 ─▶ GET /v2/{project_id}/desktops/{desktop_id} ─▶ desktop.described
package getdesktop

import (
	"context"
	"encoding/json"
	"fmt"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the call that this function makes.
type API interface {
	ProjectID() string
	GetDesktop(ctx context.Context, desktopID string) (workspace.Desktop, error)
}

// WithoutPersonal returns a desktop without users and their groups, names of the computer (which naming rules make from
// user names), addresses, sid and tags, and without fields that this version does not know.
func WithoutPersonal(d workspace.Desktop) workspace.Desktop {
	d.UserList, d.UserGroupList, d.UserName, d.AttachUserInfos = nil, nil, "", nil
	d.ComputerName, d.OSHostName = "", ""
	d.Addresses, d.IPAddresses, d.IPv4, d.IPv6 = nil, nil, "", ""
	d.SID, d.Tags, d.Extra = "", nil, nil
	return d
}

// kept is what the ledger keeps of a desktop.described: the desktop without personal data, see [WithoutPersonal].
func kept(data json.RawMessage) (json.RawMessage, error) {
	var described events.DesktopDescribed
	var desktop workspace.Desktop
	if err := json.Unmarshal(data, &described); err != nil {
		return nil, fmt.Errorf("read %s: %w", events.TypeDesktopDescribed, err)
	}
	err := json.Unmarshal(described.Desktop, &desktop)
	if err == nil {
		described.Desktop, err = json.Marshal(WithoutPersonal(desktop))
	}
	if err != nil {
		return nil, fmt.Errorf("read the desktop of %s: %w", events.TypeDesktopDescribed, err)
	}
	return json.Marshal(described)
}

// New makes the function. A second delivery of a command publishes the end of the first. With RECOMPOSE_BLANK_PERSONAL
// desktop.described is [WithoutPersonal].
func New(api API, engine *once.Engine) queue.Function {
	return engine.Read(queue.Function{
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
				return nil, verdict.Read(err, c.Failures, cmd.DesktopID)
			}
			if desktop.DesktopID != "" && desktop.DesktopID != cmd.DesktopID {
				failed := queue.Failed(events.KindBadAnswer, "asked for desktop %s, the service described %s", cmd.DesktopID, desktop.DesktopID)
				failed.DesktopIDs = []string{cmd.DesktopID}
				return nil, failed
			}
			if engine.Config.BlankPersonal {
				desktop = WithoutPersonal(desktop)
			}
			described, err := json.Marshal(desktop)
			if err != nil {
				return nil, fmt.Errorf("write desktop %s: %w", cmd.DesktopID, err)
			}
			return []queue.Outcome{{
				Type: events.TypeDesktopDescribed, About: c.AboutData("desktop.described"),
				Data: events.DesktopDescribed{Command: c.Ref(), Desktop: described},
			}}, nil
		},
	}, kept)
}
