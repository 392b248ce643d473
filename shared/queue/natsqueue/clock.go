package natsqueue

import (
	"sync"
	"time"
)

// clock follows the server's clock, which decides when timers fire and when messages were stored. All workers of a
// deployment share it, so a worker whose own clock is wrong neither requests too often nor misjudges the age of a
// message.
type clock struct {
	ours func() time.Time // the wall clock: a monotonic clock stops while a machine sleeps

	mu     sync.Mutex
	offset time.Duration // server's clock minus ours
}

// now is the server's time, or ours until a time of the server is known.
func (c *clock) now() time.Time { return c.ours().Round(0).Add(c.ahead()) }

// ahead is how far the server's clock is ahead of ours.
func (c *clock) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// learn uses the server's time in a response to a request that was sent at a time of ours. The stored
// offset is kept if this answer allows it.
func (c *clock) learn(requested, server time.Time) {
	if server.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	least, most := server.Sub(c.ours().Round(0)), server.Sub(requested.Round(0))
	if most < least || (c.offset >= least && c.offset <= most) { // our clock was set back meanwhile, or the offset still agrees
		return
	}
	c.offset = least + (most-least)/2
}

// stored uses the time at which the server stored a message: its clock cannot be behind that time.
func (c *clock) stored(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if least := at.Sub(c.ours().Round(0)); least > c.offset {
		c.offset = least
	}
}

// Now is the time by the clock of the NATS server, which all workers share. Until a time of the server is known,
// which Setup ensures, it is the time of this machine.
func (q *Queue) Now() time.Time { return q.clock.now() }

// Skew is how far the clock of the NATS server is ahead of this machine's.
func (q *Queue) Skew() time.Duration { return q.clock.ahead() }
