package workspace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// defaultTimeout is the default of [Options].Timeout.
const defaultTimeout = 30 * time.Second

const maxPerMinute = 1_000_000

// Options are the settings of a [Client]. Endpoint, ProjectID, Auth, both limits and SignatureWindow are required;
// every other zero value is a default. Printing it shows no secret, because every [Auth] hides its own.
type Options struct {
	// Endpoint is the scheme and host of the service, such as https://workspace.cn-north-4.myhuaweicloud.com. Plain http
	// is accepted on loopback only.
	Endpoint string
	// ProjectID is the project of every call; 32 hexadecimal digits in practice.
	ProjectID string
	// Auth is an [AKSK], a [Token], or the result of [NewLogin] or [NewAgency].
	Auth Auth
	// Concurrency is how many idle connections are kept for reads; default 1. Each write gets a connection of its own: a
	// write on a connection that the service is closing would have an unknown outcome.
	Concurrency int
	// ReadsPerMinute limits GET calls; WritesPerMinute limits POST calls, check-images among them. The service documents
	// limits of 200 and 100 for each user; a negative number is unlimited. A tenth of the rate may be sent at once. Each
	// 429 or 503 halves the rate, and some minutes of successful answers restore it; see [Client.Limits].
	ReadsPerMinute, WritesPerMinute float64
	// SignatureWindow is the age at which the service refuses a signature: 15 minutes. A write is not sent if its
	// signing date differs from [Client.ServiceNow] by more than this.
	SignatureWindow time.Duration
	// Timeout limits one attempt of a read, and a write whose context has no deadline; default 30 s. Waiting for the
	// rate limit does not count.
	Timeout time.Duration
	// Transport sends the requests. The default is an http.Transport of its own: HTTP/1.1, TLS 1.2 or later, and the
	// proxy of HTTPS_PROXY and NO_PROXY, but no proxy to loopback. A custom Transport must not retry a request whose
	// body it has begun to read.
	Transport http.RoundTripper
	// Now is the wall clock; default time.Now. It is read before and after each attempt.
	Now func() time.Time
	// OnCall, if set, is called after each HTTP attempt. It runs in the goroutine of the call and must be safe for
	// concurrent use.
	OnCall func(CallInfo)
	// OnReach, if set, gets the first error when the service stops answering, and nil when it answers. It must not
	// call the client.
	OnReach func(error)
}

// CallInfo describes one HTTP attempt. It holds nothing of a request or an answer but its status.
type CallInfo struct {
	Operation string
	// Status is 0 without an answer.
	Status   int
	Duration time.Duration
}

// Client makes the calls. It is safe for concurrent use. A process should have one, because the rate limits belong to
// the client.
type Client struct {
	endpoint  *url.URL
	projectID string
	auth      Auth
	window    time.Duration
	timeout   time.Duration
	reads     *bucket
	posts     *bucket
	clock     clock
	refusals  *refusals
	turns     turns
	reach     reach
	keeping   http.RoundTripper // for reads
	single    http.RoundTripper // for writes
	onCall    func(CallInfo)
}

// New checks the settings, reports all errors at once (errors.Join), and sends nothing.
func New(cfg Options) (*Client, error) {
	endpoint, err := parseEndpoint(cfg.Endpoint)
	errs := []error{err, CheckID("project id", cfg.ProjectID)}
	switch checked, ok := cfg.Auth.(interface{ check() error }); {
	case cfg.Auth == nil:
		errs = append(errs, errors.New("no credentials: give an AKSK, a Token, a login or an agency"))
	case ok:
		errs = append(errs, checked.check())
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"concurrency", int64(cfg.Concurrency)}, {"timeout", int64(cfg.Timeout)},
	} {
		if f.value < 0 {
			errs = append(errs, fmt.Errorf("%s is negative: give a positive one, or 0 for the default", f.name))
		}
	}
	if cfg.SignatureWindow <= 0 {
		errs = append(errs, fmt.Errorf("signature window %v: give a positive one", cfg.SignatureWindow))
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"reads", cfg.ReadsPerMinute}, {"writes", cfg.WritesPerMinute}} {
		if math.IsNaN(f.value) || f.value == 0 || f.value > maxPerMinute {
			errs = append(errs, fmt.Errorf("%s per minute %v: give more than 0 and at most %d, or a negative number for no limit",
				f.name, f.value, maxPerMinute))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("workspace client: %w", err)
	}
	c := &Client{
		endpoint: endpoint, projectID: cfg.ProjectID, auth: cfg.Auth,
		window: cfg.SignatureWindow, timeout: cmp.Or(cfg.Timeout, defaultTimeout),
		keeping: cfg.Transport, single: cfg.Transport, onCall: cfg.OnCall,
	}
	c.clock.follow(cfg.Now)
	c.reads = newBucket("reads", cfg.ReadsPerMinute, c.clock.ours)
	c.posts = newBucket("writes", cfg.WritesPerMinute, c.clock.ours)
	c.refusals = newRefusals(&c.clock)
	c.reach = reach{clock: &c.clock, report: cfg.OnReach}
	if cfg.Transport == nil {
		c.keeping = newTransport(max(cfg.Concurrency, 1))
		c.single = newTransport(0)
	}
	return c, nil
}

// ProjectID returns the project of every call.
func (c *Client) ProjectID() string { return c.projectID }

// SignaturesExpire reports whether the proof of the client's calls expires with its age, as a signature does and a
// token does not. Only then is it certain, after SignatureWindow, that the service will not execute a write.
func (c *Client) SignaturesExpire() bool { return c.auth.Dated() }

// ServiceNow returns the service's clock: ours, corrected by the Date headers of its answers. Before the first answer
// it is our clock. It ignores differences below the precision of a Date header (a second and the time in transit), so
// it does not jitter. It steps, backwards too, when an answer shows that it was wrong. It continues when our wall
// clock is set back.
func (c *Client) ServiceNow() time.Time { return c.clock.service() }

// ServiceClock returns ServiceNow, and whether an answer has shown the service's clock to this client.
func (c *Client) ServiceClock() (now time.Time, known bool) { return c.clock.read() }

// Skew returns how far the service's clock is ahead of ours; 0 before the first answer.
func (c *Client) Skew() time.Duration {
	now, known := c.clock.read()
	if !known {
		return 0
	}
	return now.Sub(c.clock.ours())
}

// String names only the endpoint and the project.
func (c *Client) String() string {
	return "workspace.Client{" + c.endpoint.String() + ", project " + c.projectID + "}"
}

// Format prints String for every verb.
func (c *Client) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) }

// LogValue is String.
func (c *Client) LogValue() slog.Value { return slog.StringValue(c.String()) }

// parseEndpoint accepts a scheme and a host, nothing else; http on loopback only.
func parseEndpoint(endpoint string) (*url.URL, error) {
	const way = "give one such as https://workspace.cn-north-4.myhuaweicloud.com"
	if endpoint == "" {
		return nil, errors.New("endpoint is empty: " + way)
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		// The parser's error would repeat the URL, which may hold a password.
		return nil, errors.New("endpoint is not a URL: " + way)
	case u.User != nil:
		return nil, errors.New("endpoint holds a user name or password: give credentials as Auth")
	case u.Hostname() == "" || u.Opaque != "":
		return nil, fmt.Errorf("endpoint %q has no host: %s", endpoint, way)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, fmt.Errorf("endpoint %q has more than scheme and host: %s", endpoint, way)
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, fmt.Errorf("endpoint %q is plain http and not on loopback: use https", endpoint)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("endpoint %q has the scheme %q: use https", endpoint, u.Scheme)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// withoutUser removes a password from an endpoint that is to be printed.
func withoutUser(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return masked
	}
	if u.User != nil {
		u.User = url.User(masked)
	}
	return u.String()
}

// callContext bounds one attempt: a read always, a write only if its caller set no deadline.
func (c *Client) callContext(ctx context.Context, write bool) (context.Context, context.CancelFunc) {
	if _, bounded := ctx.Deadline(); write && bounded {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.timeout)
}
