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

// refusals keeps a key from being locked, which the service does after more than 5 refused signatures in a row. Until an
// answer has shown that the service takes our credentials, one call is under way at a time; after a 401 none is, but
// for one read a minute later.
type refusals struct {
	clock *clock

	mu      sync.Mutex
	proved  bool
	refusal *Error
	since   moment
	single  chan struct{} // holds the one call that is under way while nothing is proved
}

func newRefusals(c *clock) *refusals { return &refusals{clock: c, single: make(chan struct{}, 1)} }

// enter waits until the call may be sent. The answer to it goes to leave, but for an error.
func (g *refusals) enter(ctx context.Context, k call) (leave func(*Error), err *Error) {
	if g.open() {
		return g.learn, nil
	}
	select {
	case g.single <- struct{}{}:
	case <-ctx.Done():
		return nil, &Error{Operation: k.operation, Class: NotSent, Err: fmt.Errorf("wait for the first answer: %w", ctx.Err())}
	}
	if refusal := g.refused(k); refusal != nil {
		<-g.single
		return nil, refusal
	}
	return func(failure *Error) {
		g.learn(failure)
		<-g.single
	}, nil
}

func (g *refusals) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.proved
}

// refused is the 401 that still holds for this call.
func (g *refusals) refused(k call) *Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusal == nil || (!k.write && g.since.until(g.clock.moment()) >= probeAfter) {
		return nil
	}
	e := *g.refusal
	e.Operation = k.operation
	e.Err = fmt.Errorf("not sent: the service refused our credentials at %s, and more refusals would lock the key",
		g.since.wall.Format(time.RFC3339))
	if g.refusal.Err != nil {
		e.Err = fmt.Errorf("%w: %w", e.Err, g.refusal.Err)
	}
	return &e
}

// learn takes what an attempt has shown of our credentials.
func (g *refusals) learn(failure *Error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if failure == nil {
		g.proved, g.refusal = true, nil
		return
	}
	switch {
	case failure.Class == Unauthorized:
		g.proved, g.refusal, g.since = false, failure, g.clock.moment()
	case proves(failure):
		g.proved, g.refusal = true, nil
	}
}

// proves reports whether the service itself has answered, behind the gateway that checks credentials.
func proves(e *Error) bool {
	switch e.Class {
	case Refused, DiskBusy, Forbidden, NotFound, Conflict:
		return true
	default:
		return false
	}
}

// Probe asks the service for very little, to see whether it takes our credentials: nil if its answer shows that it does,
// whatever else it says, else the *Error. After a 401 one read a minute is let through, so asking more often is of no
// use; it does no harm.
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
