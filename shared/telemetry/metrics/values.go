package metrics

import (
	"recompose/events"
	"recompose/shared/queue"
)

// endNothing is the end of a message that published nothing and needs no further delivery.
const endNothing = "nothing"

// endOf are the ends of messages, by the verdict of natsqueue. Other messages end in the name of their first event.
var endOf = map[string]string{"delay": "delayed", "retry": "retried", "unstored": "unstored", "dead": "dead"}

// other is the label for all values that are not in the list of the label.
const other = "other"

// The values that labels may have.
var (
	ends = []string{
		endNothing, "delayed", "retried", "unstored", "dead",
		"job.accepted", "job.completed", "images.checked", "desktop.described", "desktops.listed", "images.listed",
		"command.split", "command.failed",
		"rollout.targets.kept", "rollout.planned", "rollout.approved", "rollout.started", "rollout.wave.started", "rollout.batch.completed",
		"rollout.wave.completed", "rollout.paused", "rollout.resumed", "rollout.halted", "rollout.changed", "rollout.aborted",
		"rollout.rolled_back", "rollout.completed", "rollout.rejected",
	}
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
