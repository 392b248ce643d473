package workspace

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// probeAfter is how long nothing is sent after a 401.
const probeAfter = time.Minute

// refusals prevents the lock of a key, which the service imposes after more than 5 refused signatures in a row. Until
// an answer has shown that the service accepts our credentials, one call is in flight at a time. After a 401 no call
// is sent, except one read a minute later.
type refusals struct {
	clock *clock

	mu      sync.Mutex
	proved  bool
	refusal *Error
	since   moment
	single  chan struct{} // held by the one call in flight until the credentials are proved
}

func newRefusals(c *clock) *refusals { return &refusals{clock: c, single: make(chan struct{}, 1)} }

// oneAtATime is how long a write waits while another call checks whether the service accepts the credentials.
const oneAtATime = time.Second

// enter waits until the call may be sent. A write waits a second at most, because its caller's checks were made
// directly before. Pass the result of the call to leave, unless enter returned an error.
func (r *refusals) enter(ctx context.Context, k call) (leave func(*Error), err *Error) {
	if r.open() {
		return r.learn, nil
	}
	if !r.begin(ctx, k) {
		return nil, &Error{
			Operation: k.operation, Class: NotSent, RetryAfter: oneAtATime,
			Err: errors.New("another call is checking whether the service accepts the credentials"),
		}
	}
	if refusal := r.refused(k); refusal != nil {
		<-r.single
		return nil, refusal
	}
	return func(failure *Error) {
		r.learn(failure)
		<-r.single
	}, nil
}

// begin waits for the slot of the one call that may be in flight until the credentials are proved.
func (r *refusals) begin(ctx context.Context, k call) bool {
	if k.write {
		within, cancel := context.WithTimeout(ctx, oneAtATime)
		defer cancel()
		ctx = within
	}
	select {
	case r.single <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *refusals) open() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proved
}

// refused returns the 401 that still applies to this call.
func (r *refusals) refused(k call) *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refusal == nil || (!k.write && r.since.until(r.clock.moment()) >= probeAfter) {
		return nil
	}
	e := *r.refusal
	e.Operation = k.operation
	e.Status, e.Date = 0, time.Time{} // they belong to the answer to another call
	e.Err = fmt.Errorf("not sent: the service refused our credentials at %s, and more refusals would lock the key",
		r.since.wall.Format(time.RFC3339))
	if r.refusal.Err != nil {
		e.Err = fmt.Errorf("%w: %w", e.Err, r.refusal.Err)
	}
	return &e
}

// learn records what an attempt has shown about our credentials.
func (r *refusals) learn(failure *Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failure == nil {
		r.proved, r.refusal = true, nil
		return
	}
	switch {
	case failure.Class == Unauthorized:
		r.proved, r.refusal, r.since = false, failure, r.clock.moment()
	case proves(failure):
		r.proved, r.refusal = true, nil
	}
}

// proves reports whether the answer came from the service itself, behind the gateway that checks credentials.
func proves(e *Error) bool {
	switch e.Class {
	case Refused, DiskBusy, Forbidden, NotFound, Conflict:
		return true
	default:
		return false
	}
}

// Probe makes a small read to check whether the service accepts our credentials. It returns nil if the answer shows
// that it does, whatever the answer is, else the *Error. After a 401 one read a minute is sent, so calling Probe more
// often has no effect; it does no harm.
func (c *Client) Probe(ctx context.Context) error {
	_, err := c.do(ctx, call{
		operation: "list-images", method: http.MethodGet, path: []string{"images"},
		query: url.Values{"image_type": {"private"}, "limit": {"1"}, "offset": {"0"}},
	})
	if e, ok := errors.AsType[*Error](err); ok && proves(e) {
		return nil
	}
	return err
}
