package rollout

import (
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/rollout/fence"
)

// Sizes of records. None is over 256 KiB.
const (
	PageRows   = 500 // desktops in a page of a plan
	BatchRows  = events.MaxRebuildCall
	SumBatches = 64 // batches in a summary
	ClaimParts = 256
)

// Keys of the records of rollouts. LiveKey and IndexKey name the rollouts: a store has no listing.
const (
	LiveKey  = fence.LiveKey
	IndexKey = "rollouts/index"
)

// HeadKey is the key of a rollout's head.
func HeadKey(name string) string { return fence.HeadKey(name) }

// PageKey is the key of a page of slots, from 0. Each operation that adds slots (the plan, a deferral, a retry, a
// rollback) has pages of its own, so that none can overwrite those of another.
func PageKey(name, operation string, n int) string {
	return fmt.Sprintf("rollouts/%s/plan/%s/%d", name, operation, n)
}

// LeftOutKey is the key of a page of desktops that the plan leaves out, from 0.
func LeftOutKey(name, operation string, n int) string {
	return fmt.Sprintf("rollouts/%s/leftout/%s/%d", name, operation, n)
}

// FleetKey is the key of a page, from 1, of the fleet as it was read for the plan by the request with this number.
func FleetKey(name string, request, n int) string {
	return fmt.Sprintf("rollouts/%s/fleet/%d/%d", name, request, n)
}

// TargetsKey is the key of a page of desktop ids that was sent ahead of the start, from 1.
func TargetsKey(name string, n int) string { return fmt.Sprintf("rollouts/%s/targets/%d", name, n) }

// NamedKey is the key of the desktop ids that a retry or a rollback names.
func NamedKey(name, operation string) string {
	return fmt.Sprintf("rollouts/%s/named/%s", name, events.Derive(operation, "named")[:10])
}

// BatchKey is the key of a batch, from 0.
func BatchKey(name string, n int) string { return fmt.Sprintf("rollouts/%s/batch/%d", name, n) }

// SumKey is the key of the summaries of SumBatches batches, from 0.
func SumKey(name string, n int) string { return fmt.Sprintf("rollouts/%s/sum/%d", name, n) }

// ExcludedKey is the key of the desktops that were excluded.
func ExcludedKey(name string) string { return "rollouts/" + name + "/excluded" }

// ClaimKey is the key of the claims of the desktops with this first byte of their hash.
func ClaimKey(part byte) string { return fence.ClaimKey(part) }

// Phases of a rollout.
const (
	Planning    = "planning"
	Planned     = "planned" // waits for approval, or ends here (plan_only)
	Running     = "running"
	Paused      = "paused"
	Halted      = "halted"
	Aborting    = "aborting" // no further batch; those that were sent are followed
	RollingBack = "rolling_back"
	Completed   = "completed"
	Aborted     = "aborted"
	RolledBack  = "rolled_back"
)

// Over reports whether a rollout in this phase is over: its claims are void.
func Over(phase string) bool { return fence.Over(phase) }

// States of a desktop.
const (
	Pending    = "pending"
	Deferred   = "deferred"
	Sent       = "sent"
	Done       = "done"
	Failed     = "failed"
	Missing    = "missing"
	Unverified = "unverified"
	Unknown    = "unknown" // the outcome of its call is not known; counts as unavailable and failed
	Skipped    = "skipped"
	Refused    = "refused"
	Excluded   = "excluded"
	BackDone   = "rolled_back"
	// moved is the state of a slot whose desktop has a later slot, which counts.
	moved = "moved"
)

// Live is the record under LiveKey: the names of the rollouts that are not over, in order of their start.
type Live = fence.Live

// Index is the record under IndexKey: the names of the last maxIndexed rollouts, in order of their start.
type Index struct {
	Names []string `json:"names"`
}

// maxIndexed is how many names the index has: a name has at most 40 characters.
const maxIndexed = 5000

// add adds a name. It drops the oldest ones that are over if there are too many; their records stay.
func (i *Index) add(name string, live []string) {
	if slices.Contains(i.Names, name) {
		return
	}
	i.Names = append(i.Names, name)
	over := len(i.Names) - maxIndexed
	i.Names = slices.DeleteFunc(i.Names, func(n string) bool {
		drop := over > 0 && !slices.Contains(live, n)
		if drop {
			over--
		}
		return drop
	})
}

// Claims is the record under a ClaimKey: which rollout holds a desktop.
type Claims = fence.Claims

// Slot is one desktop at its place in the order of a rollout. A desktop that is deferred, retried or rolled back gets
// a further slot at the end.
type Slot struct {
	ID        string `json:"id"`
	Image     string `json:"image,omitempty"`      // baseline: the image before the rollout; "" is not known
	ImageType string `json:"image_type,omitempty"` // baseline
	ImageGone bool   `json:"image_gone,omitempty"` // baseline: the image no longer exists; there is no way back
	Status    string `json:"status,omitempty"`     // baseline
	Root      string `json:"root,omitempty"`       // baseline: id of the root volume
	Data      string `json:"data,omitempty"`       // baseline: hash of the data volumes
	Deferrals int    `json:"deferrals,omitempty"`
	Tried     bool   `json:"tried,omitempty"` // it failed, and waits for a retry: a rollback takes it up
}

// Range is where the slots of one operation stand in the order of a rollout.
type Range struct {
	Operation string `json:"operation"`
	From      int    `json:"from"`
	Count     int    `json:"count"`
}

// Page is the record under a PageKey.
type Page struct {
	Slots []Slot `json:"slots"`
}

// LeftOut is a desktop that the plan leaves out, with the reason.
type LeftOut struct {
	ID     string `json:"id"`
	State  string `json:"state"` // skipped or refused
	Reason string `json:"reason"`
}

// LeftOutPage is the record under a LeftOutKey.
type LeftOutPage struct {
	Desktops []LeftOut `json:"desktops"`
}

// Kinds of waves.
const (
	CanaryWave   = "canary"
	PlainWave    = "wave"
	DeferredWave = "deferred"
	RetryWave    = "retry"
	BackWave     = "rollback"
)

// Wave is a range of slots that is judged as a whole.
type Wave struct {
	Kind      string    `json:"kind"`
	From      int       `json:"from"`
	To        int       `json:"to"`            // exclusive
	Next      int       `json:"next"`          // the first slot that is in no batch
	Out       int       `json:"out,omitempty"` // slots from there on whose desktops are excluded
	Plan      int       `json:"plan,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Ended     time.Time `json:"ended,omitzero"` // every batch has ended; the soak begins
	Judged    time.Time `json:"judged,omitzero"`
	Rounds    int       `json:"rounds,omitempty"` // of a canary: how often candidates were replaced
	Promoted  bool      `json:"promoted,omitempty"`
	// Image is that of a wave that rolls back, if all its desktops get the same one.
	Image     string `json:"image,omitempty"`
	ImageType string `json:"image_type,omitempty"`
}

// Counts are numbers of desktops by state.
type Counts map[string]int

// failed is the number of desktops that count against max_failed.
func (c Counts) failed() int { return c[Failed] + c[Missing] + c[Unverified] + c[Unknown] }

// unavailable is the number of desktops that count against max_unavailable.
func (c Counts) unavailable() int { return c[Sent] + c[Failed] + c[Unverified] + c[Unknown] }

func (c Counts) add(other Counts) {
	for state, n := range other {
		c[state] += n
	}
}
