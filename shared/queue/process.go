package queue

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/telemetry/logging"
)

// Processor carries deliveries through functions. Its zero value works.
type Processor struct {
	Log *slog.Logger     // default: silent
	Now func() time.Time // default: time.Now
}

// Process passes one delivery to the function and returns what the transport must do. It never panics: a panic of the
// function becomes an unexpected error of this message. It publishes nothing itself.
func (p Processor) Process(ctx context.Context, f Function, d Delivery) Result {
	log := messageLog{log: p.logger()}.with("function", f.Name)
	r, err := Guarded(func() (Result, error) { return p.process(ctx, f, d, log), nil })
	if err != nil {
		return p.redeliver(ctx, d, err, log)
	}
	return r
}

func (p Processor) process(ctx context.Context, f Function, d Delivery, log messageLog) Result {
	bare := d.Bare
	if bare.Time.IsZero() { // a command without a time would never expire
		bare.Time = p.now()
	}
	envelope, err := events.Decode(d.Headers, d.Body, bare)
	if unreadable, ok := errors.AsType[*events.UnreadableError](err); ok {
		log.error(ctx, "dead letter", "class", ClassUnreadable, "reason", unreadable.Error())
		return Result{Dead: p.deadLetter(f, d, Command{}, ClassUnreadable, unreadable.Error())}
	}
	c, implied, err := f.command(Dated(envelope, bare.Time), err)
	if !implied {
		log.debug(ctx, "the event implies no command", "type", envelope.Type, "event_id", envelope.ID)
		return Result{}
	}
	if c.IsReaction() && d.Type != "" && d.Type != c.Event.Type { // the right to send one command would include all events
		log.error(ctx, "dropped: an event that was sent under another type", "type", c.Event.Type, "sent_as", d.Type, "event_id", c.Event.ID)
		return Result{}
	}
	c.First = d.Deliveries == 1 && d.Headers.Get(AttemptHeader) == ""
	forms := count(d.Headers, AttemptHeader)
	c.Failures, c.Held = count(d.Headers, FailuresHeader), min(count(d.Headers, HeldHeader), forms)
	c.Attempt = forms - c.Held
	ctx = logging.With(ctx, slog.String(logging.KeyCommand, c.Envelope.ID), slog.String(logging.KeyCorrelation, c.Envelope.Correlation))
	log = log.with("type", c.Envelope.Type, "attempt", c.Attempt)
	c.Epoch = d.Headers.Get(EpochHeader)
	c.Digest, c.DesktopIDs = c.Envelope.Digest(), events.DesktopIDs(c.Envelope.Data)
	if c.DesktopIDs == nil {
		c.DesktopIDs = events.DesktopIDs(c.Event.Data)
	}
	if err == nil {
		err = f.acceptable(c, d)
	}
	var outcomes []Outcome
	switch {
	case err != nil:
	case f.IsWake(c.Envelope.Type):
		return p.wake(ctx, f, c)
	case d.Deliveries > MaxDeliveries:
		return p.giveUp(ctx, f, d, c, log)
	default:
		begin := time.Now()
		outcomes, err = Guarded(func() ([]Outcome, error) { return f.Handle(ctx, c) })
		verdict := "done"
		if err != nil {
			verdict = err.Error()
		}
		log.debug(ctx, "handled", "took", time.Since(begin), "outcomes", len(outcomes), "verdict", verdict)
	}
	return p.result(ctx, f, d, c, outcomes, err, log)
}

// Dated returns the envelope with a time that is not later than when its message was stored. A sender's clock may be
// ahead, or a sender may set a time in the future on purpose; such a command would expire too late. Delayed forms
// carry the corrected time, so that the age of a command counts from when its first message was stored.
func Dated(e events.Envelope, stored time.Time) events.Envelope {
	if !stored.IsZero() && e.Time.After(stored) {
		e.Time = stored.UTC()
	}
	return e
}

// count returns the number in a header; 0 if the header is not a positive number.
func count(h events.Headers, name string) int {
	const most = 1_000_000
	if n, err := strconv.Atoi(h.Get(name)); err == nil && n > 0 {
		return min(n, most)
	}
	return 0
}

// command returns the command that an envelope is or implies; false if the function has nothing to do for it. The
// error is a verdict on the command.
func (f Function) command(e events.Envelope, invalid error) (Command, bool, error) {
	if !slices.Contains(f.Reacts, e.Type) {
		switch {
		case events.IsEvent(e.Type):
			// Misdirected. An event is not a command: no sender waits for an answer, and an answer could be routed
			// back here.
			return Command{}, false, nil
		case invalid != nil:
			return Command{Envelope: e}, true, Invalid(invalid)
		case slices.Contains(f.Types, e.Type), f.isInternal(e.Type):
			return Command{Envelope: e}, true, nil
		}
		want := f.Types
		if len(want) == 0 {
			want = f.Reacts
		}
		return Command{Envelope: e}, true, Failed(events.KindInvalid, "type: must be %s for %s; got %.80q", strings.Join(want, ", "), f.Name, e.Type)
	}
	switch {
	case f.RolloutOnly && e.Rollout == "":
		return Command{}, false, nil
	case invalid != nil:
		return f.reaction(e), true, Invalid(invalid)
	}
	command, err := Guarded(func() (*events.Envelope, error) {
		command, implied, err := f.React(e)
		if !implied {
			return nil, err
		}
		return &command, err
	})
	switch {
	case err != nil:
		return f.reaction(e), true, &PermanentError{Err: err, effect: events.EffectNone} // the function has begun nothing
	case command == nil:
		return Command{Event: e}, false, nil
	}
	return Command{Envelope: *command, Event: e}, true, nil
}

// reaction is the command that an unreadable event would have implied. It must end too, because the chain waits for it.
func (f Function) reaction(e events.Envelope) Command {
	command, _ := e.Implies(f.Name, nil) // null can be written
	return Command{Envelope: command, Event: e}
}

// acceptable checks the rules that hold for every command of the function, before its data is decoded.
func (f Function) acceptable(c Command, d Delivery) error {
	// Events and delayed forms are published by recompose: they may be larger than the message that caused them, and
	// must not be refused for it.
	if len(d.Body) > events.MaxMessage && !c.IsReaction() && !c.IsDelayed() {
		return Failed(events.KindInvalid, "a message may have at most %d bytes; got %d", events.MaxMessage, len(d.Body))
	}
	if d.Bare.NoID && f.Writes && c.Envelope.ID == d.Bare.ID {
		return Failed(events.KindInvalid, "id: a bare %s command needs one (header Nats-Msg-Id, on AWS attribute id): it makes repeating safe", f.Name)
	}
	if !c.IsReaction() {
		return f.CheckType(c.Envelope.Type, d.Type)
	}
	return nil
}

// Guarded calls do. It turns a panic into a *PanicError, so that the worker continues. Process guards the methods of a
// function; what a function runs in another goroutine needs a guard of its own.
func Guarded[T any](do func() (T, error)) (result T, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{Value: r, Stack: debug.Stack()}
		}
	}()
	result, err = do()
	if failed, ok := AsFailed(err); ok && failed == nil { // a nil *FailedError in an error interface is not equal to nil
		return result, nil
	}
	return result, err
}

// PanicError is a panic of a function.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

func (p Processor) result(ctx context.Context, f Function, d Delivery, c Command, outcomes []Outcome, err error, log messageLog) Result {
	r := Result{}
	v, _ := errors.AsType[verdict](err) // the outermost verdict holds; an error that it wraps is only its reason
	switch v := v.(type) {
	case *FailedError:
		failed := *v
		failed.Effect = cmp.Or(v.Effect, f.effect(c.Event, ""))
		outcomes = append(outcomes, failed.outcome(c, c.AboutData("command.failed")))
	case *PermanentError:
		failed := *Failed(events.KindInternal, "%v", v)
		if inner, ok := errors.AsType[*FailedError](v.Err); ok {
			failed = *inner
		}
		failed.Effect = cmp.Or(failed.Effect, f.effect(c.Event, cmp.Or(v.effect, f.unexpected())))
		r.Dead = p.deadLetter(f, d, c, ClassPermanent, v.Error())
		failed.DeadLetter = r.Dead.ID
		outcomes = append(outcomes, failed.outcome(c, c.AboutData("command.failed")))
		log.error(ctx, "dead letter", "class", ClassPermanent, "reason", v.Error(), "dead_letter", r.Dead.ID)
		logStack(ctx, v, log)
	case *StopError:
		r.Stop, r.Delay = v.Err, c.delay(f, stopDelay)
		r.Delay.Held++
		if r.Stop == nil {
			r.Stop = v
		}
	case *RetryError:
		r.Delay = c.delay(f, v.After)
		if v.Failed {
			r.Delay.Failures++
		}
		if v.Held {
			r.Delay.Held++
		}
		if v.Err != nil {
			r.Delay.Reason = v.Err.Error()
		}
		log.debug(ctx, "delayed", "after", v.After, "reason", r.Delay.Reason)
	default:
		if err != nil {
			return p.redeliver(ctx, d, err, log)
		}
	}
	for _, o := range outcomes {
		e, err := p.envelope(f, c, o)
		switch {
		case err != nil:
			return p.redeliver(ctx, d, err, log)
		case o.To != "":
			r.Next = append(r.Next, Next{Function: o.To, Envelope: e, After: o.After})
		default:
			r.Events = append(r.Events, e)
			logFailure(ctx, e, log)
		}
	}
	return r
}

// redeliver makes the transport deliver the message once more because of an unexpected error.
func (p Processor) redeliver(ctx context.Context, d Delivery, err error, log messageLog) Result {
	if !errors.Is(err, context.Canceled) {
		log.error(ctx, "unexpected error", "error", err, "delivery", d.Deliveries)
	}
	logStack(ctx, err, log)
	return Result{Retry: err}
}

// effect is what a failure has changed at the service, if the function does not report it. A job.accepted does not
// prove that there is a job: any user who may publish events can have made it up. It does not exclude one either.
func (f Function) effect(event events.Envelope, otherwise string) string {
	if event.Type == events.TypeJobAccepted {
		return events.EffectUnknown
	}
	return otherwise
}

// unexpected is the effect of a command whose function failed unexpectedly.
func (f Function) unexpected() string {
	if f.Writes {
		return events.EffectUnknown
	}
	return events.EffectNone
}

// stopDelay is the delay of a message that stopped a worker.
const stopDelay = time.Minute

func (c Command) delay(f Function, after time.Duration) *Delay {
	return &Delay{
		Function: f.Name, Envelope: c.received(), Identity: c.form(), Attempt: c.Attempt + c.Held + 1, Failures: c.Failures, Held: c.Held,
		Epoch: c.Epoch, After: max(after, 0), Command: c.Ref(),
	}
}

// received is the envelope of the message, which is also the envelope of its delayed form.
func (c Command) received() events.Envelope {
	if c.IsReaction() {
		return c.Event
	}
	return c.Envelope
}

// form is the identity of the command with its data, so that transports do not drop its delayed forms as duplicates
// of those of other data.
func (c Command) form() string {
	if c.Digest == "" {
		return c.Identity()
	}
	return events.Derive(c.Identity(), "form", c.Digest)
}

// Outcome is the command.failed event in which the error ends a command, for a ledger record.
func (e *FailedError) Outcome(c Command) Outcome { return e.outcome(c, []string{"command.failed"}) }

func (e *FailedError) outcome(c Command, about []string) Outcome {
	ids := e.DesktopIDs
	if ids == nil {
		ids = c.DesktopIDs
	}
	return Outcome{Type: events.TypeCommandFailed, About: about, Data: events.CommandFailed{
		Command: c.Ref(), Attempts: c.Attempt + 1, DesktopIDs: ids, Effect: cmp.Or(e.Effect, events.EffectNone),
		DeadLetter: e.DeadLetter, Error: e.Failure,
	}}
}

// envelope makes an event or a command of an outcome. The chain's correlation, expiry and rollout are
// passed on.
func (p Processor) envelope(f Function, c Command, o Outcome) (events.Envelope, error) {
	if (o.After != 0 || events.IsInternal(o.Type)) && o.To != f.Name {
		return events.Envelope{}, fmt.Errorf("%s after %v to %q: only a command to the function itself may be internal or delayed", o.Type, o.After, o.To)
	}
	data, err := marshal(o.Data)
	if err != nil {
		return events.Envelope{}, fmt.Errorf("write %s: %w", o.Type, err)
	}
	e := events.Envelope{
		ID: o.ID, Source: o.Source, Type: o.Type, Time: o.Time, Causation: o.Causation,
		Correlation: cmp.Or(o.Correlation, c.Envelope.Correlation), TraceParent: c.Envelope.TraceParent, Expiry: c.Envelope.Expiry,
		Rollout: cmp.Or(o.Rollout, c.Envelope.Rollout), Data: data,
	}
	if !o.Expiry.IsZero() {
		e.Expiry = o.Expiry
	}
	if about := o.About; e.ID == "" {
		if len(about) == 0 {
			about = []string{o.Type}
		}
		e.ID = events.Derive(c.Identity(), about...)
	}
	if e.Source == "" {
		e.Source = events.Source(f.Name)
	}
	if e.Causation == "" && !events.IsNotice(o.Type) && !o.NoEnd {
		e.Causation = c.Envelope.ID
		if c.IsReaction() && len(f.Types) == 0 { // a function without commands of its own answers the event
			e.Causation = c.Event.ID
		}
	}
	if e.Time.IsZero() {
		e.Time = p.now()
	}
	return e, nil
}

// giveUp ends a command that used up its deliveries. The function's GiveUp decides how; after MaxDeliveries failures of
// GiveUp, the command ends as attempts_used_up.
func (p Processor) giveUp(ctx context.Context, f Function, d Delivery, c Command, log messageLog) Result {
	reason := fmt.Sprintf("%d deliveries ended in a crash or an unexpected error", d.Deliveries-1)
	var outcomes []Outcome
	var err error
	if f.GiveUp != nil {
		outcomes, err = Guarded(func() ([]Outcome, error) { return f.GiveUp(ctx, c, reason) })
		if err != nil && !IsVerdict(err) {
			if d.Deliveries < 2*MaxDeliveries {
				return p.redeliver(ctx, d, err, log)
			}
			logStack(ctx, err, log)
			outcomes, reason = nil, fmt.Sprintf("%s, and giving up failed: %v", reason, err)
			err = nil
		}
	}
	if err == nil && len(outcomes) == 0 {
		failed := Failed(events.KindAttemptsUsedUp, "%s", reason)
		failed.Effect = f.effect(c.Event, f.unexpected())
		failed.DeadLetter = DeadLetterID(c.Identity(), f.Name, ClassUsedUp)
		err = failed
	}
	r := p.result(ctx, f, d, c, outcomes, err, log)
	if r.Retry != nil || r.Delay != nil || r.Dead != nil { // not given up after all, or a dead letter exists already
		return r
	}
	dead := p.deadLetter(f, d, c, ClassUsedUp, reason)
	if slices.ContainsFunc(r.Events, func(e events.Envelope) bool { return bytes.Contains(e.Data, []byte(dead.ID)) }) {
		r.Dead = dead
		log.error(ctx, "dead letter", "class", ClassUsedUp, "reason", reason, "dead_letter", dead.ID)
	}
	return r
}

func (p Processor) deadLetter(f Function, d Delivery, c Command, class, reason string) *DeadLetter {
	about := c.Identity()
	if c.Envelope.ID == "" {
		about = events.Identity(d.Bare.Source, d.Bare.ID)
	}
	return &DeadLetter{
		ID: DeadLetterID(about, f.Name, class), Function: f.Name, Class: class, Reason: reason,
		Attempts: max(d.Deliveries, 1), Delivery: d, Envelope: c.Envelope,
	}
}

// DeadLetterID names the dead letter that a function makes of the message with this identity. It is derived from the
// identity alone, so a command that is given up on twice has two dead letters with one id.
func DeadLetterID(identity, function, class string) string {
	return events.Derive(identity, "dead", function, class)
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
	return slog.New(logging.Contextual(p.Log.Handler()))
}
