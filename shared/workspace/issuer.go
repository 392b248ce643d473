package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxIssued is larger than any answer of IAM or the metadata without the service catalogue.
const maxIssued = 1 << 20

// issuer makes the calls that fetch a proof.
type issuer struct {
	operation string // in errors
	transport http.RoundTripper
	clock     *clock
	onCall    func(CallInfo)
}

// issued is an answer of an issuer, read to its end.
type issued struct {
	status int
	header http.Header
	body   []byte
	sent   moment
	date   time.Time // by the issuer's clock; by ours if the answer has none
}

// errNoAnswer is in the chain of the error of a fetch that got no answer.
var errNoAnswer = errors.New("no answer")

// send sends one request, follows no redirect, and reads the answer. The error is an [*Error].
func (i *issuer) send(ctx context.Context, request *http.Request) (issued, error) {
	request.GetBody = nil // net/http must not send it a second time by itself
	request.Header.Set("User-Agent", "recompose")
	a := issued{sent: i.clock.moment()}
	info := CallInfo{Operation: i.operation}
	defer func() {
		if info.Status, info.Duration = a.status, a.sent.until(i.clock.moment()); i.onCall != nil {
			i.onCall(info)
		}
	}()
	response, err := i.transport.RoundTrip(request)
	if err != nil {
		err = fmt.Errorf("%w: %w", errNoAnswer, cause(ctx, err))
		return a, i.failed(nil, err)
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	if a.date = dateOf(response.Header); a.date.IsZero() {
		a.date = a.sent.wall
	}
	a.body, err = io.ReadAll(io.LimitReader(response.Body, maxIssued+1))
	if err == nil && len(a.body) > maxIssued {
		err = errors.New("the answer is longer than 1 MiB")
	}
	if err != nil {
		return a, i.failed(&a, fmt.Errorf("read answer: %w", cause(ctx, err)))
	}
	return a, nil
}

// failed builds the error of a fetch; a is the answer, nil if there was none.
func (i *issuer) failed(a *issued, err error) *Error {
	if a == nil {
		return &Error{Operation: i.operation, Class: Unavailable, Err: err}
	}
	if a.status >= 300 && a.status <= 399 {
		err = fmt.Errorf("redirects are not followed: %w", err)
	}
	return &Error{
		Operation: i.operation, Class: classOfStatus(a.status, ""), Status: a.status, Date: a.date, Err: err,
		RequestID: requestIDOf(a.header), RetryAfter: retryAfter(a.header, a.date, a.date),
	}
}

// life returns the least time that the issued token or key stays valid after the answer: a Date is cut to the second.
func (i *issuer) life(a *issued, what, expiresAt string) (time.Duration, error) {
	end := ParseTime(expiresAt)
	switch {
	case expiresAt == "":
		return 0, i.failed(a, fmt.Errorf("the answer has no expires_at with the %s", what))
	case end.IsZero():
		return 0, i.failed(a, fmt.Errorf("expires_at of the %s in the answer is not a time", what))
	case end.Sub(a.date) <= time.Second:
		return 0, i.failed(a, fmt.Errorf("the answer has a %s that ended at %s, and its clock is at %s",
			what, end, a.date.Format(time.RFC3339)))
	}
	return end.Sub(a.date) - time.Second, nil
}
