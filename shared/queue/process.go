package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"time"

	"recompose/events"
)

// Processor carries deliveries through functions. Its zero value works.
type Processor struct {
	Log *slog.Logger     // default: silent
	Now func() time.Time // default: time.Now
}

// Process takes one delivery through the function and tells the transport what to do. It never panics: a panic of the
// function is an unexpected error of this one message. It publishes nothing itself.
func (p Processor) Process(ctx context.Context, f Function, d Delivery) Result {
	log := p.logger().With("function", f.Name)
	envelope, err := events.Decode(d.Headers, d.Body, d.Bare)
	if unreadable, ok := as[*events.UnreadableError](err); ok {
		log.ErrorContext(ctx, "dead letter", "class", ClassUnreadable, "reason", unreadable.Error())
		return Result{Dead: p.deadLetter(f, d, Command{}, ClassUnreadable, unreadable.Error())}
	}
	c, implied, err := f.command(envelope, err)
	c.Attempt, _ = strconv.Atoi(d.Headers.Get(AttemptHeader))
	if !implied {
		return Result{}
	}
	log = log.With("type", c.Envelope.Type, "command_id", c.Envelope.ID, "attempt", c.Attempt)
	if err == nil && len(d.Body) > events.MaxMessage {
		err = Failed(events.KindInvalid, "a message may have at most %d bytes; got %d", events.MaxMessage, len(d.Body))
	}
	if err == nil && d.Bare.NoID && f.Writes && c.Envelope.ID == d.Bare.ID {
		err = Failed(events.KindInvalid, "a %s command without an envelope needs an id of its own (Nats-Msg-Id), so that it can be sent again safely", f.Name)
	}
	var said []Outcome
	switch {
	case err != nil:
	case d.Deliveries > MaxDeliveries:
		return p.giveUp(ctx, f, d, c, log)
	default:
		begin := time.Now()
		said, err = f.handle(ctx, c)
		log.DebugContext(ctx, "handled", "took", time.Since(begin), "said", len(said), "verdict", err)
	}
	return p.result(ctx, f, d, c, said, err, log)
}

// command is the command that an envelope is or implies.
func (f Function) command(e events.Envelope, err error) (Command, bool, error) {
	if invalid, ok := as[*events.InvalidError](err); ok {
		return Command{Envelope: e}, true, &FailedError{Failure: events.Failure{Kind: events.KindInvalid, ErrorMsg: invalid.Error()}}
	}
	if err != nil {
		return Command{Envelope: e}, true, err
	}
	if e.Type == f.Type && f.Type != "" {
		return Command{Envelope: e}, true, nil
	}
	for _, t := range f.Reacts {
		if e.Type != t {
			continue
		}
		implied, ok, err := f.React(e)
		if err != nil {
			return Command{Envelope: e}, true, Permanent(err)
		}
		return Command{Envelope: implied, Event: e}, ok, nil
	}
	want := f.Type
	if want == "" {
		want = "the events " + fmt.Sprint(f.Reacts)
	}
	return Command{Envelope: e}, true, Failed(events.KindInvalid, "type: %s takes %s; got %q", f.Name, want, e.Type)
}

// handle keeps a panic from ending the worker: the message that caused it is an error like any other, with the stack.
func (f Function) handle(ctx context.Context, c Command) (said []Outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	return f.Handle(ctx, c)
}

// PanicError is a panic of a function.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

func (p Processor) result(ctx context.Context, f Function, d Delivery, c Command, said []Outcome, verdict error, log *slog.Logger) Result {
	r := Result{}
	if failed, ok := as[*FailedError](verdict); ok {
		said, verdict = append(said, failed.outcome(c, "")), nil
		log.WarnContext(ctx, "command failed", "kind", failed.Failure.Kind, "error", failed.Failure.ErrorMsg, "request_id", failed.Failure.RequestID)
	}
	if permanent, ok := as[*PermanentError](verdict); ok {
		r.Dead = p.deadLetter(f, d, c, ClassPermanent, permanent.Error())
		said, verdict = append(said, Failed(events.KindInternal, "%v", permanent).outcome(c, r.Dead.ID)), nil
		log.ErrorContext(ctx, "dead letter", "class", ClassPermanent, "reason", permanent.Error(), "dead_letter", r.Dead.ID)
	}
	if stop, ok := as[*StopError](verdict); ok {
		r.Stop, verdict = stop.Err, RetryAfter(stopDelay, stop.Err)
	}
	if retry, ok := as[*RetryError](verdict); ok {
		r.Delay = &Delay{Function: f.Name, Envelope: c.received(), Identity: c.Identity(), Attempt: c.Attempt + 1, After: max(retry.After, 0)}
		log.DebugContext(ctx, "again later", "after", retry.After, "why", retry.Err)
		verdict = nil
	}
	if verdict != nil {
		if crash, ok := as[*PanicError](verdict); ok {
			log.ErrorContext(ctx, "panic", "error", crash.Error(), "stack", string(crash.Stack))
		} else if !errors.Is(verdict, context.Canceled) {
			log.ErrorContext(ctx, "unexpected error", "error", verdict, "delivery", d.Deliveries)
		}
		return Result{Retry: verdict}
	}
	for _, o := range said {
		e, err := p.envelope(f, c, o)
		switch {
		case err != nil:
			return Result{Retry: err}
		case o.To != "":
			r.Next = append(r.Next, Next{Function: o.To, Envelope: e})
		default:
			r.Events = append(r.Events, e)
		}
	}
	return r
}

// stopDelay is how long a message waits that stopped a worker.
const stopDelay = time.Minute

// received is the envelope as it came, which is what a delayed form must be.
func (c Command) received() events.Envelope {
	if c.IsReaction() {
		return c.Event
	}
	return c.Envelope
}

// Outcome is the command.failed event that the error ends a command in.
func (e *FailedError) Outcome(c Command) Outcome { return e.outcome(c, "") }

func (e *FailedError) outcome(c Command, deadLetter string) Outcome {
	effect := e.Effect
	if effect == "" {
		effect = events.EffectNone
	}
	about := []string{"command.failed"}
	if e.About != "" {
		about = append(about, e.About)
	}
	return Outcome{Type: events.TypeCommandFailed, About: about, Data: events.CommandFailed{
		Command: c.Ref(), Attempts: c.Attempt + 1, DesktopIDs: e.DesktopIDs, Effect: effect, DeadLetter: deadLetter, Error: e.Failure,
	}}
}

// envelope frames an outcome. The chain's correlation and expiry travel with it.
func (p Processor) envelope(f Function, c Command, o Outcome) (events.Envelope, error) {
	data, err := marshal(o.Data)
	if err != nil {
		return events.Envelope{}, fmt.Errorf("write %s: %w", o.Type, err)
	}
	e := events.Envelope{
		ID: o.ID, Source: o.Source, Type: o.Type, Time: o.Time, Causation: o.Causation,
		Correlation: c.Envelope.Correlation, TraceParent: c.Envelope.TraceParent, Expiry: c.Envelope.Expiry, Data: data,
	}
	if e.ID == "" {
		e.ID = events.Derive(c.Identity(), o.About...)
	}
	if e.Source == "" {
		e.Source = events.Source(f.Name)
	}
	if e.Causation == "" {
		e.Causation = c.Envelope.ID
	}
	if e.Time.IsZero() {
		e.Time = p.now()
	}
	return e, nil
}

func (p Processor) giveUp(ctx context.Context, f Function, d Delivery, c Command, log *slog.Logger) Result {
	reason := fmt.Sprintf("%d deliveries ended in a crash or an unexpected error", d.Deliveries-1)
	dead := p.deadLetter(f, d, c, ClassUsedUp, reason)
	log.ErrorContext(ctx, "dead letter", "class", ClassUsedUp, "reason", reason, "dead_letter", dead.ID)
	said, err := []Outcome{Failed(events.KindAttemptsUsedUp, "%s", reason).outcome(c, dead.ID)}, error(nil)
	if f.GiveUp != nil {
		said, err = f.giveUp(ctx, c, reason)
	}
	r := p.result(ctx, f, d, c, said, err, log)
	if r.Retry != nil || r.Delay != nil { // not given up after all: somebody else is at it
		return r
	}
	r.Dead = dead
	for i, e := range r.Events {
		r.Events[i] = naming(e, dead.ID)
	}
	return r
}

func (f Function) giveUp(ctx context.Context, c Command, reason string) (said []Outcome, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	return f.GiveUp(ctx, c, reason)
}

// naming puts the dead letter's id into a command.failed.
func naming(e events.Envelope, deadLetter string) events.Envelope {
	var failed events.CommandFailed
	if e.Type != events.TypeCommandFailed || json.Unmarshal(e.Data, &failed) != nil || failed.DeadLetter != "" {
		return e
	}
	failed.DeadLetter = deadLetter
	if data, err := json.Marshal(failed); err == nil {
		e.Data = data
	}
	return e
}

func (p Processor) deadLetter(f Function, d Delivery, c Command, class, reason string) *DeadLetter {
	about := c.Identity()
	if c.Envelope.ID == "" {
		about = events.Identity(d.Bare.Source, d.Bare.ID)
	}
	return &DeadLetter{
		ID: events.Derive(about, "dead", f.Name, class), Function: f.Name, Class: class, Reason: reason,
		Attempts: max(d.Deliveries, 1), Delivery: d, Envelope: c.Envelope,
	}
}

func (p Processor) now() time.Time {
	if p.Now == nil {
		return time.Now()
	}
	return p.Now()
}

func (p Processor) logger() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}
