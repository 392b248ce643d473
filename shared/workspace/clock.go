package workspace

import (
	"net/http"
	"sync"
	"time"
)

// clock follows the service's clock by the Date headers of its answers.
type clock struct {
	now func() time.Time

	mu     sync.Mutex
	offset time.Duration // service's clock minus ours
}

// ours is the wall clock: a monotonic reading stands still while a machine sleeps.
func (c *clock) ours() time.Time { return c.now().Round(0).UTC() }

// service is our clock plus what was learned.
func (c *clock) service() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ours().Add(c.offset)
}

// learn takes the Date of an answer that came between two readings of our clock. A Date is cut to the second and was
// taken somewhere between sending and receiving; as long as the present offset could be true within that doubt it
// stays, so that the clock does not jitter backwards.
func (c *clock) learn(date, sent, received time.Time) {
	if date.IsZero() || received.Before(sent) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	least := date.Sub(received)
	most := date.Add(time.Second).Sub(sent)
	if c.offset >= least && c.offset <= most {
		return
	}
	c.offset = least + (most-least)/2
}

// dateOf reads the Date header; zero if there is none, it cannot be read, or it is absurd.
func dateOf(h http.Header) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil || date.Year() < 2020 || date.Year() > 2199 {
		return time.Time{}
	}
	return date.UTC()
}
