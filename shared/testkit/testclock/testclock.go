// Package testclock is a wall clock that tests move.
package testclock

import (
	"sync"
	"time"
)

// Start is the time at which a clock begins.
var Start = time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)

// Clock is a wall clock. Its methods are safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// New returns a clock that stands at Start.
func New() *Clock { return &Clock{now: Start} }

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves the clock.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
