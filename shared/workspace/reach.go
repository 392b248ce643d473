package workspace

import (
	"context"
	"errors"
	"sync"
	"time"
)

// reach records whether the service answers at all: without an address, a connection, TLS or the proxy there is no
// answer.
type reach struct {
	clock  *clock
	report func(error)

	mu    sync.Mutex
	why   error  // of the latest attempt without an answer; nil while the service answers
	since moment // of the first one
	last  moment // of the latest one
}

// learn records the end of an attempt; err is nil for any answer. An attempt that its caller cancelled is ignored.
func (r *reach) learn(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := (r.why == nil) != (err == nil)
	r.why = err
	if err != nil {
		r.last = r.clock.moment()
	}
	if changed && err != nil {
		r.since = r.last
	}
	if changed && r.report != nil {
		r.report(err)
	}
}

// Unreached is a period without any answer of the service.
type Unreached struct {
	Why    error         // of the latest attempt
	Since  time.Time     // the first attempt without an answer
	For    time.Duration // since then
	Latest time.Duration // since the latest attempt
}

// Unreached returns the present period without any answer; nil if the latest attempt was answered, or there was none.
func (c *Client) Unreached() *Unreached {
	r := &c.reach
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		return nil
	}
	now := c.clock.moment()
	return &Unreached{Why: r.why, Since: r.since.wall, For: r.since.until(now), Latest: r.last.until(now)}
}
