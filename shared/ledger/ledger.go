// Package ledger keeps what each write command has already done, so that a command causes at most one accepted call of
// the service however often it is delivered and whoever is killed meanwhile.
//
// A record is made by compare-and-set before the call and changed by compare-and-set only. Every store keeps it
// for 400 days or longer: a command whose record is gone could act a second time.
//
//	free ──claim──▶ intent ──job id──▶ accepted ──▶ ended
//	 ▲                │  └── refused ──▶ ended, or free again
//	 │                ▼ nothing recorded of the call
//	 └─ proved absent ─ unclear ── found ──▶ accepted
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Record is what is known of one write command. Its key is the command's identity.
type Record struct {
	Digest   string    `json:"digest"`               // SHA-256 of the command's data: the same id with other data is refused
	Fence    uint64    `json:"fence"`                // counts the claims, from 1
	Owner    string    `json:"owner,omitempty"`      // the worker that claimed it last
	Lease    time.Time `json:"lease,omitzero"`       // the claim holds until then, by the owner's clock
	SignedAt time.Time `json:"signed_at,omitzero"`   // signing date of every send of this claim, the service's clock; zero: nothing is under way
	JobID    string    `json:"job_id,omitempty"`     // the accepted job
	Accepted time.Time `json:"accepted_at,omitzero"` // when, the service's clock
	// Detail is what the function needs to look for the job and to say job.accepted again: the baseline, the desktops
	// in the call.
	Detail json.RawMessage `json:"detail,omitempty"`
	// Unclear is set while nobody knows what became of the call of this claim.
	Unclear *Unclear `json:"unclear,omitempty"`
	// Resent is the signing date of an earlier call of unknown outcome that was proved absent; zero: there was none.
	Resent time.Time `json:"resent,omitzero"`
	// Refused is set after a refusal that may pass.
	Refused *Refusal `json:"refused,omitempty"`
	End     *End     `json:"end,omitempty"`
}

// Unclear is the search for a call of unknown outcome.
type Unclear struct {
	Looks  int       `json:"looks"`            // how often it was looked for
	Next   time.Time `json:"next"`             // when to look next, by the worker's clock
	Reason string    `json:"reason,omitempty"` // why it is not known, in words
}

// Refusal is what the service refused and may take later.
type Refusal struct {
	Since     time.Time       `json:"since"`      // the first one
	NotBefore time.Time       `json:"not_before"` // of the next attempt
	Data      json.RawMessage `json:"data"`       // the function's: what the service said last
}

// End is the one end of a command, as it was and will be said: the same event under the same source and id.
type End struct {
	ID        string          `json:"id"`
	Source    string          `json:"source"`
	Type      string          `json:"type"`
	Causation string          `json:"causation"`
	Time      time.Time       `json:"time"`
	Data      json.RawMessage `json:"data"`
}

// State is where a record stands.
type State int

// States of a record.
const (
	Free     State = iota // nothing is under way: it may be claimed
	Intent                // a call was about to be made; its outcome is not recorded
	Looking               // the outcome of the call is not known; it is looked for
	Accepted              // the service accepted the call
	Ended                 // said and done
)

// State tells where the record stands.
func (r Record) State() State {
	switch {
	case r.End != nil:
		return Ended
	case r.JobID != "":
		return Accepted
	case r.Unclear != nil:
		return Looking
	case !r.SignedAt.IsZero():
		return Intent
	default:
		return Free
	}
}

// ErrNotFound says that there is no record with the key.
var ErrNotFound = errors.New("no such ledger record")

// ErrConflict says that the record was made or changed by somebody else meanwhile. Read it again.
var ErrConflict = errors.New("the ledger record was changed by another worker")

// Revision is the version of a stored record, as the store counts it; zero is that of no record.
type Revision uint64

// Store keeps records. Each method blocks until the store has answered or ctx has ended. A put that fails with another
// error than ErrConflict may have been stored nevertheless.
type Store interface {
	// Get reads a record; ErrNotFound if there is none. It reads what was last stored, never an older copy.
	Get(ctx context.Context, key string) (Record, Revision, error)
	// Put stores a record in the place of the one with this revision (zero: there must be none), durably, and returns
	// its new revision; ErrConflict if there is another by now.
	Put(ctx context.Context, key string, r Record, old Revision) (Revision, error)
}
