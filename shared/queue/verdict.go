package queue

import (
	"errors"
	"fmt"
	"time"

	"recompose/events"
)

// The verdict on a message is an error:
//
//	nil             the outcomes are stored, then the message is acknowledged
//	Failed          the command ends in command.failed, then the message is acknowledged
//	RetryAfter      the same envelope is delivered once more after a delay, then the message is acknowledged
//	Hold            the same, and the delay is no attempt
//	Stop            as Hold, and the worker takes no more messages
//	Permanent       a dead letter with the reason, and command.failed; its kind is that of a wrapped FailedError, else
//	                internal
//	any other       redelivered by the transport; a dead letter beyond MaxDeliveries

// FailedError ends a command in command.failed.
type FailedError struct {
	DeadLetter string // the id of the dead letter that the message became, if it did
	Failure    events.Failure
	Effect     string   // events.EffectNone unless set
	DesktopIDs []string // the desktops that it is about; those of the command unless set
}

func (e *FailedError) Error() string {
	return fmt.Sprintf("%s: %s", e.Failure.Kind, e.Failure.ErrorMsg)
}

// Failed ends a command in command.failed with a kind and a reason, and no effect at the service.
func Failed(kind, reason string, args ...any) *FailedError {
	return &FailedError{Failure: events.Failure{Kind: kind, ErrorMsg: fmt.Sprintf(reason, args...)}}
}

// Invalid ends a command whose data breaks a rule.
func Invalid(err error) *FailedError { return Failed(events.KindInvalid, "%v", err) }

// CheckProject returns an error for a command that names another project than the worker's own.
func CheckProject(given, own string) error {
	if given != "" && given != own {
		return Failed(events.KindNotAllowed, "project_id: must be the worker's own project or absent; got %s", given)
	}
	return nil
}

// RetryError delays the message. It does not count as a delivery.
type RetryError struct {
	After  time.Duration
	Err    error // the reason; may be nil if waiting is normal
	Failed bool  // a failure caused the delay, and is counted
	Held   bool  // the message was not handled: the delay is no attempt
}

func (e *RetryError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("retry in %v", e.After)
	}
	return fmt.Sprintf("retry in %v: %v", e.After, e.Err)
}

func (e *RetryError) Unwrap() error { return e.Err }

// RetryAfter delivers the message once more after d.
func RetryAfter(d time.Duration, err error) error { return &RetryError{After: d, Err: err} }

// RetryFailed delivers the message once more after d, and counts a failure.
func RetryFailed(d time.Duration, err error) error {
	return &RetryError{After: d, Err: err, Failed: true}
}

// Hold delivers the message once more after d, and counts no attempt: it was not handled.
func Hold(d time.Duration, err error) error { return &RetryError{After: d, Err: err, Held: true} }

// StopError stops the worker, because handling more messages would do harm. The message itself is delayed.
type StopError struct{ Err error }

func (e *StopError) Error() string { return fmt.Sprint(e.Err) }
func (e *StopError) Unwrap() error { return e.Err }

// Stop stops the worker because of err.
func Stop(err error) error { return &StopError{Err: err} }

// PermanentError means that no attempt can succeed.
type PermanentError struct {
	Err    error
	effect string // of the command, if it is known
}

func (e *PermanentError) Error() string { return fmt.Sprint(e.Err) }
func (e *PermanentError) Unwrap() error { return e.Err }

// Permanent makes a dead letter of the message because of err.
func Permanent(err error) error { return &PermanentError{Err: err} }

// verdict is an error that decides what the transport does with its message. In a chain of errors the outermost
// verdict holds.
type verdict interface {
	error
	verdict()
}

func (*FailedError) verdict()    {}
func (*RetryError) verdict()     {}
func (*StopError) verdict()      {}
func (*PermanentError) verdict() {}

// IsVerdict reports whether an error is a verdict.
func IsVerdict(err error) bool {
	_, ok := errors.AsType[verdict](err)
	return ok
}

// AsFailed returns the FailedError that an error is, however it is wrapped; false if the outermost verdict is another
// one, even if it wraps a FailedError as its reason.
func AsFailed(err error) (*FailedError, bool) {
	v, _ := errors.AsType[verdict](err)
	failed, ok := v.(*FailedError)
	return failed, ok
}

// DividedBy returns a RetryError with its delay divided by pace, and any other error unchanged.
func DividedBy(err error, pace float64) error {
	v, _ := errors.AsType[verdict](err)
	retry, ok := v.(*RetryError)
	if !ok {
		return err
	}
	return &RetryError{After: time.Duration(float64(retry.After) / pace), Err: retry.Err, Failed: retry.Failed, Held: retry.Held}
}
