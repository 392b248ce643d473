// Package ledger defines the record of what each write command has already done, and the interface of a ledger.
// Package once decides what the records mean and how they change.
//
// A record is created and changed by compare-and-set only. Every store keeps it for 400 days or longer: a command without
// a record could act a second time.
package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/store"
)

// Record is what is known of one write command. Its key is the command's identity.
type Record struct {
	Digest   string    `json:"digest"`               // SHA-256 of the command's data: the same id with other data is refused
	Fence    uint64    `json:"fence"`                // counts the claims, from 1
	Owner    string    `json:"owner,omitempty"`      // the worker that claimed it last
	Lease    time.Time `json:"lease,omitzero"`       // the claim holds until then, by the clock of the workers
	SignedAt time.Time `json:"signed_at,omitzero"`   // signing date of every send of this claim, the service's clock; zero: nothing is under way
	Undated  bool      `json:"undated,omitempty"`    // the send was proved by a token, which does not expire with the signing date
	JobID    string    `json:"job_id,omitempty"`     // the accepted job
	Accepted time.Time `json:"accepted_at,omitzero"` // when, the service's clock
	// Detail is what is needed to look for the job and to publish job.accepted once more.
	Detail Detail `json:"detail,omitzero"`
	// Progress is how far the job was, in percent, when job.progress was last published.
	Progress int `json:"progress,omitempty"`
	// Unclear is set while the outcome of the call of this claim is not known.
	Unclear *Unclear `json:"unclear,omitempty"`
	// Earlier is the signing date of the last call that the service answered without a job, or that was proved absent;
	// zero: there was none. Its effect may still show: it is looked for before each further call. (In stored records the
	// field has the name of its first use.)
	Earlier time.Time `json:"resent,omitzero"`
	// EarlierUntil is when that call was answered, the service's clock; zero: it was not.
	EarlierUntil time.Time `json:"earlier_until,omitzero"`
	// EarlierNext is when that call may be looked for, the service's clock: a job is not listed at once.
	EarlierNext time.Time `json:"earlier_next,omitzero"`
	// EarlierLooks is how often that call was looked for without a clear result.
	EarlierLooks int `json:"earlier_looks,omitempty"`
	// Refused is set after a refusal that may pass, or that may come of an earlier delivery of the same call.
	Refused *Refusal `json:"refused,omitempty"`
	End     *End     `json:"end,omitempty"`
}

// Unclear is the search for a call of unknown outcome.
type Unclear struct {
	Since  time.Time `json:"since,omitzero"`   // when the search began
	Looks  int       `json:"looks"`            // how often it was looked for
	Next   time.Time `json:"next"`             // when to look next, by the service's clock
	Reason string    `json:"reason,omitempty"` // why it is not known, in words
	// Announce is the number of looks after which command.unclear is published.
	Announce int `json:"announce,omitempty"`
}

// Detail is what was read before the call, and what is known of the accepted job beside its id.
type Detail struct {
	DesktopIDs []string           `json:"desktop_ids"` // in the call
	Skipped    []string           `json:"skipped,omitempty"`
	Previous   []events.ImageInfo `json:"previous,omitempty"` // the baseline: the image of each desktop before the call
	Deadline   time.Time          `json:"deadline,omitzero"`
	Warning    *events.Failure    `json:"warning,omitempty"`
	RequestID  string             `json:"request_id,omitempty"`
	// Known are the jobs that the desktops had before the call; KnownAll reports that the list of them was complete.
	Known    []string `json:"known,omitempty"`
	KnownAll bool     `json:"known_all,omitempty"`
	// Batch are the desktops of the call that a part comes from, if that call may still show.
	Batch []string `json:"batch,omitempty"`
	// Busy are the desktops that had a job under way before the call.
	Busy []string `json:"busy,omitempty"`
	// Volumes are the system disks before the call, of desktops whose image will not show a rebuild.
	Volumes map[string]string `json:"volumes,omitempty"`
}

// Refusal is a refusal of the service that may pass, or that of a batch.
type Refusal struct {
	Since     time.Time `json:"since"`      // the first one; times are by the service's clock
	NotBefore time.Time `json:"not_before"` // of the next look, and of the next attempt
	Times     int       `json:"times,omitempty"`
	Last      Reason    `json:"data"` // what the service answered last
}

// Reason is why the service refused a call.
type Reason struct {
	Class   string         `json:"class"` // a workspace.Class
	Failure events.Failure `json:"failure"`
	Divide  bool           `json:"divide,omitempty"` // the batch may be divided because of it
}

// End is the one end event of a command, as it was and will be published: under the same source and id each time.
type End struct {
	ID        string          `json:"id"`
	Source    string          `json:"source"`
	Type      string          `json:"type"`
	Causation string          `json:"causation"`
	Time      time.Time       `json:"time"`
	Data      json.RawMessage `json:"data"`
}

// NoRecords matches keys in the store of a ledger that are no records, and of which there may be any number: pages of lists.
const NoRecords = "lists.>"

// Store keeps records. Each method blocks until the store has answered or ctx has ended. A put that fails with another
// error than store.ErrConflict may have been stored nevertheless.
type Store interface {
	// Get reads a record; store.ErrNotFound if there is none. It reads what was last stored, never an older copy.
	Get(ctx context.Context, key string) (Record, store.Revision, error)
	// Put stores a record in the place of the one with this revision (zero: there must be none), durably, and returns
	// its new revision; store.ErrConflict if there is another by now.
	Put(ctx context.Context, key string, r Record, old store.Revision) (store.Revision, error)
	// Fit asks whether a write may begin: nil, if the store still holds all that it is known to have held. Ask it directly
	// before each write and after the put of its claim. epoch is what the command's message carries, "" for none. The
	// error is ErrLost by errors.Is until an operator has accepted the loss; any other error: it cannot be known now.
	Fit(ctx context.Context, epoch string) error
	// Missing takes note that there is no record where there must be one: no write begins any more, and Missing returns
	// ErrLost by errors.Is. It returns nil, and notes nothing, where an operator has accepted the loss of the epoch that
	// the message about the record carries, or where there is such a record after all. After any other error ask it once more.
	Missing(ctx context.Context, key, epoch string) error
}

// Read reads a record from the values of a ledger. It blocks and fails as their Get does, and the error is store.ErrDamaged by
// errors.Is where a value is no record.
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

// Encode writes a record as it is kept.
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

// Decode reads a record, and nothing else: what is no record would be an empty one, which lets its command act a second
// time. The error is store.ErrDamaged by errors.Is.
func Decode(data []byte) (Record, error) {
	var marks struct { // every record is written with these
		Digest *string `json:"digest"`
		Fence  *uint64 `json:"fence"`
	}
	if err := json.Unmarshal(data, &marks); err != nil {
		return Record{}, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	if marks.Digest == nil || marks.Fence == nil {
		return Record{}, fmt.Errorf("%w: it is no record", store.ErrDamaged)
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", store.ErrDamaged, err)
	}
	return r, nil
}
