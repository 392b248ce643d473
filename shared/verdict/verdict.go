// Package verdict tells what an error of the Workspace API means for the message behind the call: the command ends so,
// or comes again later, or the worker stops. It is the only place that decides this.
package verdict

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// How often a call comes again before its command fails. Every attempt is a message of its own; nothing waits. A call
// that our own rate limit held back comes again until it has its turn: nobody has refused it.
const (
	readAttempts     = 10 // some ten minutes: a chain shall outlive a short maintenance
	notSentAttempts  = 10
	throttleAttempts = 6
)

var kinds = map[workspace.Class]string{
	workspace.Invalid:      events.KindInvalid,
	workspace.NotSent:      events.KindUnavailable,
	workspace.Lost:         events.KindUnavailable,
	workspace.Refused:      events.KindRefused,
	workspace.DiskBusy:     events.KindRefused,
	workspace.Unauthorized: events.KindUnauthorized,
	workspace.Forbidden:    events.KindForbidden,
	workspace.NotFound:     events.KindNotFound,
	workspace.Endpoint:     events.KindEndpoint,
	workspace.Conflict:     events.KindConflict,
	workspace.Throttled:    events.KindThrottled,
	workspace.Unavailable:  events.KindUnavailable,
	workspace.BadAnswer:    events.KindBadAnswer,
}

// Failure is an error as events tell it: the kind, and what the service said.
func Failure(err error) events.Failure {
	e, ok := errors.AsType[*workspace.Error](err)
	if !ok {
		return events.Failure{Kind: events.KindInternal, ErrorMsg: err.Error()}
	}
	f := events.Failure{
		Kind: kinds[e.Class], HTTPStatus: e.Status, ErrorCode: e.Code, ErrorMsg: e.Msg, ErrorDetail: e.Detail,
		EncodedAuthorizationMessage: e.EncodedAuthorizationMessage, RequestID: e.RequestID,
	}
	if f.ErrorMsg == "" {
		f.ErrorMsg = e.Error()
	}
	return f
}

// Read is the verdict on an error of a call that changes nothing, after so many failures before. The error is one of the
// service, or any other, which is redelivered.
func Read(err error, failures int, desktopIDs ...string) error {
	e, ok := errors.AsType[*workspace.Error](err)
	if !ok {
		return err
	}
	most := readAttempts
	switch e.Class {
	case workspace.Unauthorized:
		return queue.Stop(err)
	case workspace.Throttled:
		most = throttleAttempts
	case workspace.NotSent, workspace.Lost, workspace.Unavailable, workspace.BadAnswer:
		// A bad answer to a read is a maintenance page, a redirect, an answer cut short: as passing as a 502.
	default:
		most = 0
	}
	if failures < most || errors.Is(err, workspace.ErrLimited) {
		return again(e, failures)
	}
	return &queue.FailedError{Failure: Failure(err), DesktopIDs: desktopIDs}
}

// NotDone is the verdict on an error of a write that left nothing done at the service, after so many failures before. What
// is a verdict already stays as it is.
func NotDone(err error, failures int, desktopIDs ...string) error {
	if queue.IsVerdict(err) {
		return err
	}
	e, ok := errors.AsType[*workspace.Error](err)
	if !ok {
		return err
	}
	if e.Class == workspace.Unauthorized {
		return queue.Stop(err)
	}
	if failures < mostNotDone(e.Class) || errors.Is(err, workspace.ErrLimited) {
		return again(e, failures)
	}
	return &queue.FailedError{Failure: Failure(err), DesktopIDs: desktopIDs}
}

// again brings the message again. Being held back by our own rate limit is no failure.
func again(e *workspace.Error, failures int) error {
	if errors.Is(e, workspace.ErrLimited) {
		return queue.RetryAfter(e.RetryAfter, e)
	}
	return queue.RetryFailed(wait(e, failures), e)
}

func mostNotDone(c workspace.Class) int {
	switch c {
	case workspace.NotSent:
		return notSentAttempts
	case workspace.Throttled:
		return throttleAttempts
	default:
		return 0
	}
}

// wait is how long the next attempt waits: what the service asked for, else longer each time. The gateway counts calls
// by the minute and Terraform waits 1, 2, 4, … minutes after a 429.
func wait(e *workspace.Error, failures int) time.Duration {
	first, most := 2*time.Second, 2*time.Minute
	if e.Class == workspace.Throttled {
		first, most = time.Minute, 16*time.Minute
	}
	return max(e.RetryAfter, Backoff(failures, first, most))
}

// Backoff is the wait after so many failures before: first, twice that, …, at most most, each half random.
func Backoff(failures int, first, most time.Duration) time.Duration {
	b := &backoff.ExponentialBackOff{InitialInterval: first, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: most}
	d := b.NextBackOff()
	for range min(failures, 32) {
		d = b.NextBackOff()
	}
	return d
}
