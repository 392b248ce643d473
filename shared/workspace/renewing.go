package workspace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	nearEnd       = 10 * time.Second // a proof that ends sooner could end in transit
	renewAtMost   = time.Minute      // between two attempts to renew a proof that is still good
	fetchPause    = 2 * time.Second  // after a fetch that failed, while there is no proof
	refusedLately = 5 * time.Minute  // two proofs refused within this time stop the calls
)

// source issues proofs: a login, or the metadata of a server.
type source interface {
	// fetch gets a fresh proof. Its error is an [*Error].
	fetch(ctx context.Context) (*proof, error)
	// renewAt is how much of a life of this length remains when a fresh proof is due.
	renewAt(life time.Duration) time.Duration
	dated() bool
	// redact masks the source's own secrets in a text.
	redact(text string) string
	// digest is equal for sources that issue the same proofs.
	digest() string
	String() string
}

// proof is a [Token] or an [AKSK] that ends.
type proof struct {
	auth Auth
	life time.Duration // remaining at the moment got, by the clock of its issuer
	got  moment

	accepted bool // the service has accepted a request with it
}

// Renewer is an [Auth] whose proof ends and can be replaced by a fresh one. [Renewing] is the implementation.
type Renewer interface {
	Auth
	// Accepted records that the service has accepted the proof in these headers.
	Accepted(sent http.Header)
	// Refused records a 401 to a request with these headers, and reports whether a fresh proof is worth another attempt.
	Refused(sent http.Header) bool
	// Lasts returns how long the proof of the next request stays valid; it fetches a proof if there is none.
	Lasts(ctx context.Context) (time.Duration, error)
}

// Renewing is an [Auth] that fetches its proof, keeps it for all calls, and fetches a fresh one before its end. One
// fetch runs at a time. Printing it in any form shows no secret. See [NewLogin] and [NewAgency].
type Renewing struct {
	source source
	clock  *clock
	turn   chan struct{} // held by the one call that fetches

	mu      sync.Mutex
	current *proof // nil: none is kept
	last    *proof // the one before it; requests with it may still be in flight
	failure *Error // of the latest fetch
	tried   moment // when that was
	pause   time.Duration
	refused Auth // the proof that current or the next one replaces because of a 401
	renewed moment
	late    bool // renewed is set
}

func newRenewing(s source, c *clock) *Renewing {
	return &Renewing{source: s, clock: c, turn: make(chan struct{}, 1)}
}

// Apply puts the current proof on the request. It may block for a fetch, until ctx ends.
func (r *Renewing) Apply(ctx context.Context, request *http.Request, body []byte, at time.Time) error {
	p, err := r.get(ctx)
	if err != nil {
		return err
	}
	return p.auth.Apply(ctx, request, body, at)
}

// Dated is true for the keys of an agency, false for the token of a login.
func (r *Renewing) Dated() bool { return r.source.dated() }

// Lasts returns how long the current proof stays valid.
func (r *Renewing) Lasts(ctx context.Context) (time.Duration, error) {
	p, err := r.get(ctx)
	if err != nil {
		return 0, err
	}
	return r.left(p), nil
}

// get returns the proof to use now; it fetches one if there is none or a fresh one is due. While a valid proof
// remains, a failed fetch is no error, and no call waits for the fetch of another.
func (r *Renewing) get(ctx context.Context) (*proof, error) {
	p, due := r.kept()
	switch {
	case p != nil && !due:
		return p, nil
	case p != nil:
		select {
		case r.turn <- struct{}{}:
		default:
			return p, nil
		}
	default:
		select {
		case r.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, &Error{Class: NotSent, Err: fmt.Errorf("wait for %s: %w", r.source, ctx.Err())}
		}
	}
	defer func() { <-r.turn }()
	if p, due = r.kept(); p != nil && !due { // another call has fetched it
		return p, nil
	}
	fresh, err := r.fetch(ctx)
	if err != nil && p != nil && ClassOf(err) != Unauthorized {
		return p, nil // it is still valid, and a later call retries the fetch
	}
	return fresh, err
}

// kept returns the stored proof, nil if there is no valid one, and whether a fresh one is due.
func (r *Renewing) kept() (p *proof, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p = r.current
	if p == nil {
		return nil, true
	}
	left := r.left(p)
	if left <= min(nearEnd, p.life/10) {
		return nil, true
	}
	return p, left <= r.source.renewAt(p.life) && r.tried.until(r.clock.moment()) >= r.pause
}

func (r *Renewing) left(p *proof) time.Duration { return p.life - p.got.until(r.clock.moment()) }

// fetch fetches a proof and keeps it, unless a fetch failed a moment ago. The caller holds turn.
func (r *Renewing) fetch(ctx context.Context) (*proof, error) {
	if e := r.failed(); e != nil {
		return nil, e
	}
	now := r.clock.moment()
	p, err := r.source.fetch(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil { // else it does not concern other calls
			r.keepFailure(err, now)
		}
		return nil, err
	}
	r.failure, r.tried = nil, now
	r.pause = min(renewAtMost, p.life/10)
	if r.current != nil && p.auth == r.current.auth {
		p.accepted = r.current.accepted
	}
	r.last, r.current = r.current, p
	same := r.refused != nil && p.auth == r.refused
	r.refused = nil
	if same {
		return nil, &Error{Class: Unauthorized, Err: fmt.Errorf(
			"the service refuses the %s, and there are no others", r.source)}
	}
	return p, nil
}

// failed returns the failure of the latest fetch while it applies to all calls.
func (r *Renewing) failed() *Error {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.pause - r.tried.until(r.clock.moment())
	if r.failure == nil || left <= 0 {
		return nil
	}
	e := *r.failure
	if e.Class != Unauthorized {
		e.RetryAfter = left
	}
	return &e
}

func (r *Renewing) keepFailure(err error, now moment) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Class: NotSent, Err: err}
	}
	r.failure, r.tried = e, now
	if e.Class == Unauthorized { // using up the old proof would only delay the repair
		r.last, r.current = r.current, nil
	}
	pause := fetchPause
	if p := r.current; p != nil && r.left(p) > 0 {
		pause = min(renewAtMost, p.life/10)
	}
	r.pause = max(pause, min(e.RetryAfter, longestPause))
}

// Accepted records that the service accepts the proof in these headers.
func (r *Renewing) Accepted(sent http.Header) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != nil && r.current.on(sent) {
		r.current.accepted = true
	}
}

// Refused discards the proof in these headers if it is the current one. It reports that a fresh proof is worth another
// attempt if the service accepted this one before, and this one did not itself replace a refused one.
func (r *Renewing) Refused(sent http.Header) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil || !r.current.on(sent) {
		return true // it was replaced in the meantime
	}
	now := r.clock.moment()
	worth := r.current.accepted && (!r.late || r.renewed.until(now) >= refusedLately)
	if worth {
		r.refused, r.renewed, r.late = r.current.auth, now, true
	}
	r.last, r.current = r.current, nil
	return worth
}

// on reports whether a request carries this proof.
func (p *proof) on(sent http.Header) bool {
	switch a := p.auth.(type) {
	case Token:
		return sent.Get(headerAuthToken) == string(a)
	case AKSK:
		return sent.Get(headerSecurityToken) == a.SecurityToken
	}
	return false
}

// Redact masks the proofs, and the source's own secrets.
func (r *Renewing) Redact(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range []*proof{r.current, r.last} {
		if p == nil {
			continue
		}
		if redactor, ok := p.auth.(Redactor); ok {
			text = redactor.Redact(text)
		}
	}
	return r.source.redact(text)
}

// Digest identifies the credentials without showing them: it is equal wherever the same credentials are used.
func (r *Renewing) Digest() string { return r.source.digest() }

// String names the source of the proof.
func (r *Renewing) String() string { return r.source.String() }

// GoString is String.
func (r *Renewing) GoString() string { return r.String() }

// Format prints String for every verb.
func (r *Renewing) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue is String.
func (r *Renewing) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText is String.
func (r *Renewing) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// renews passes the result of a request to a, if a is a [Renewer]. It reports whether a fresh proof is worth another
// attempt.
func renews(a Auth, sent http.Header, failure *Error) bool {
	r, ok := a.(Renewer)
	if !ok || sent == nil {
		return false
	}
	switch {
	case failure == nil || proves(failure):
		r.Accepted(sent)
	case failure.Class == Unauthorized:
		return r.Refused(sent)
	}
	return false
}

// checkLife refuses a write whose signature would be valid for longer than the key that makes it. The service would
// refuse such a request, arriving late, for its key, and the client would take that for a refusal of all our keys.
func (c *Client) checkLife(ctx context.Context) error {
	r, ok := c.auth.(Renewer)
	if !ok || !r.Dated() {
		return nil
	}
	left, err := r.Lasts(ctx)
	if err != nil {
		return err
	}
	if left >= c.window {
		return nil
	}
	return &Error{Class: NotSent, RetryAfter: c.window / 8, Err: fmt.Errorf(
		"the %v end in %v, and a signature is good for %v: waiting for the next ones", r, left.Round(time.Second), c.window)}
}

// unproved builds the error of a call that was not sent because there was no proof. Class and RetryAfter of the error
// of IAM or the metadata are copied where they decide what to do next.
func unproved(k call, err error) *Error {
	e := &Error{Operation: k.operation, Class: NotSent, Err: fmt.Errorf("authorize request: %w", err)}
	cause, ok := errors.AsType[*Error](err)
	if !ok {
		return e
	}
	e.RetryAfter = cause.RetryAfter
	if cause.Class == Unauthorized || cause.Class == Throttled {
		e.Class = cause.Class
	}
	return e
}
