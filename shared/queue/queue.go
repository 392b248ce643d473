// Package queue is what the functions and the transports have in common: a message arrives, a function handles it,
// and the result lists what the transport must store before it acknowledges the message. It imports no transport.
//
//	delivery ──▶ Processor.Process ──▶ Result: publish events, send commands on, delay, dead letter, then acknowledge
//
// Delivery is at least once. A function may be killed at any line, and then its message is redelivered: everything in
// a Result has an id that is derived from what it is about, so publishing it twice publishes the same thing under the
// same id.
package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"recompose/events"
)

// MaxDeliveries is the number of deliveries that may end in a crash or an unexpected error before a message becomes a
// dead letter. Delayed forms do not count: each is a new message.
const MaxDeliveries = 5

// AttemptHeader is the header or attribute that numbers the delayed forms of a message: absent at first, then 1, 2, ….
const AttemptHeader = "Recompose-Attempt"

// FailuresHeader is the header or attribute that counts the delayed forms that a failure caused, as opposed to normal
// waiting.
const FailuresHeader = "Recompose-Failures"

// HeldHeader is the header or attribute that counts the delayed forms of a message that was held: it was not handled.
const HeldHeader = "Recompose-Held"

// EpochHeader is the header or attribute with the epoch of the ledger in which recompose published the message.
const EpochHeader = "Recompose-Ledger"

// Delivery is a message as a transport delivers it.
type Delivery struct {
	Headers    events.Headers
	Body       []byte
	Bare       events.Bare // what the message is if it has no envelope; Bare.Time is when it was stored
	Deliveries int         // number of this delivery of the message, from 1

	// Type is the type by which the transport routed the message, and for which its sender had the right: the subject
	// at the entrance, or the attribute type on AWS. "" for a message that functions and timers send.
	Type string
}

// Command is a command that a function handles: one that was sent, or one that an event implies.
type Command struct {
	Envelope events.Envelope // of the command, sent or implied; React makes an implied one
	Event    events.Envelope // of a reaction: the event; else zero
	Attempt  int             // number of delayed forms before: 0 at first; forms of a message that was held do not count
	Failures int             // how many of them a failure caused
	Held     int             // number of delayed forms that do not count
	First    bool            // the message was not delivered before, and is no delayed form; a transport may store it twice
	Epoch    string          // of the ledger in which the message was published; "" for a message of a sender

	// Digest is the digest of the data ([events.Envelope.Digest]); "" if it cannot be decoded. DesktopIDs are the
	// desktops that the data names, even if it is refused. Process sets both.
	Digest     string
	DesktopIDs []string
}

// Identity is the ledger key of the command and the root of all ids derived from it.
func (c Command) Identity() string { return c.Envelope.Identity() }

// Ref names the command in events.
func (c Command) Ref() events.CommandRef {
	return events.CommandRef{Type: c.Envelope.Type, ID: c.Envelope.ID, Source: c.Envelope.Source, Digest: c.Digest}
}

// AboutData is the [Outcome.About] of an end that no ledger record keeps. It includes the digest, so that each data
// that is sent under one id has its own end.
func (c Command) AboutData(words ...string) []string {
	if c.Digest == "" {
		return words
	}
	return append(words, c.Digest)
}

// IsDelayed reports whether the message is a delayed form.
func (c Command) IsDelayed() bool { return c.Attempt+c.Held > 0 }

// IsReaction reports whether an event implied the command, as opposed to a command that a sender sent.
func (c Command) IsReaction() bool { return c.Event.ID != "" }

// Outcome is what a function returns to be published. Its id is derived from the identity of the command and the
// words of About, so the same outcome published twice is one event.
type Outcome struct {
	Type      string    // of an event, or of a command where To is set
	About     []string  // words from which the id is derived; default: Type
	ID        string    // instead of About
	Source    string    // the function's own unless set; set for an outcome that another function would also publish
	Causation string    // the command's id unless set; a notice has none
	NoEnd     bool      // it answers nothing, and so has no causation: a page of a list before the last one
	Time      time.Time // now unless set; set for an outcome that may be published once more later
	Data      any

	// Correlation, Expiry and Rollout replace those of the command.
	Correlation string
	Expiry      time.Time
	Rollout     string

	// To is a function: this is a command for it. After delivers the command that much later; like an internal type it
	// is only for a command to the function itself. A command that is stored twice may be delivered twice.
	To    string
	After time.Duration
}

// Function is a row of the routing table.
type Function struct {
	Name     string   // token: folder, queue, durable, log key
	Types    []string // of its commands, all under recompose.command.<name>; none where it has none of its own
	Internal []string // types of commands that it takes from functions and timers only (events.InternalType)
	Reacts   []string // types of events that may imply a command for it
	// RolloutOnly limits Reacts to events with the attribute rollout. On AWS the filter of the subscription does so, too.
	RolloutOnly bool
	NoCalls     bool // makes no call of the service: it works while the service refuses the key
	Writes      bool // a bare command needs an id that its sender has set

	// Handle carries out a command. The outcomes that it returns are published even if the error is a verdict.
	Handle func(ctx context.Context, c Command) ([]Outcome, error)
	// React returns the command that an event implies; false if it implies none. It must be pure; an error is
	// permanent.
	React func(event events.Envelope) (command events.Envelope, implied bool, err error)
	// GiveUp ends a command that used up its deliveries. Without it, or if it returns no outcome, the command ends as
	// attempts_used_up, with an unknown effect if Writes is set. After an error that is not a verdict the message is
	// redelivered, up to twice MaxDeliveries.
	GiveUp func(ctx context.Context, c Command, reason string) ([]Outcome, error)
	// Wake returns commands for the function itself whose time has passed, because a message for later may be lost. It is
	// called about once a minute, by several workers at once.
	Wake func(ctx context.Context, now time.Time) ([]Outcome, error)
}

// isInternal reports whether typ is the type of a command that no sender sends to the function.
func (f Function) isInternal(typ string) bool {
	return slices.Contains(f.Internal, typ) || f.IsWake(typ)
}

// IsWake reports whether typ is the type of a message that only wakes the function.
func (f Function) IsWake(typ string) bool { return f.Wake != nil && typ == WakeType(f.Name) }

// BareType is the type of a message without an envelope that a transport routed by a type, which may be "". The type
// of a function without several types need not be given. What is not given is no type of the function, so the command
// is invalid.
func (f Function) BareType(routed string) string {
	switch {
	case slices.Contains(f.Types, routed):
		return routed
	case len(f.Types) == 1:
		return f.Types[0]
	case len(f.Types) == 0:
		return ""
	}
	return cmp.Or(routed, strings.TrimSuffix(events.CommandType(f.Name), ".v1"))
}

// CheckType returns an error for a command that its sender routed by another type: the right to send a command of one
// type would include all others of the function.
func (f Function) CheckType(typ, routed string) error {
	switch {
	case f.isInternal(typ) && routed != "":
		return Failed(events.KindInvalid, "type: %s is sent by functions only; got it from a sender", typ)
	case len(f.Types) > 1 && routed != "" && typ != routed:
		return Failed(events.KindInvalid, "type: must be that of the subject or of the attribute type, %.80q; got %.80q", routed, typ)
	}
	return nil
}

// Next is a command for a function.
type Next struct {
	Function string
	Envelope events.Envelope
	After    time.Duration // deliver it that much later; 0: now
}

// Delay is a message to be delivered later.
type Delay struct {
	Function string
	Envelope events.Envelope // as received
	Identity string          // of the command with its data; with Attempt and the function it names the timer
	Attempt  int             // number of this form
	Failures int             // how many of the forms so far a failure caused
	Held     int             // how many of them are those of a message that was held
	Epoch    string          // of the ledger, as received; "" for the current epoch
	After    time.Duration

	Command events.CommandRef // the command that waits
	Reason  string            // why it waits, as readable text; "" if waiting is normal
}

// DeadLetter is a message given up on.
type DeadLetter struct {
	ID       string // names the dead letter; command.failed has the same id
	Function string
	Class    string // unreadable, permanent, attempts_used_up
	Reason   string
	Attempts int
	Delivery Delivery
	Envelope events.Envelope // zero if it could not be read
}

// Classes of dead letters.
const (
	ClassUnreadable = "unreadable"
	ClassPermanent  = "permanent"
	ClassUsedUp     = "attempts_used_up"
)

// Result is what a transport must do with a message. First it stores, in this order and each confirmed: Next, Events,
// Delay, Dead. Only then does it acknowledge the message. If Retry is set, the message is redelivered instead.
type Result struct {
	Next   []Next
	Events []events.Envelope
	Delay  *Delay
	Dead   *DeadLetter
	Retry  error // nothing else is set: redeliver the message later
	Stop   error // stop taking messages
}

// Correlation is the correlation id of the result's chain, for log lines; "" if nothing is to be stored.
func (r Result) Correlation() string {
	switch {
	case len(r.Events) > 0:
		return r.Events[0].Correlation
	case len(r.Next) > 0:
		return r.Next[0].Envelope.Correlation
	case r.Delay != nil:
		return r.Delay.Envelope.Correlation
	case r.Dead != nil:
		return r.Dead.Envelope.Correlation
	}
	return ""
}

func marshal(v any) (json.RawMessage, error) {
	if raw, ok := v.(json.RawMessage); ok {
		return raw, nil
	}
	return events.Marshal(v)
}

// Key protects an access key from being locked by calls that the service would refuse. safety.Key implements it.
type Key interface {
	// Check returns nil if messages may be handled now, or the reason why not. It may itself probe whether the
	// service accepts the key. A *RetryError gives the time of the next check. It may be repeated.
	Check(ctx context.Context) error
	// Refuse stops the handling of messages because of err, until Check finds that they may be handled.
	Refuse(ctx context.Context, err error)
}
