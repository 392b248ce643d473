package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// dateDoubt is the error of a Date header: it is cut to the second, and so is the signing date.
const dateDoubt = 2 * time.Second

// greatSkew is the least difference of a signing date for which a 401 is attributed to the clock.
const greatSkew = time.Minute

// call is one call of the API.
type call struct {
	operation string
	method    string
	path      []string // below /v2/{project_id}
	query     url.Values
	body      []byte
	write     bool
	signedAt  time.Time     // of a write
	patient   time.Duration // how long it may wait for the rate limit, if not as others
}

// do makes a call: rate limit, signature, one attempt, classification. A read is repeated once after a 401 if
// its Date shows that our clock was wrong, or if the token or key can be renewed. A write never is. Errors are of type
// *Error.
func (c *Client) do(ctx context.Context, k call) (answer, error) {
	for first := true; ; first = false {
		limit := c.reads
		if k.method != http.MethodGet {
			limit = c.posts
		}
		generation, waited := uint64(0), false
		if k.write {
			generation, waited = c.turns.take()
		}
		if !waited {
			var err error
			if generation, err = limit.wait(ctx, limit.atLeastATurn(k.patience())); err != nil {
				return answer{}, limited(k, err)
			}
		}
		at := k.signedAt
		if !k.write {
			at = c.ServiceNow()
		} else if err := c.checkAge(at); err != nil {
			return answer{}, &Error{Operation: k.operation, Class: NotSent, Err: err}
		}
		leave, refusal := c.refusals.enter(ctx, k)
		if refusal != nil {
			return answer{}, refusal
		}
		a, sent, failure := c.attempt(ctx, k, at)
		off := time.Duration(0) // how far the service's clock is ahead of the signature
		if failure != nil && c.auth.Dated() && !failure.Date.IsZero() {
			off = failure.Date.Sub(at)
		}
		skewed := off.Abs() > min(greatSkew, c.window-dateDoubt)
		renewed := !skewed && renews(c.auth, sent, failure)
		switch {
		case failure == nil || failure.Class != Unauthorized:
		case k.write && off.Abs() > c.window-dateDoubt:
			// The request arrived late and its signature had expired, or an answer had set our clock wrong: the 401 does not
			// concern our credentials.
			failure.Class, failure.Err = NotSent, outOfWindow(off)
		case k.write && renewed:
			failure.Class, failure.Err = NotSent, fmt.Errorf(
				"the service refuses a token or key of %v before its end; the next attempt uses a fresh one", c.auth)
		case first && !k.write && (skewed || renewed):
			leave(&Error{}) // our clock or this one proof is wrong, not our credentials
			continue
		}
		leave(failure)
		if failure == nil {
			limit.good()
			return a, nil
		}
		switch {
		case failure.Status == http.StatusTooManyRequests || failure.Status == http.StatusServiceUnavailable:
			limit.slow(generation, failure.Status, failure.RetryAfter)
		case failure.Status != 0 && failure.Status < 500:
			limit.good()
		}
		return answer{}, failure
	}
}

// outOfWindow is why the service refuses a signature if its clock is so far ahead of the signing date.
func outOfWindow(off time.Duration) error {
	if off < 0 {
		return fmt.Errorf("the signing date is %s ahead of the service's clock", -off)
	}
	return fmt.Errorf("signature expired before the request arrived (%s)", off)
}

// patience is how long the call may wait for the rate limit.
func (k call) patience() time.Duration {
	if k.patient > 0 {
		return k.patient
	}
	if k.write {
		return writeWait
	}
	return readWait
}

// limited builds the error of a call that the rate limit held back.
func limited(k call, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Operation = k.operation
		return e
	}
	return &Error{Operation: k.operation, Class: NotSent, Err: err}
}

// checkAge refuses a write whose signature the service would refuse: that refusal would count towards the lock of the
// key.
func (c *Client) checkAge(signedAt time.Time) error {
	if !c.auth.Dated() {
		return nil
	}
	if age := c.ServiceNow().Sub(signedAt); age.Abs() > c.window {
		return fmt.Errorf("the signing date %s is %s off the service's clock, and its window is %s: take a new date",
			signedAt.UTC().Format(time.RFC3339), age.Round(time.Second), c.window)
	}
	return nil
}

// attempt sends one HTTP request with these headers, and reads the whole answer.
func (c *Client) attempt(ctx context.Context, k call, at time.Time) (a answer, with http.Header, failure *Error) {
	bounded, cancel := c.callContext(ctx, k.write)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(bounded, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	body := newSealable(k.body)
	request := c.request(ctx, k, body)
	if err := c.authorize(bounded, k, request, at); err != nil { // bounded: the connections of a fetch are not those of the call
		if errors.Is(err, errNoAnswer) {
			c.reach.learn(err)
		}
		return answer{}, nil, unproved(k, err)
	}

	sent := c.clock.moment()
	info := CallInfo{Operation: k.operation}
	defer func() {
		if c.onCall == nil {
			return
		}
		info.Duration = sent.until(c.clock.moment())
		c.onCall(info)
	}()

	transport := c.keeping
	if k.write {
		transport = c.single
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		class := Lost
		if body != nil && body.seal() || body == nil && !connected.Load() {
			class = NotSent
		}
		err = fmt.Errorf("send request: %w", cause(ctx, err))
		c.reach.learn(err)
		return answer{}, nil, &Error{Operation: k.operation, Class: class, Err: err}
	}
	c.reach.learn(nil)
	defer func() { _ = response.Body.Close() }()

	date := dateOf(response.Header)
	c.clock.learn(date, sent, c.clock.moment())
	content, err := readBody(response)
	if err != nil {
		err = fmt.Errorf("read answer: %w", cause(ctx, err))
	} else if len(content) > maxAnswer {
		err = errTooLong
	}
	requestID := c.redact(requestIDOf(response.Header))
	info.Status = response.StatusCode
	if err == nil && response.StatusCode >= 200 && response.StatusCode <= 299 {
		a = answer{operation: k.operation, status: response.StatusCode, body: content, date: date, requestID: requestID}
		return a, request.Header, nil
	}
	failure = c.newError(k.operation, response.StatusCode, content, date, requestID, err)
	failure.Class = classOfStatus(response.StatusCode, failure.Code)
	if !k.write && aboutResource(response.StatusCode) && !isObject(content) {
		// The service refuses in JSON. An HTML page of a proxy or a gateway is no evidence about a desktop, such as that
		// it does not exist.
		failure.Class = BadAnswer
	}
	failure.RetryAfter = retryAfter(response.Header, date, c.ServiceNow())
	return answer{}, request.Header, failure
}

// readBody reads an answer, or as much of it as shows that it is too long.
func readBody(r *http.Response) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, min(max(r.ContentLength, 0), maxAnswer)+bytes.MinRead))
	_, err := b.ReadFrom(io.LimitReader(r.Body, maxAnswer+1))
	return b.Bytes(), err
}

// cause puts the context's error into err if the transport reports the end of the context in other words.
func cause(ctx context.Context, err error) error {
	if end := ctx.Err(); end != nil && !errors.Is(err, end) {
		return fmt.Errorf("%w: %w", end, err)
	}
	return err
}

// request builds the HTTP request. GetBody stays nil and there is no Idempotency-Key: either would allow net/http to
// send the request a second time.
func (c *Client) request(ctx context.Context, k call, body *sealable) *http.Request {
	u := *c.endpoint
	elements := append([]string{"", "v2", c.projectID}, k.path...)
	u.Path = strings.Join(elements, "/")
	for i, element := range elements {
		elements[i] = url.PathEscape(element)
	}
	if raw := strings.Join(elements, "/"); raw != u.Path {
		u.RawPath = raw
	}
	u.RawQuery = canonicalQuery(k.query)
	request := (&http.Request{
		Method: k.method, URL: &u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			// Content-Type is needed on GET too: without it calls failed in one region (Terraform #6673).
			"Content-Type": {"application/json"}, "User-Agent": {"recompose"}, "X-Language": {"en-us"}, "X-Project-Id": {c.projectID},
		},
	}).WithContext(ctx)
	if body != nil {
		request.Body, request.ContentLength = body, int64(len(k.body))
	}
	return request
}

// authorize puts the proof of the caller's identity on a request.
func (c *Client) authorize(ctx context.Context, k call, request *http.Request, at time.Time) error {
	if k.write {
		if err := c.checkLife(ctx); err != nil {
			return err
		}
	}
	return c.auth.Apply(ctx, request, k.body, at)
}
