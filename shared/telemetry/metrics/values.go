package metrics

import (
	"recompose/events"
	"recompose/shared/queue"
)

// endNothing is the end of a message that published nothing and needs no further delivery.
const endNothing = "nothing"

// endOf are the ends of messages, by the verdict of natsqueue. Other messages end in the name of their first event.
var endOf = map[string]string{"delay": "delayed", "retry": "retried", "unstored": "unstored", "dead": "dead"}

// endEvents are the names of the events that can be the first of a message that ends.
func endEvents() (names []string) {
	for _, typ := range events.EventTypes {
		switch typ {
		case events.TypeJobProgress, events.TypeCommandUnclear: // their message is delayed or retried
		case events.TypeServiceAccepted, events.TypeLedgerAccepted: // no function publishes them
		default:
			names = append(names, short(typ))
		}
	}
	return names
}

// other is the label for all values that are not in the list of the label.
const other = "other"

// The values that labels may have.
var (
	ends  = append([]string{endNothing, "delayed", "retried", "unstored", "dead"}, endEvents()...)
	kinds = []string{
		events.KindInvalid, events.KindRefused, events.KindUnauthorized, events.KindForbidden, events.KindNotFound, events.KindEndpoint,
		events.KindConflict, events.KindThrottled, events.KindUnavailable, events.KindBadAnswer, events.KindAmbiguousImage,
		events.KindUnknownOutcome, events.KindExpired, events.KindNotAllowed, events.KindIDReused, events.KindFrozen,
		events.KindAttemptsUsedUp, events.KindInternal,
	}
	outcomes   = []string{"succeeded", "partial", "failed", "timed_out", "lost"}
	whys       = []string{"canary_max_failed", "max_failed", "no_evidence", "no_room"}
	operations = []string{
		"check-images", "desktop-to-image", "rebuild", "get-desktop", "sysprep", "list-desktops", "list-sub-jobs", "list-images", "token", "security-key",
	}
	classes = []string{queue.ClassUnreadable, queue.ClassPermanent, queue.ClassUsedUp}
)
