package once

import (
	"fmt"

	"recompose/shared/ledger"
)

// State is the state of a write command. It follows from the command's record alone.
type State string

// The states.
const (
	Free     State = "free"     // nothing is under way: the command may be claimed. Also: there is no record yet
	Refused  State = "refused"  // the service refused the call; its job is looked for before anything else
	Intent   State = "intent"   // a worker was about to make the call; no outcome is recorded
	Looking  State = "looking"  // the outcome of the call is not known; its job is looked for
	Accepted State = "accepted" // the service accepted the call as a job
	Ended    State = "ended"    // the end event is recorded; it is final
)

// StateOf returns the state of a record; the zero record is free.
func StateOf(r ledger.Record) State {
	switch {
	case r.End != nil:
		return Ended
	case r.JobID != "":
		return Accepted
	case r.Unclear != nil:
		return Looking
	case !r.SignedAt.IsZero():
		return Intent
	case r.Refused != nil:
		return Refused
	default:
		return Free
	}
}

// Event is why a record changes.
type Event string

// The events.
const (
	nothingToCall   Event = "nothing to call"  // the preparation ended the command, or divided it
	preparationKept Event = "preparation kept" // the call is delayed; the record keeps what was read for it
	partPrepared    Event = "part prepared"    // the record of a part is created with what was read for it
	claimed         Event = "claimed"          // a worker records its intent to make the call
	notSent         Event = "not sent"         // the service did nothing: another attempt may follow
	stillRefused    Event = "still refused"    // not sent, and the state stays refused
	refusedNow      Event = "refused for now"  // the service refused the call; a look decides what follows
	refusedEnd      Event = "refused"          // the service, or a check directly before the call, refused it for good
	acceptedJob     Event = "accepted"         // the service answered with a job
	answerLost      Event = "answer lost"      // the service may have accepted the call
	leaseOver       Event = "lease over"       // the worker that made the call recorded no answer before its lease ended
	notFoundYet     Event = "not found yet"    // the call was neither found nor proved absent yet
	jobFound        Event = "job found"        // the job of the lost call was found and adopted
	proofOfNone     Event = "proved absent"    // the signature expired and a complete look found nothing: claimed for a new call
	divided         Event = "divided"          // command.split continues the command as several commands
	foundInParts    Event = "found in parts"   // the same, according to the jobs that were found for some of its desktops
	neverKnown      Event = "never known"      // the search is over without an outcome
	deadline        Event = "deadline"         // the service refused for too long
	gaveUp          Event = "gave up"          // every delivery ended in a crash or an unexpected error
	jobMoved        Event = "job moved"        // watchjob saw the job pass another quarter
	jobEnded        Event = "job ended"        // watchjob saw the end of the job
	partFound       Event = "part found"       // the record of a part is created with the job that was found for it
	recordGone      Event = "record gone"      // job.accepted came and the record is missing: it is created from the event
	partUnclear     Event = "part unclear"     // the record of a part is created without a job
	partInherits    Event = "part inherits"    // the record of a part is created with the earlier call of its command
)

// transitions are all changes of a record. While a command waits, its record does not change. The main paths:
//
//	      ┌──── not sent ────────┐
//	      ▼                      │
//	    free ── claimed ──────▶ intent ───────── accepted ────────▶ accepted ── job ended ──▶ ended
//	                             │  ▲                                ▲   ▲
//	refused ◀─ refused for now ──┤  │                                │   │
//	  │  │                       │  │                                │   │
//	  │  └─── claimed ───────────│──┤                                │   │
//	  └──────── job found ───────│──│────────────────────────────────┘   │
//	                             │  └── proved absent ──┐                │
//	                             │                     │                │
//	                             └─ answer lost, ──▶ looking ─ job found ┘
//	                                lease over
var transitions = map[State]map[Event]State{
	Free: {
		nothingToCall:   Ended,
		preparationKept: Free,
		partPrepared:    Free,
		claimed:         Intent,
		gaveUp:          Ended,
		jobEnded:        Ended,
		notFoundYet:     Free,     // for an earlier call
		jobFound:        Accepted, // of an earlier call
		divided:         Ended,    // by parts that an earlier delivery stored
		deadline:        Ended,    // an earlier call could not be looked for
		partFound:       Accepted,
		recordGone:      Accepted,
		partUnclear:     Looking,
		partInherits:    Free,
	},
	Refused: {
		nothingToCall: Ended,
		claimed:       Intent,
		jobFound:      Accepted, // of an earlier delivery of the call: the refusal was its effect
		refusedEnd:    Ended,
		notFoundYet:   Refused,
		divided:       Ended,
		deadline:      Ended,
		gaveUp:        Ended,
		jobEnded:      Ended,
	},
	Intent: {
		notSent:      Free,
		stillRefused: Refused,
		refusedNow:   Refused,
		refusedEnd:   Ended,
		acceptedJob:  Accepted,
		answerLost:   Looking,
		leaseOver:    Looking,
		gaveUp:       Ended,
		jobEnded:     Ended,
	},
	Looking: {
		notFoundYet:  Looking,
		jobFound:     Accepted,
		proofOfNone:  Intent,
		foundInParts: Ended,
		neverKnown:   Ended,
		gaveUp:       Ended,
		jobEnded:     Ended,
	},
	Accepted: {
		jobMoved: Accepted,
		jobEnded: Ended,
	},
}

// inTable returns an error if the table does not have this change of a record.
func inTable(from ledger.Record, on Event, to ledger.Record) error {
	want, ok := transitions[StateOf(from)][on]
	if got := StateOf(to); !ok || got != want {
		return fmt.Errorf("a write command that is %s does not become %s on %q", StateOf(from), got, on)
	}
	return nil
}
