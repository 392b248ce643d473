package rollout

import (
	"encoding/json"
	"time"

	"recompose/events"
)

// Head is the record under a HeadKey: the state of a rollout, but for its desktops.
type Head struct {
	Name     string `json:"name"`
	Revision int    `json:"revision"` // rises with each change
	Phase    string `json:"phase"`
	Before   string `json:"before,omitempty"` // while paused or halted: running or rolling_back
	Plan     int    `json:"plan"`             // number of the plan in force; each retry and rollback is a plan of its own
	// Open are the batches that have not ended. The function rebuild reads it directly before its call.
	Open map[int]Open `json:"open,omitempty"`

	Start    Origin      `json:"start"`
	Spec     Spec        `json:"spec"`            // without desktop ids; with what a set has changed
	Given    *Settings   `json:"given,omitempty"` // those of the spec as it was sent, after the first set
	PlanOnly bool        `json:"plan_only,omitempty"`
	IDs      int         `json:"ids,omitempty"`     // number of targets that were given by id
	Pages    int         `json:"pages,omitempty"`   // records under TargetsKey
	Targets  string      `json:"targets,omitempty"` // TargetsSHA256 of what they had when the start was carried out
	Image    TargetImage `json:"image,omitzero"`
	Reading  *Reading    `json:"reading,omitempty"` // while planning

	Digest    string                  `json:"plan_sha256,omitempty"`
	PlannedAt time.Time               `json:"planned_at,omitzero"`
	Forecast  *events.RolloutForecast `json:"forecast,omitempty"`
	Expected  *Expected               `json:"expected,omitempty"`
	Canary    []Pick                  `json:"canary,omitempty"`
	NoWayBack int                     `json:"no_way_back,omitempty"` // planned desktops whose earlier image no longer exists
	NotKnown  int                     `json:"not_known,omitempty"`   // those of which it is not known whether it does
	LeftOut   Counts                  `json:"left_out,omitempty"`    // by the plan; their pages have its operation
	Slots     int                     `json:"slots"`
	Ranges    []Range                 `json:"ranges,omitempty"` // of the slots; the first is the plan's
	Waves     []Wave                  `json:"waves,omitempty"`
	Batches   int                     `json:"batches"`            // formed so far
	Sums      []map[int]Counts        `json:"sums,omitempty"`     // counts by wave, of each SumBatches batches
	Accepted  map[int]int             `json:"accepted,omitempty"` // failures by wave that a person has accepted
	Excluded  int                     `json:"excluded,omitempty"` // desktops in the record under ExcludedKey

	Reason         string    `json:"reason,omitempty"` // of the pause, halt or abort
	Why            string    `json:"why,omitempty"`    // of a halt
	By             string    `json:"by,omitempty"`
	Claimed        time.Time `json:"claimed,omitzero"`
	Offer          *Offer    `json:"offer,omitempty"`
	Queued         *Verb     `json:"wanted,omitempty"`       // a retry or a rollback, which begins when every batch has ended
	Previous       string    `json:"stood,omitempty"`        // the phase when it was asked for
	PreviousReason string    `json:"stood_reason,omitempty"` // with its reason
	Moving         string    `json:"moving,omitempty"`       // the operation that gives further slots; the next step completes it
	LastDeferred   time.Time `json:"last_deferred,omitzero"`
	Took           []int     `json:"took,omitempty"` // seconds from sending to the end of the last batches' jobs

	Waiting *Waiting `json:"waiting,omitempty"`
	Tick    *Tick    `json:"next_tick,omitempty"`
	Ticks   int      `json:"ticks,omitempty"` // number of the last tick
	Log     []Entry  `json:"log,omitempty"`   // the last events, oldest first
	// Ended are the batches that ended last: what shows how they ended is published once more after a crash, too.
	Ended []int `json:"ended,omitempty"`
	// Seen are the last verbs, by operation, with their time in seconds: the event that answered one may be gone from Log.
	Seen map[string]int64 `json:"seen,omitempty"`
	// Forgotten is the time of the last verb that is no longer in Seen although it may be delivered once more.
	Forgotten int64 `json:"forgotten,omitempty"`
}

// Origin is the command that started the rollout. All ids of the rollout are derived from it.
type Origin struct {
	events.CommandRef
	Correlation string    `json:"correlationid"`
	Time        time.Time `json:"time"`
}

// identity is the root of the ids of everything that the rollout publishes.
func (o Origin) identity() string { return events.Identity(o.Source, o.ID) }

// Open is a batch that has not ended, as the head shows it.
type Open struct {
	Wave    int       `json:"wave"`
	Attempt int       `json:"attempt"`
	State   string    `json:"state"`
	Size    int       `json:"size"` // desktops that the batch may still rebuild
	Vain    int       `json:"vain,omitempty"`
	Due     time.Time `json:"due,omitzero"` // when the batch must be looked at, without an event
}

// States of a batch.
const (
	Looking   = "looking"   // its desktops are read directly before the command
	Verifying = "verifying" // its jobs have ended; its desktops are read until they are as they should be
	Ended     = "ended"
	// Sent: the command is published.
)

// Reading is the progress of a plan: first the capture, then the fleet, then the images.
type Reading struct {
	Step    string    `json:"step"` // capture, fleet or images
	Request *Request  `json:"request"`
	Failed  int       `json:"failed,omitempty"` // requests in a row that failed
	Why     string    `json:"why,omitempty"`    // for people: what failed, and that it goes on
	Last    int       `json:"last,omitempty"`   // number of the last page, once it is known
	Got     []int     `json:"got,omitempty"`    // numbers of the pages that were received
	Fleet   int       `json:"fleet,omitempty"`  // pages of the fleet, once it is read, and the number of their request
	FleetBy int       `json:"fleet_by,omitempty"`
	Need    []string  `json:"need,omitempty"`   // images whose existence matters
	Images  []string  `json:"images,omitempty"` // those of them that exist
	Probe   time.Time `json:"probe,omitzero"`   // of the capture: when the ledger is read next
}

// Steps of a plan.
const (
	stepCapture = "capture"
	stepFleet   = "fleet"
	stepImages  = "images"
)

// Request is a command to another function. It is published once more, byte for byte, until something shows that it was
// taken.
type Request struct {
	ID          string          `json:"id"`
	To          string          `json:"to"`
	Type        string          `json:"type"`
	Number      int             `json:"number,omitempty"` // of the requests for the same thing
	At          time.Time       `json:"at"`
	Expiry      time.Time       `json:"expiry,omitzero"`
	Data        json.RawMessage `json:"data"`
	RepublishAt time.Time       `json:"again,omitzero"` // when it is published once more
	Taken       bool            `json:"taken,omitempty"`
	Read        time.Time       `json:"read,omitzero"`  // of a look: when the service was read
	Over        bool            `json:"over,omitempty"` // it ended without what was asked for; a new one follows at RepublishAt
}

// Offer is a verb that a person must approve before it takes effect.
type Offer struct {
	Verb   Verb      `json:"verb"`
	Digest string    `json:"plan_sha256"`
	At     time.Time `json:"at"`
}

// Waiting is why nothing happens at the moment.
type Waiting struct {
	Reason string    `json:"reason"` // approval, paused, halted, window, soak, deferral, stopped, claim, batch or plan
	Text   string    `json:"text"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until,omitzero"`
	Person bool      `json:"person,omitempty"` // running, and only a person brings it on
}

// Tick is the one message by which a rollout goes on without another event.
type Tick struct {
	At  time.Time `json:"at"`
	Seq int       `json:"seq"`
}

// Entry is an event that the rollout has published.
type Entry struct {
	Type        string          `json:"type"`
	ID          string          `json:"id"`
	Causation   string          `json:"causation,omitempty"`
	Correlation string          `json:"correlationid,omitempty"` // if not the rollout's own
	Time        time.Time       `json:"time"`
	Data        json.RawMessage `json:"data"`
}

// logSize is the number of events that the head keeps. They are published once more after a crash, and answer a command
// that is delivered twice.
const logSize = 40

// maxSpec is the size of the spec in bytes, without the ids of targets: 5,000 protected ids of the service fit.
const maxSpec = 200 << 10

// maxSeen is the number of verbs that the head keeps.
const maxSeen = 300

// maxLog is the size of their data, in bytes; it is less if the head would be over maxHead. The last leastLog are kept all
// the same.
const (
	maxLog   = 96 << 10
	maxHead  = 248 << 10
	leastLog = 10
)

// shrink drops the oldest events until so many bytes are free.
func (h *Head) shrink(bytes int) {
	for ; bytes > 0 && len(h.Log) > leastLog; h.Log = h.Log[1:] {
		bytes -= len(h.Log[0].Data)
	}
}

// Batch is the record under a BatchKey: up to BatchRows desktops of one wave, one command, one job of the service.
type Batch struct {
	N       int       `json:"n"`
	Wave    int       `json:"wave"`
	From    int       `json:"from"` // its first slot
	Plan    int       `json:"plan"`
	Attempt int       `json:"attempt"` // from 1
	State   string    `json:"state"`
	Since   time.Time `json:"since"` // of the state
	Rows    []Row     `json:"rows"`

	Looks   int             `json:"looks,omitempty"`   // number of looks
	Look    *Request        `json:"look,omitempty"`    // directly before the command, or to verify
	Vain    int             `json:"vain,omitempty"`    // looks in a row that were no ground for a command
	Joined  bool            `json:"joined,omitempty"`  // another batch publishes Look
	Shared  []int           `json:"shared,omitempty"`  // the batches whose Look is the one of this batch
	Found   []Desktop       `json:"found,omitempty"`   // pages of the look that were received
	Pages   []int           `json:"pages,omitempty"`   // their numbers
	Command *Request        `json:"command,omitempty"` // the rebuild
	Parts   map[string]Part `json:"parts,omitempty"`   // of the command, by command id; the command itself included
	Ends    time.Time       `json:"ends,omitzero"`     // deadline of its job, or of its verification
	Check   *Request        `json:"check,omitempty"`   // of the images, if no other came
	Probe   time.Time       `json:"probe,omitzero"`    // when the ledger is read next
	SentAt  time.Time       `json:"sent_at,omitzero"`
	// OverAt is when the last of its commands ended, in the step that is about that event. An end that was read in the ledger
	// has no time.
	OverAt time.Time `json:"-"`
}

// Part is a command of a batch: the batch's own, or a part of a command.split.
type Part struct {
	DesktopIDs []string  `json:"desktop_ids"`
	Digest     string    `json:"digest,omitempty"`
	JobID      string    `json:"job_id,omitempty"`
	Deadline   time.Time `json:"deadline,omitzero"`
	Over       bool      `json:"over,omitempty"` // its end is noted
	Own        bool      `json:"own,omitempty"`  // the command of the batch itself, not a part of a command.split
	Unclear    bool      `json:"unclear,omitempty"`
}

// Row is a desktop in a batch.
type Row struct {
	Slot
	State     string    `json:"state"`
	Code      string    `json:"code,omitempty"`
	Reason    string    `json:"reason,omitempty"`
	At        time.Time `json:"at,omitzero"`
	RequestID string    `json:"request_id,omitempty"`
	Rebuilt   bool      `json:"rebuilt,omitempty"` // its job succeeded, or it was found to run the image
	Matched   bool      `json:"matched,omitempty"` // check-images shows the image
	Seen      bool      `json:"seen,omitempty"`    // a look after the job shows the desktop as it should be
	By        string    `json:"by,omitempty"`      // the verb that moved the desktop to another slot
}

// Summary is what a batch adds to the counts of its wave.
type Summary struct {
	Attempt int    `json:"attempt"`
	Wave    int    `json:"wave"`
	Counts  Counts `json:"counts"`
}

// Sum is the record under a SumKey.
type Sum struct {
	Batches map[int]Summary `json:"batches"`
}

// counts are the counts of its batches, by wave, of those that the head has formed: a worker may have died before it
// stored the head.
func (s Sum) counts(formed int) map[int]Counts {
	byWave := map[int]Counts{}
	for n, b := range s.Batches {
		if n >= formed {
			continue
		}
		if byWave[b.Wave] == nil {
			byWave[b.Wave] = Counts{}
		}
		byWave[b.Wave].add(b.Counts)
	}
	return byWave
}

// ExcludedIDs is the record under an ExcludedKey: why desktops are taken out, by the folded id.
type ExcludedIDs struct {
	Desktops map[string]string `json:"desktops"`
}

// ofWave are the counts of one wave. Desktops in no batch are pending or excluded.
func (h *Head) ofWave(wave int) Counts {
	c := Counts{}
	for _, sum := range h.Sums {
		c.add(sum[wave])
	}
	if w := h.Waves[wave]; w.To > w.Next {
		state := Pending
		if w.Kind == DeferredWave {
			state = Deferred
		}
		c[state] += w.To - w.Next - w.Out
		if w.Out > 0 {
			c[Excluded] += w.Out
		}
	}
	return c
}

// Counts are the numbers of desktops by state.
func (h *Head) Counts() Counts {
	c := Counts{}
	c.add(h.LeftOut)
	for wave := range h.Waves {
		c.add(h.ofWave(wave))
	}
	delete(c, moved)
	for state, n := range c {
		if n == 0 {
			delete(c, state)
		}
	}
	return c
}
