package workspace

import (
	"net/http"
	"sync"
	"time"
)

// clock follows the service's clock by the Date headers of its answers.
type clock struct {
	now    func() time.Time
	steady func() time.Duration // elapsed time by a clock that cannot be set; nil if there is none

	mu      sync.Mutex
	offset  time.Duration // service's clock minus ours
	learned moment        // of the last answer that had a Date
	known   bool          // there was such an answer
}

// follow sets our clock: now, or the machine's clock if now is nil.
func (c *clock) follow(now func() time.Time) {
	if c.now = now; now == nil {
		start := time.Now()
		c.now, c.steady = time.Now, func() time.Duration { return time.Since(start) }
	}
}

// moment is one reading of both our clocks.
type moment struct {
	wall   time.Time
	steady time.Duration
}

func (c *clock) moment() moment {
	m := moment{wall: c.ours()}
	if c.steady != nil {
		m.steady = c.steady()
	}
	return m
}

// until is the time from one moment to another, the longer of two readings: the wall clock continues while the machine
// sleeps, and the steady clock continues when the wall clock is set back.
func (m moment) until(later moment) time.Duration {
	return max(later.wall.Sub(m.wall), later.steady-m.steady)
}

// ours is the wall clock: a monotonic reading does not advance while a machine sleeps.
func (c *clock) ours() time.Time { return c.now().Round(0).UTC() }

// service returns our clock plus the learned offset.
func (c *clock) service() time.Time {
	now, _ := c.read()
	return now
}

// read returns the service's clock, and whether an answer has shown it.
func (c *clock) read() (now time.Time, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.moment()
	if !c.known {
		return m.wall.Add(c.offset), false
	}
	return c.learned.wall.Add(c.offset + c.learned.until(m)), true
}

// learn uses the Date of an answer that came between two readings of our clocks. A Date is cut to the second and was
// taken at some time between sending and receiving. The present offset stays if it is possible within that error, so
// that the clock does not jitter backwards.
func (c *clock) learn(date time.Time, sent, received moment) {
	flight := received.wall.Sub(sent.wall)
	if c.steady != nil { // the wall clock may have been set in the meantime
		flight = received.steady - sent.steady
	}
	if date.IsZero() || flight < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.learned, c.known = received, true
	least := date.Sub(received.wall)
	most := least + time.Second + flight
	if c.offset >= least && c.offset <= most {
		return
	}
	c.offset = least + (most-least)/2
}

// dateOf reads the Date header. It returns zero for a header that is missing, malformed or absurd.
func dateOf(h http.Header) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Year() < 2020 || date.Year() > 2199 {
		return time.Time{}
	}
	return date.UTC()
}
