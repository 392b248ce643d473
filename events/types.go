package events

import (
	"slices"
	"strings"
)

// Function tokens: folder, queue and durable name, log key.
const (
	FnCheckImages    = "checkimages"
	FnDesktopToImage = "desktoptoimage"
	FnRebuild        = "rebuild"
	FnGetDesktop     = "getdesktop"
	FnWatchJob       = "watchjob"
	FnListDesktops   = "listdesktops"
	FnListImages     = "listimages"
)

// Types of commands. A type is also the NATS subject that a sender publishes to.
const (
	TypeCheckImages    = "recompose.command.checkimages.v1"
	TypeDesktopToImage = "recompose.command.desktoptoimage.v1"
	TypeRebuild        = "recompose.command.rebuild.v1"
	TypeGetDesktop     = "recompose.command.getdesktop.v1"
	TypeListDesktops   = "recompose.command.listdesktops.v1"
	TypeListImages     = "recompose.command.listimages.v1"
)

// Types of events. A type is also the NATS subject that it is published on.
const (
	TypeJobAccepted      = "recompose.event.job.accepted.v1"
	TypeJobCompleted     = "recompose.event.job.completed.v1"
	TypeImagesChecked    = "recompose.event.images.checked.v1"
	TypeDesktopDescribed = "recompose.event.desktop.described.v1"
	TypeDesktopsListed   = "recompose.event.desktops.listed.v1"
	TypeImagesListed     = "recompose.event.images.listed.v1"
	TypeCommandSplit     = "recompose.event.command.split.v1"
	TypeCommandFailed    = "recompose.event.command.failed.v1"
	TypeJobProgress      = "recompose.event.job.progress.v1"
	TypeCommandUnclear   = "recompose.event.command.unclear.v1"
	TypeServiceAccepted  = "recompose.event.service.accepted.v1"
	TypeLedgerAccepted   = "recompose.event.ledger.accepted.v1"
)

// EventTypes are the types of all events.
var EventTypes = append([]string{
	TypeJobAccepted, TypeJobCompleted, TypeImagesChecked, TypeDesktopDescribed, TypeDesktopsListed, TypeImagesListed,
	TypeCommandSplit, TypeCommandFailed, TypeJobProgress, TypeCommandUnclear, TypeServiceAccepted, TypeLedgerAccepted,
}, RolloutEventTypes...)

const (
	commandPrefix  = "recompose.command."
	internalPrefix = "recompose.internal."
	eventPrefix    = "recompose.event."
)

// CommandType is the type of the command of a public function.
func CommandType(function string) string { return commandPrefix + function + ".v1" }

// InternalType is the type of a command that a function or a timer sends to a function, and no sender: no stream and
// no filter takes it at the entrance.
func InternalType(function, what string) string {
	return internalPrefix + function + "." + what + ".v1"
}

// Source is the CloudEvents source of everything that a function publishes.
func Source(function string) string { return "recompose/" + function }

// IsCommand reports whether a type names a command, of any version.
func IsCommand(typ string) bool { return strings.HasPrefix(typ, commandPrefix) }

// IsInternal reports whether a type names a command that no sender sends, of any version.
func IsInternal(typ string) bool { return strings.HasPrefix(typ, internalPrefix) }

// IsEvent reports whether a type names an event of recompose, of any version.
func IsEvent(typ string) bool { return strings.HasPrefix(typ, eventPrefix) }

var notices = []string{
	"job.progress", "command.unclear", "rollout.started", "rollout.wave.started", "rollout.batch.completed",
	"rollout.wave.completed", "rollout.halted",
}

// IsNotice reports whether events of a type, of any version, only report a state. A notice answers nothing and begins
// nothing: it has no causationid, and its data names the command that it is about.
func IsNotice(typ string) bool {
	name, _, _ := strings.Cut(strings.TrimPrefix(typ, eventPrefix), ".v")
	return IsEvent(typ) && slices.Contains(notices, name)
}
