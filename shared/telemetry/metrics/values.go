package metrics

import (
	"encoding/json"

	"recompose/events"
	"recompose/shared/queue"
)

// Ends of a message that are not the name of an event.
const (
	EndNothing  = "nothing"  // there was nothing to do or to say
	EndDelayed  = "delayed"  // it comes again as a delayed message
	EndRetried  = "retried"  // it is handed over again after a crash or an unexpected error
	EndUnstored = "unstored" // it is handed over again because what was said could not be stored
	EndDead     = "dead"     // it was given up on
)

// other stands for any value that a list does not have.
const other = "other"

// The values that labels may have.
var (
	ends = []string{
		EndNothing, EndDelayed, EndRetried, EndUnstored, EndDead,
		"job.accepted", "job.completed", "images.checked", "desktop.described", "command.split", "command.failed",
	}
	kinds = []string{
		events.KindInvalid, events.KindRefused, events.KindUnauthorized, events.KindForbidden, events.KindNotFound, events.KindEndpoint,
		events.KindConflict, events.KindThrottled, events.KindUnavailable, events.KindBadAnswer, events.KindAmbiguousImage,
		events.KindUnknownOutcome, events.KindExpired, events.KindNotAllowed, events.KindIDReused, events.KindFrozen,
		events.KindAttemptsUsedUp, events.KindInternal,
	}
	outcomes   = []string{"succeeded", "partial", "failed", "timed_out", "lost"}
	operations = []string{"check-images", "desktop-to-image", "rebuild", "get-desktop", "list-sub-jobs", "show-job", "list-images", "token", "security-key"}
	classes    = []string{queue.ClassUnreadable, queue.ClassPermanent, queue.ClassUsedUp}
)

// SaidIn reads of an event what is counted of it.
func SaidIn(e events.Envelope) Said {
	s := Said{Type: e.Type}
	switch e.Type {
	case events.TypeCommandFailed:
		var d struct {
			Error struct {
				Kind string `json:"kind"`
			} `json:"error"`
		}
		_ = json.Unmarshal(e.Data, &d) // it is our own; without a kind it counts as another one
		s.Kind = d.Error.Kind
	case events.TypeJobCompleted:
		var d struct {
			Outcome string `json:"outcome"`
		}
		_ = json.Unmarshal(e.Data, &d)
		s.Outcome = d.Outcome
	}
	return s
}
