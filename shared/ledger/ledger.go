// Package ledger defines the record of what each write command has already done, and the interface of a ledger.
// Package once decides what the records mean and how they change.
//
// A record is created and changed by compare-and-set only. Every store keeps it for at least 400 days: without its
// record, a command could act a second time.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/store"
)

// Record is the state of one write command. Its key is the command's identity.
type Record struct {
	Digest   string    `json:"digest"`               // SHA-256 of the command's data: the same id with other data is refused
	Fence    uint64    `json:"fence"`                // counts the claims, from 1
	Owner    string    `json:"owner,omitempty"`      // the worker that claimed it last
	Lease    time.Time `json:"lease,omitzero"`       // the claim is valid until then, by the clock of the workers
	SignedAt time.Time `json:"signed_at,omitzero"`   // signing date of every send of this claim, the service's clock; zero: no call is in flight
	Sent     time.Time `json:"sent_at,omitzero"`     // when that call was begun, by the clock of the workers; zero in records of earlier versions
	Undated  bool      `json:"undated,omitempty"`    // the send was authenticated by a token, which does not expire with the signing date
	JobID    string    `json:"job_id,omitempty"`     // the accepted job
	Accepted time.Time `json:"accepted_at,omitzero"` // when, the service's clock
	// Detail is the data for the search of the job and for a repeated job.accepted.
	Detail Detail `json:"detail,omitzero"`
	// Progress is the progress of the job, in percent, when job.progress was last published.
	Progress int `json:"progress,omitempty"`
	// Unclear is set while the outcome of this claim's call is unknown.
	Unclear *Unclear `json:"unclear,omitempty"`
	// Earlier is the signing date of the last call that the service answered without a job, or that was proved absent;
	// zero if there was none. Its effect may still appear, so its job is searched for before each further call. (In
	// stored records the field has the name of its first use.)
	Earlier time.Time `json:"resent,omitzero"`
	// EarlierUntil is until when the service may have taken that call, by its clock; zero: no limit is known.
	EarlierUntil time.Time `json:"earlier_until,omitzero"`
	// EarlierNext is the earliest time of the next search for that call, by the service's clock: a new job is not listed
	// at once.
	EarlierNext time.Time `json:"earlier_next,omitzero"`
	// EarlierLooks is the number of searches for that call without a clear result.
	EarlierLooks int `json:"earlier_looks,omitempty"`
	// Refused is set after a refusal that may be temporary, or that may answer an earlier delivery of the same call.
	Refused *Refusal `json:"refused,omitempty"`
	End     *End     `json:"end,omitempty"`
}

// Unclear is the search for a call of unknown outcome.
type Unclear struct {
	Since  time.Time `json:"since,omitzero"`   // when the search began
	Looks  int       `json:"looks"`            // number of searches
	Next   time.Time `json:"next"`             // time of the next search, by the service's clock
	Reason string    `json:"reason,omitempty"` // why the outcome is unknown, as text
	// Announce is the number of searches after which command.unclear is published.
	Announce int `json:"announce,omitempty"`
}

// Detail is what was read before the call, and what is known of the accepted job besides its id.
type Detail struct {
	DesktopIDs []string           `json:"desktop_ids"` // in the call
	Skipped    []string           `json:"skipped,omitempty"`
	Previous   []events.ImageInfo `json:"previous,omitempty"` // the baseline: the image of each desktop before the call
	Deadline   time.Time          `json:"deadline,omitzero"`
	Warning    *events.Failure    `json:"warning,omitempty"`
	RequestID  string             `json:"request_id,omitempty"`
	// Known are the jobs that the desktops had before the call; KnownAll reports that their list was complete.
	Known    []string `json:"known,omitempty"`
	KnownAll bool     `json:"known_all,omitempty"`
	// Batch holds the desktops of the call from which a part was divided, if that call may still take effect.
	Batch []string `json:"batch,omitempty"`
	// Busy are the desktops with a running job before the call.
	Busy []string `json:"busy,omitempty"`
	// ReadAt is when Previous began to be read, the service's clock, with Known and Busy read before it; zero: not known.
	// A further preparation may use it for a while, see once.Holds.
	ReadAt time.Time `json:"read_at,omitzero"`
	// Volumes are the system disks before the call, for desktops whose image will not show the rebuild.
	Volumes map[string]string `json:"volumes,omitempty"`
}

// Refusal is a refusal by the service that may be temporary, or that concerns a batch.
type Refusal struct {
	Since     time.Time `json:"since"`      // the first one; times are by the service's clock
	NotBefore time.Time `json:"not_before"` // earliest time of the next search and the next attempt
	Times     int       `json:"times,omitempty"`
	Last      Reason    `json:"data"` // the last answer of the service
}

// Reason is why the service refused a call.
type Reason struct {
	Class   string         `json:"class"` // a workspace.Class
	Failure events.Failure `json:"failure"`
	Divide  bool           `json:"divide,omitempty"` // the batch may be divided because of the refusal
}

// End is the one end event of a command, as it was and will be published: with the same source and id each time.
type End struct {
	ID        string          `json:"id"`
	Source    string          `json:"source"`
	Type      string          `json:"type"`
	Causation string          `json:"causation"`
	Time      time.Time       `json:"time"`
	Data      json.RawMessage `json:"data"`
}

// NoRecords matches keys in the store of a ledger that are not records and whose number is unlimited: pages of lists.
const NoRecords = "lists.>"

// Store keeps records. Each method blocks until the store has answered or ctx has ended. A put that fails with another
// error than store.ErrConflict may still have been stored.
type Store interface {
	// Get reads the last stored record, never an older copy. The error is store.ErrNotFound if there is none.
	Get(ctx context.Context, key string) (Record, store.Revision, error)
	// Put stores a record durably and returns its new revision. It replaces the record with the revision old (zero:
	// there must be none). The error is store.ErrConflict if there is another one.
	Put(ctx context.Context, key string, r Record, old store.Revision) (store.Revision, error)
	// Fit checks whether a write may begin: it returns nil if the store still holds all that it is known to have held.
	// Call it directly before each write, after the put of its claim. epoch is the one in the command's message, "" for
	// none. The error is ErrLost by errors.Is until an operator has accepted the loss, and ErrNoEpoch if the store was not
	// used yet and this process may not record that it is; with any other error the state of the ledger is unknown.
	Fit(ctx context.Context, epoch string) error
	// Missing reports that a required record is missing: from then on no write begins, and Missing returns ErrLost by
	// errors.Is. It returns nil, and changes nothing, if an operator has accepted the loss of the epoch in the message
	// about the record, or if the record exists after all. After any other error call it once more.
	Missing(ctx context.Context, key, epoch string) error
}

// Read reads a record from the values of a ledger. It blocks and fails like their Get. The error is store.ErrDamaged
// by errors.Is for a value that is not a record.
func Read(ctx context.Context, values store.Store, key string) (Record, store.Revision, error) {
	data, rev, err := values.Get(ctx, key)
	if err != nil {
		return Record{}, 0, fmt.Errorf("ledger record: %w", err)
	}
	r, err := Decode(data)
	if err != nil {
		return Record{}, 0, fmt.Errorf("ledger record %s: %w", key, err)
	}
	return r, rev, nil
}

// Encode returns the stored form of a record.
func Encode(r Record) ([]byte, error) {
	const last = "null}}" // the data of the end stands last in a record
	if r.End == nil || !events.IsCompact(r.End.Data) {
		return json.Marshal(r)
	}
	end := *r.End
	data := end.Data
	end.Data, r.End = nil, &end
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, len(b)+len(data))
	out = append(out, b[:len(b)-len(last)]...)
	return append(append(out, data...), "}}"...), nil
}

// Decode decodes a record. A value that is not a record would decode as an empty one, and its command could act a
// second time; the error for it is store.ErrDamaged by errors.Is.
func Decode(data []byte) (Record, error) {
	var marks struct { // every record has these fields
		Digest *string `json:"digest"`
		Fence  *uint64 `json:"fence"`
	}
	if err := json.Unmarshal(data, &marks); err != nil {
		return Record{}, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if marks.Digest == nil || marks.Fence == nil {
		return Record{}, fmt.Errorf("%w: it is not a record", store.ErrDamaged)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return r, nil
}
