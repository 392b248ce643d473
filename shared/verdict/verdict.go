// Package verdict maps an error of the Workspace API to a verdict on the message behind the call: the command fails,
// is delayed, or stops the worker. It is the only place that decides this.
package verdict

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// How often a call is retried before its command fails. Every attempt is a message of its own, so no worker waits for
// it. A call that our own rate limit delays is retried without a limit: the service has not refused it.
const (
	readAttempts     = 10 // about ten minutes, so that a chain survives a short maintenance
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

// Failure converts an error for an event: the kind, and the details of the service's response.
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

// Read is the verdict on an error of a call that changes nothing, after the given number of failures. An error that
// is not a *workspace.Error is returned unchanged, so that the message is redelivered.
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
		// A bad answer to a read is a maintenance page, a redirect or a truncated response, which pass like a 502.
	default:
		most = 0
	}
	if failures < most || errors.Is(err, workspace.ErrLimited) {
		return retry(e, failures)
	}
	return &queue.FailedError{Failure: Failure(err), DesktopIDs: desktopIDs}
}

// NotDone is the verdict on an error of a write that has changed nothing at the service, after the given number of
// failures. A verdict is returned unchanged.
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
		return retry(e, failures)
	}
	return &queue.FailedError{Failure: Failure(err), DesktopIDs: desktopIDs}
}

// retry delays the message. A delay by our own rate limit counts neither as a failure nor as an attempt: nothing was sent.
func retry(e *workspace.Error, failures int) error {
	if errors.Is(e, workspace.ErrLimited) {
		return queue.Hold(e.RetryAfter, e)
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

// wait is the delay before the next attempt: at least what the service requested, and longer each time. The gateway
// counts calls by the minute, and Terraform waits 1, 2, 4, … minutes after a 429.
func wait(e *workspace.Error, failures int) time.Duration {
	first, most := 2*time.Second, 2*time.Minute
	if e.Class == workspace.Throttled {
		first, most = time.Minute, 16*time.Minute
	}
	return max(e.RetryAfter, Backoff(failures, first, most))
}

// Backoff is the wait after the given number of failures: first, twice that, …, up to most, each with a random part
// of up to half.
func Backoff(failures int, first, most time.Duration) time.Duration {
	b := &backoff.ExponentialBackOff{InitialInterval: first, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: most}
	d := b.NextBackOff()
	for range min(failures, 32) {
		d = b.NextBackOff()
	}
	return d
}
