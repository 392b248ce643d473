package natsqueue

import (
	"sync"
	"time"
)

// clock follows the server's clock, by which timers fire and messages are stored. All workers of a deployment share it,
// so a worker whose own clock is wrong neither asks too often nor finds a message older or younger than it is.
type clock struct {
	ours func() time.Time // the wall clock: a monotonic one stands still while a machine sleeps

	mu     sync.Mutex
	offset time.Duration // server's clock minus ours
}

// now is the server's time, or ours before the server has shown its own.
func (c *clock) now() time.Time { return c.ours().Round(0).Add(c.ahead()) }

// ahead is how far the server's clock is ahead of ours.
func (c *clock) ahead() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// learn takes the server's time in an answer to what was asked at a time of ours. What is known stays where it agrees.
func (c *clock) learn(asked, server time.Time) {
	if server.IsZero() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	least, most := server.Sub(c.ours().Round(0)), server.Sub(asked.Round(0))
	if most < least || (c.offset >= least && c.offset <= most) { // our clock was set back meanwhile, or nothing is new
		return
	}
	c.offset = least + (most-least)/2
}

// stored takes the time at which the server has stored a message: its clock is not behind that.
func (c *clock) stored(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if least := at.Sub(c.ours().Round(0)); least > c.offset {
		c.offset = least
	}
}

// Now is the time by the clock of the NATS server, which all workers share; this machine's until the server has shown
// its own, which it has after Setup.
func (q *Queue) Now() time.Time { return q.clock.now() }

// Skew is how far the clock of the NATS server is ahead of this machine's.
func (q *Queue) Skew() time.Duration { return q.clock.ahead() }
