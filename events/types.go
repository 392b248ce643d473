package events

import (
	"slices"
	"strings"
)

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

// IsNotice reports whether events of a type, of any version, only report a state. A notice answers nothing and begins
// nothing: it has no causationid, and its data names the command that it is about.
func IsNotice(typ string) bool {
	return IsEvent(typ) && slices.Contains(notices, eventName(typ))
}

// IsPage reports whether events of a type are pages of a list. Only the page with last true is an end.
func IsPage(typ string) bool { return slices.Contains(pages, typ) }

// eventName is job.completed of recompose.event.job.completed.v1.
func eventName(typ string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(typ, eventPrefix), ".v")
	return name
}
