package chain

import (
	"encoding/json"
	"fmt"

	"recompose/events"
	"recompose/shared/printable"
)

// Consequences describes the effect of a write.
func Consequences(function string, data json.RawMessage) string {
	if function == events.FnRebuild {
		r, _ := events.DecodeRebuild(data)
		what := fmt.Sprintf("This rebuilds %s from image %s: the data on their system disks is lost",
			Count(len(r.DesktopIDs), "desktop"), r.ImageID)
		if r.AllowOSChange {
			what += "; they may get another operating system"
		}
		if r.OverrideRollout {
			what += "; also of desktops that a rollout holds"
		}
		return what
	}
	c, _ := events.DecodeDesktopToImage(data)
	what := fmt.Sprintf("This captures image %s of desktop %s, which restarts and cannot be used meanwhile",
		printable.Line(c.ImageName), c.DesktopID)
	if c.ExecuteSysprep {
		what += "; the user profiles on it are deleted"
	}
	if c.IsClearData {
		what += "; the user data on it is deleted"
	}
	if c.Then != nil && c.Then.Rebuild != nil {
		what += fmt.Sprintf(". Then it rebuilds %s: the data on their system disks is lost",
			Count(len(c.Then.Rebuild.DesktopIDs), "desktop"))
	}
	return what
}
