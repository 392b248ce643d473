// Package queue is what the functions and the transports have in common: a message comes in, a function handles it,
// and the result says what the transport must store before it lets the message go. It knows no transport.
//
//	delivery ──▶ Function.Process ──▶ Result: publish events, send commands on, delay, dead letter, then let go
//
// Delivery is at least once. A function may be killed at any line, and then its message comes again: everything that a
// Result holds has an id that follows from what it is about, so saying it twice says the same thing.
package queue

import (
	"context"
	"encoding/json"
	"time"

	"recompose/events"
)

// MaxDeliveries is how often a message may end in a crash or an unexpected error before it becomes a dead letter.
// Delayed forms do not count: each is a new message.
const MaxDeliveries = 5

// AttemptHeader is the header or attribute that numbers the delayed forms of a message: absent at first, then 1, 2, ….
const AttemptHeader = "Recompose-Attempt"

// FailuresHeader is the header or attribute that counts how many of the delayed forms came of a failure, not of waiting.
const FailuresHeader = "Recompose-Failures"

// EpochHeader is the header or attribute that carries the epoch of the ledger that a message of ours was made in.
const EpochHeader = "Recompose-Ledger"

// Delivery is a message as a transport hands it over.
type Delivery struct {
	Headers    events.Headers
	Body       []byte
	Bare       events.Bare // what the message is if it has no envelope; Bare.Time is when it was stored
	Deliveries int         // how often this very message was handed over, from 1
}

// Command is a command on its way through a function, or what an event implies for it.
type Command struct {
	Envelope events.Envelope // of the command; for a reaction, of the event with the id and type of the implied command
	Event    events.Envelope // of a reaction: the event; else zero
	Attempt  int             // how many delayed forms came before: 0 at first
	Failures int             // how many of them came of a failure
	Epoch    string          // of the ledger that the message was made in; "" for a message of a sender

	// Digest is that of the data ([events.Envelope.Digest]); "" where it cannot be decoded. DesktopIDs are those that the
	// data names, also where it is refused. Process sets both.
	Digest     string
	DesktopIDs []string
}

// Identity is the ledger key of the command and the root of all ids derived from it.
func (c Command) Identity() string { return c.Envelope.Identity() }

// Ref names the command in events.
func (c Command) Ref() events.CommandRef {
	return events.CommandRef{Type: c.Envelope.Type, ID: c.Envelope.ID, Source: c.Envelope.Source, Digest: c.Digest}
}

// AboutData is [Outcome.About] of an end that no ledger record keeps: it has the digest, so that each data that is sent
// under one id has an end of its own.
func (c Command) AboutData(words ...string) []string {
	if c.Digest == "" {
		return words
	}
	return append(words, c.Digest)
}

// IsReaction reports whether an event stands behind the command, not a message that somebody sent.
func (c Command) IsReaction() bool { return c.Event.ID != "" }

// Outcome is what a function says. Its id is derived from the identity of what it is about and the words of About, so
// the same thing said twice is one event.
type Outcome struct {
	Type      string    // of an event, or of a command where To is set
	About     []string  // ids are events.Derive(identity of the command, About...); the type unless set
	ID        string    // instead of About
	Source    string    // that of the function unless set; set where another function says the same
	Causation string    // the command's id unless set; a notice has none
	Time      time.Time // now unless set; set where the same thing may be said again later
	Data      any
	To        string // a function: this is a command for it
}

// Function is a row of the routing table.
type Function struct {
	Name   string   // token: folder, queue, durable, log key
	Type   string   // of its command; "" where it has none of its own
	Reacts []string // types of events that may imply a command for it
	Writes bool     // a bare command needs an id of its sender's

	// Handle carries out a command. What it returns is said even where the verdict is an error.
	Handle func(ctx context.Context, c Command) ([]Outcome, error)
	// React tells what an event implies: false for nothing. It must be pure; an error is permanent.
	React func(event events.Envelope) (command events.Envelope, implied bool, err error)
	// GiveUp tells how a command ends that used up its deliveries; nil, or nothing said, means attempts_used_up, with an
	// unknown effect where Writes is set. An error that is no verdict is tried again, up to twice MaxDeliveries.
	GiveUp func(ctx context.Context, c Command, reason string) ([]Outcome, error)
}

// Next is a command for a function.
type Next struct {
	Function string
	Envelope events.Envelope
}

// Delay is a message that comes again.
type Delay struct {
	Function string
	Envelope events.Envelope // as it came
	Identity string          // of the command with its data; with Attempt and the function it names the timer
	Attempt  int
	Failures int
	Epoch    string // of the ledger, as the message came; "" for the one in force
	After    time.Duration

	Command events.CommandRef // that waits
	Reason  string            // why it waits, for people; "" where waiting is the normal course
}

// DeadLetter is a message given up on.
type DeadLetter struct {
	ID       string // names it; command.failed has the same
	Function string
	Class    string // unreadable, permanent, attempts_used_up
	Reason   string
	Attempts int
	Delivery Delivery
	Envelope events.Envelope // zero where it could not be read
}

// Classes of dead letters.
const (
	ClassUnreadable = "unreadable"
	ClassPermanent  = "permanent"
	ClassUsedUp     = "attempts_used_up"
)

// Result is what a transport must do with a message. First everything to be stored is stored, in this order: Next,
// Events, Delay, Dead; each confirmed. Only then is the message let go, or handed over again where Retry is set.
type Result struct {
	Next   []Next
	Events []events.Envelope
	Delay  *Delay
	Dead   *DeadLetter
	Retry  error // nothing else is set: hand the message over again, later
	Stop   error // take no more messages
}

// Correlation is the chain that a result belongs to, for log lines; "" where nothing is to be stored.
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
	return json.Marshal(v)
}

// Key keeps an access key from being locked by messages that would be handled with it. safety.Key is one.
type Key interface {
	// Check returns why no message may be handled now, nil if they may. It may be what finds out that the key is taken
	// again. A *RetryError has when to ask next. It may be repeated.
	Check(ctx context.Context) error
	// Pull stops the handling of messages because of err, until Check finds that they may be handled.
	Pull(ctx context.Context, err error)
}
