package rollout

import "recompose/shared/rollout/fence"

// MayStart decides directly before the call of a batch whether it may still begin: see [fence.MayStart].
func MayStart(head []byte, attribute string) error { return fence.MayStart(head, attribute) }

// ClaimPart is the part of the claims that has a desktop.
func ClaimPart(desktopID string) byte { return fence.ClaimPart(desktopID) }
