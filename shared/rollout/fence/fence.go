// Package fence is what rebuild and desktoptoimage read of rollouts directly before a call. It is small, because
// every Lambda program links it. How a rollout proceeds is decided in package rollout.
package fence

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
)

// LiveKey is the key of a [Live].
const LiveKey = "rollouts/live"

// HeadKey is the key of a rollout's head.
func HeadKey(name string) string { return "rollouts/" + name + "/head" }

// ClaimKey is the key of the [Claims] of the desktops with this first byte of their hash.
func ClaimKey(part byte) string { return fmt.Sprintf("rollouts/claims/%02x", part) }

// Live has the names of the rollouts that are not over.
type Live struct {
	Names []string `json:"names"`
}

// Claims is which rollout holds a desktop, by the folded id.
type Claims struct {
	Desktops map[string]string `json:"desktops"`
	At       time.Time         `json:"at,omitzero"` // of the last claim, so that each one changes the record
}

// Phases of a rollout, and the state of a batch, that matter here.
const (
	running     = "running"
	rollingBack = "rolling_back"
	sent        = "sent"
)

// Over reports whether a rollout in this phase is over: its claims are void.
func Over(phase string) bool {
	return slices.Contains([]string{"completed", "aborted", "rolled_back"}, phase)
}

// StaleError is why the command of a batch must not begin: its rollout or batch is not as the command expects.
type StaleError struct{ Reason string }

func (e *StaleError) Error() string { return e.Reason }

// MayStart decides directly before the call of a batch whether it may still begin. head is the record under the
// rollout's HeadKey, nil if there is none; attribute is the attribute rollout of the command. The error is a *StaleError
// by errors.As if the batch must not begin, now or later; any other error means that the head cannot be read.
func MayStart(head []byte, attribute string) error {
	stale := func(format string, args ...any) error { return &StaleError{fmt.Sprintf(format, args...)} }
	ref, err := events.ParseRolloutRef(attribute)
	if err != nil {
		return stale("%q %v", attribute, err)
	}
	if head == nil {
		return stale("there is no rollout %s", ref.Name)
	}
	var now struct {
		Name  string `json:"name"`
		Phase string `json:"phase"`
		Plan  int    `json:"plan"`
		Open  map[string]struct {
			Attempt int    `json:"attempt"`
			State   string `json:"state"`
		} `json:"open"`
	}
	if err := json.Unmarshal(head, &now); err != nil {
		return fmt.Errorf("the head of rollout %s: %w", ref.Name, err)
	}
	if now.Name != ref.Name {
		return fmt.Errorf("the head of rollout %s is that of %q", ref.Name, now.Name)
	}
	open, is := now.Open[strconv.Itoa(ref.Batch)]
	switch {
	case now.Phase != running && now.Phase != rollingBack:
		return stale("rollout %s is %s", ref.Name, now.Phase)
	case now.Plan != ref.Plan:
		return stale("the command is of plan %d of rollout %s, and plan %d is in force", ref.Plan, ref.Name, now.Plan)
	case !is:
		return stale("batch %d of rollout %s is not open", ref.Batch, ref.Name)
	case open.Attempt != ref.Attempt:
		return stale("the command is attempt %d of batch %d of rollout %s, which is at attempt %d", ref.Attempt, ref.Batch, ref.Name, open.Attempt)
	case open.State != sent:
		return stale("batch %d of rollout %s is %s", ref.Batch, ref.Name, open.State)
	}
	return nil
}

// Fold is a desktop id as the claims have it. It is not known whether the service accepts an id in another letter case, and
// a claim must not be possible to circumvent, so claims ignore it, as a deny list does.
func Fold(desktopID string) string { return strings.ToLower(desktopID) }

// ClaimPart is the part of the claims that has a desktop.
func ClaimPart(desktopID string) byte { return sha256.Sum256([]byte(Fold(desktopID)))[0] }

// ClaimKeys are the keys of the records that can have claims of these desktops, each once.
func ClaimKeys(desktopIDs []string) []string {
	keys := make([]string, 0, len(desktopIDs))
	for _, id := range desktopIDs {
		keys = append(keys, ClaimKey(ClaimPart(id)))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// HeldText describes desktops that a rollout has claimed, and what a person can do about it.
func HeldText(name string, desktopIDs []string) string {
	const most = 5
	text := strings.Join(desktopIDs[:min(len(desktopIDs), most)], ", ")
	if more := len(desktopIDs) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("rollout %s holds %s: take them out with recompose rollout exclude, end it with recompose rollout "+
		"abort, or set override_rollout of a rebuild", name, text)
}
