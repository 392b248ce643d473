package workspace

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How a bucket reacts to throttling: each 429 or 503 halves its rate, down to a tenth; successful answers raise it
// from there to the full rate in recoverWithin. A Retry-After pauses it, for longestPause at most.
const (
	slowest       = 0.1
	recoverWithin = 10 * time.Minute
	longestPause  = 15 * time.Minute
)

// How long a call may wait for the rate limit. No other worker can process a message while this one holds it, so a
// longer wait becomes a redelivery. A write may wait longer, because after a redelivery its reads would have to be
// repeated.
const (
	readWait  = 5 * time.Second
	writeWait = 15 * time.Second
)

// ErrLimited is in the chain of an [Error] of class [NotSent] whose call was held back by the client's own rate limit.
// RetryAfter is the time until the call could be sent.
var ErrLimited = errors.New("the rate limit of this client leaves no room")

// Limit is the state of one rate limit of a client.
type Limit struct {
	Calls       string    // reads (GET) or writes (POST, check-images among them)
	Unlimited   bool      // then there is no rate, only pauses
	Configured  float64   // calls a minute
	PerMinute   float64   // the rate after throttling
	Level       float64   // PerMinute as a share of Configured: 0.1 to 1
	Tokens      float64   // calls that may be sent at once; below zero, calls are waiting
	PausedUntil time.Time // as requested by Retry-After; zero if there was none, or it is over
	Throttled   uint64    // answers 429 and 503 so far
	Status      int       // of the answer that paused it, or else slowed it last: 429 or 503; zero if there was none
	HeldBack    uint64    // calls so far that were not sent because the wait was too long
}

// Limits returns the state of the rate limits: that of reads, then that of writes.
func (c *Client) Limits() []Limit { return []Limit{c.reads.limit(), c.posts.limit()} }

// ReadsLeft reports whether the rate limit lets a read go at once. If not, a caller whose read can wait leaves the limit
// to others.
func (c *Client) ReadsLeft() bool { return c.reads.free() }

// bucket limits calls to a rate per minute. The service throttles by user: 200 reads and 100 writes a minute according
// to its documentation.
type bucket struct {
	calls     string
	perMinute float64 // negative: unlimited
	full      rate.Limit
	burst     int
	now       func() time.Time

	mu         sync.Mutex
	limiter    *rate.Limiter
	level      float64
	since      time.Time // until when successful answers have raised the level
	generation uint64    // counts the halvings
	paused     time.Time // nothing is sent before this
	promised   time.Time // until when retry times were given to calls that were held back
	throttled  uint64
	status     int // of the answer that paused it, or slowed it last
	heldBack   uint64
}

// newBucket allows a tenth of the rate at once and spreads the rest, so that no minute has more than perMinute calls.
// A negative rate is unlimited.
func newBucket(calls string, perMinute float64, now func() time.Time) *bucket {
	b := &bucket{calls: calls, perMinute: perMinute, full: rate.Inf, burst: 1, now: now, level: 1}
	if perMinute >= 0 {
		b.burst = max(1, int(perMinute/10))
		refill := perMinute - float64(b.burst)
		if b.burst == 1 {
			refill = perMinute
		}
		b.full = rate.Limit(refill / 60)
	}
	b.limiter = rate.NewLimiter(b.full, b.burst)
	return b
}

// wait blocks until a call may be sent, or ctx ends. If it would take longer than most, or than ctx lasts, it does not
// wait: the *Error has the time in RetryAfter. Pass the generation to slow if the call is throttled.
func (b *bucket) wait(ctx context.Context, most time.Duration) (generation uint64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		most = min(most, time.Until(deadline))
	}
	turn, delay, generation, err := b.reserve(most)
	if err != nil || delay <= 0 {
		return generation, err
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return generation, nil
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		turn.CancelAt(b.now())
		return 0, fmt.Errorf("wait for the rate limit: %w", ctx.Err())
	}
}

// atLeastATurn is how long a call may wait that may wait for most: at least for the next turn of all. Else a caller that makes
// several calls would begin anew each time where turns are rarer, as in a function on AWS, whose sandboxes share its rate.
func (b *bucket) atLeastATurn(most time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if limit := b.limiter.Limit(); limit != rate.Inf && limit > 0 {
		most = max(most, time.Duration(1.1*float64(time.Second)/float64(limit))) // a tenth more than exactly that
	}
	return most
}

// clock returns the time of now. If the clock was set back, it moves the stored times back to possible values.
func (b *bucket) clock() time.Time {
	now := b.now()
	for _, t := range []*time.Time{&b.paused, &b.promised, &b.since} {
		if most := now.Add(longestPause); t.After(most) {
			*t = most
		}
	}
	return now
}

// reserve takes a turn that is at most this far off.
func (b *bucket) reserve(most time.Duration) (*rate.Reservation, time.Duration, uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	turn := b.limiter.ReserveN(now, 1)
	delay := max(turn.DelayFrom(now), b.paused.Sub(now))
	if delay <= most || delay <= 0 {
		return turn, delay, b.generation, nil
	}
	turn.CancelAt(now)
	return nil, 0, 0, b.holdBack(now, delay)
}

// check returns the error of reserve where a turn is further off than most, and takes none.
func (b *bucket) check(most time.Duration) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	delay := b.paused.Sub(now)
	if interval := b.limiter.Limit(); interval != rate.Inf && interval > 0 {
		delay = max(delay, time.Duration((1-b.limiter.TokensAt(now))/float64(interval)*float64(time.Second)))
	}
	if delay <= most {
		return nil
	}
	return b.holdBack(now, delay)
}

// free reports whether a call would go at once.
func (b *bucket) free() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	return !b.paused.After(now) && (b.limiter.Limit() == rate.Inf || b.limiter.TokensAt(now) >= 1)
}

// holdBack is the error of a call whose turn is so far off.
func (b *bucket) holdBack(now time.Time, delay time.Duration) error {
	b.heldBack++
	at := now.Add(delay)
	if b.promised.After(at) { // each call gets a retry time of its own, or all would come back together
		at = b.promised
	}
	if interval := b.limiter.Limit(); interval != rate.Inf && interval > 0 {
		b.promised = at.Add(time.Duration(float64(time.Second) / float64(interval)))
	}
	after := min(at.Sub(now), longestPause)
	return &Error{Class: NotSent, RetryAfter: after, Err: fmt.Errorf("%w for %v", ErrLimited, after.Round(time.Millisecond))}
}

// slow records a 429 or 503 with this Retry-After. Of the calls that were in flight at the
// same time, only the first one halves the rate: the others carry no new information.
func (b *bucket) slow(generation uint64, status int, retryAfter time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	b.throttled++
	if !b.paused.After(now) {
		b.status = status
	}
	if until := now.Add(min(retryAfter, longestPause)); retryAfter > 0 && until.After(b.paused) {
		b.paused, b.status = until, status
	}
	if b.since = now; b.paused.After(now) {
		b.since = b.paused
	}
	if b.full == rate.Inf || generation != b.generation {
		return
	}
	b.generation++
	b.setLevel(now, max(b.level/2, slowest))
	if saved := int(b.limiter.TokensAt(now)); saved > 0 {
		b.limiter.AllowN(now, saved)
	}
}

// good reacts to any answer that is not throttling: the level rises by the time since it last rose.
func (b *bucket) good() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	if past := now.Sub(b.since); b.level < 1 && past > 0 {
		b.setLevel(now, min(1, b.level+(1-slowest)*float64(past)/float64(recoverWithin)))
		b.since = now
	}
}

func (b *bucket) setLevel(now time.Time, level float64) {
	if level > 1-1e-9 {
		level = 1
	}
	b.level = level
	b.limiter.SetLimitAt(now, b.full*rate.Limit(level))
	b.limiter.SetBurstAt(now, max(1, int(float64(b.burst)*level)))
}

func (b *bucket) limit() Limit {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	l := Limit{Calls: b.calls, Unlimited: b.full == rate.Inf, Level: b.level, Throttled: b.throttled, Status: b.status, HeldBack: b.heldBack}
	if !l.Unlimited {
		l.Configured, l.PerMinute, l.Tokens = b.perMinute, b.perMinute*b.level, b.limiter.TokensAt(now)
	}
	if b.paused.After(now) {
		l.PausedUntil = b.paused
	}
	return l
}
