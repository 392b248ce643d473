package natsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
)

// ConnectOptions describe how to reach a NATS cluster. Only URL is required.
type ConnectOptions struct {
	URL            string // one or several by comma, as in nats://host:4222 or tls://host:4222
	Creds          string // file of user credentials
	User, Password string
	CA             string // file of the certificate authority that the server's certificate must come from
	Cert, Key      string // files of the client's own certificate
	Name           string // of the connection, as the server shows it
	InboxPrefix    string // prefix of the subjects that answers are received on; default _INBOX, which every user with the right to it can subscribe to

	Wait bool         // retry the first connection until ctx ends, instead of returning its error
	Log  *slog.Logger // default: silent
}

// firstTries is how long Connect tries without Wait: a server that is just starting is not an error.
const firstTries = 3 * time.Second

// syncQueue is how many messages a subscription of a puller can hold: more than it ever requests at once. The client's
// default takes half a megabyte for each subscription.
const syncQueue = 4096

// Conn is a connection to NATS.
type Conn = nats.Conn

// ErrNotAuthorized reports that the server knows no such user.
var ErrNotAuthorized = errors.New("the server refuses the user")

// Connect connects to NATS. Once made, the connection reconnects without limit until it is closed; each loss and each
// reconnect is one line in the log. Connect blocks until there is a connection. With Wait only the end of ctx stops it,
// but faults in the options are always returned. The error is a *DeniedError if the user may not subscribe to its
// inbox, on which answers are received. No credential appears in an error or the log.
func Connect(ctx context.Context, o ConnectOptions) (*Conn, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if err := o.check(); err != nil {
		return nil, err
	}
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 100*time.Millisecond, 10*time.Second
	logged := false
	opts := []backoff.RetryOption{backoff.WithBackOff(b), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, _ time.Duration) {
		if o.Wait && !logged {
			logged = true
			o.Log.WarnContext(ctx, "cannot connect to NATS, retrying", "url", Masked(o.URL), "error", err)
		}
	})}
	if !o.Wait {
		opts = append(opts, backoff.WithMaxElapsedTime(firstTries))
	}
	nc, err := backoff.Retry(ctx, func() (*nats.Conn, error) {
		nc, err := nats.Connect(o.URL, o.options()...)
		if err == nil {
			denied := checkInbox(nc)
			if denied == nil {
				return nc, nil
			}
			nc.Close()
			if o.Wait { // the operator may still grant the right
				return nil, denied
			}
			return nil, backoff.Permanent(denied)
		}
		masked := errors.New(o.mask(err.Error())) // not wrapped: the text of the original error may contain credentials
		if errors.Is(err, nats.ErrAuthorization) {
			masked = fmt.Errorf("%w (%w)", ErrNotAuthorized, masked)
		}
		if !o.Wait && !errors.Is(err, nats.ErrNoServers) {
			return nil, backoff.Permanent(masked)
		}
		return nil, masked
	}, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", Masked(o.URL), err)
	}
	o.Log.InfoContext(ctx, "connected to NATS", "url", nc.ConnectedUrlRedacted(), "server_version", nc.ConnectedServerVersion())
	return nc, nil
}

func (o ConnectOptions) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.URL == "" {
		fault("NATS_URL must be given")
	}
	for u := range strings.SplitSeq(o.URL, ",") {
		whole := strings.TrimSpace(u)
		if !strings.Contains(whole, "://") {
			whole = "nats://" + whole
		}
		if p, err := url.Parse(whole); o.URL != "" && (err != nil || p.Host == "") {
			fault("NATS_URL must be like nats://host:4222; got %s", Masked(u))
		}
	}
	if o.Creds != "" && o.User != "" {
		fault("NATS_CREDS and NATS_USER are two kinds of credentials: give one")
	}
	if (o.User == "") != (o.Password == "") {
		fault("NATS_USER and NATS_PASSWORD must be given together")
	}
	if (o.Cert == "") != (o.Key == "") {
		fault("NATS_CERT and NATS_KEY must be given together")
	}
	// The files are read here once, so that a fault is reported at the start and with the name of its variable.
	for _, f := range []struct {
		name, file string
		option     nats.Option
	}{{"NATS_CREDS", o.Creds, nats.UserCredentials(o.Creds)}, {"NATS_CA", o.CA, nats.RootCAs(o.CA)}, {"NATS_CERT", o.Cert, nats.ClientCert(o.Cert, o.Key)}} {
		if f.file == "" {
			continue
		}
		var try nats.Options
		err := f.option(&try)
		if err == nil && try.RootCAsCB != nil {
			_, err = try.RootCAsCB()
		}
		if err == nil && try.TLSCertCB != nil {
			_, err = try.TLSCertCB()
		}
		if err == nil && try.UserJWT != nil {
			_, err = try.UserJWT()
		}
		if err != nil {
			fault("read %s: %w", f.name, err)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("connect to NATS: %w", errors.Join(faults...))
	}
	return nil
}

func (o ConnectOptions) options() []nats.Option {
	reported := &lastReported{}
	opts := append(logged(o.Log, o.mask),
		nats.Name(o.Name),
		nats.Timeout(5*time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500*time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, 2*time.Second),
		nats.IgnoreAuthErrorAbort(), // a worker outlives a mistake in the server's accounts
		nats.PingInterval(20*time.Second),
		nats.SyncQueueLen(syncQueue),
		nats.MaxPingsOutstanding(2),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			log := o.Log
			if sub != nil {
				log = log.With("subject", sub.Subject)
			}
			if text := o.mask(err.Error()); reported.first(text) {
				log.Error("NATS reports an error", "error", text)
			}
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			if err := nc.LastError(); err != nil {
				o.Log.Warn("connection to NATS closed", "error", o.mask(err.Error()))
			} else {
				o.Log.Debug("connection to NATS closed")
			}
		}),
	)
	if o.Creds != "" {
		opts = append(opts, nats.UserCredentials(o.Creds))
	}
	if o.InboxPrefix != "" {
		opts = append(opts, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	if o.User != "" {
		opts = append(opts, nats.UserInfo(o.User, o.Password))
	}
	if o.CA != "" {
		opts = append(opts, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		opts = append(opts, nats.ClientCert(o.Cert, o.Key))
	}
	return opts
}

// Logged returns options for a connection that is not made by Connect: it logs each loss and each reconnect.
func Logged(log *slog.Logger) []nats.Option {
	return logged(log, func(text string) string { return text })
}

// logged logs a loss and the reconnect at the same level, so that a reader of the log who sees the first sees the
// second.
func logged(log *slog.Logger, mask func(string) string) []nats.Option {
	var mu sync.Mutex
	var lost time.Time
	return []nats.Option{
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err == nil { // closed by this process
				return
			}
			mu.Lock()
			lost = time.Now()
			mu.Unlock()
			log.Warn("connection to NATS lost, reconnecting", "error", mask(err.Error()))
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			mu.Lock()
			gone := time.Since(lost).Round(time.Millisecond)
			mu.Unlock()
			log.Warn("connection to NATS restored", "url", nc.ConnectedUrlRedacted(), "lost_for", gone)
		}),
	}
}

// lastReported limits an error that repeats with every attempt to reconnect to one log line per minute.
type lastReported struct {
	mu   sync.Mutex
	text string
	at   time.Time
}

func (t *lastReported) first(text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text == text && time.Since(t.at) < time.Minute {
		return false
	}
	t.text, t.at = text, time.Now()
	return true
}

// mask removes credentials from a text.
func (o ConnectOptions) mask(text string) string {
	if o.Password != "" {
		text = strings.ReplaceAll(text, o.Password, "***")
	}
	for u := range strings.SplitSeq(o.URL, ",") {
		if i := strings.LastIndexByte(u, '@'); i >= 0 {
			user := u[:i]
			if _, after, ok := strings.Cut(user, "//"); ok {
				user = after
			}
			if user != "" {
				text = strings.ReplaceAll(text, user+"@", "***@")
			}
			if _, password, ok := strings.Cut(user, ":"); ok && password != "" {
				text = strings.ReplaceAll(text, password, "***")
			}
		}
	}
	return text
}

// Masked is a list of URLs without user names, passwords and tokens.
func Masked(urls string) string {
	var out []string
	for u := range strings.SplitSeq(urls, ",") {
		if i := strings.LastIndexByte(u, '@'); i >= 0 {
			scheme := ""
			if before, _, ok := strings.Cut(u[:i], "//"); ok {
				scheme = before + "//"
			}
			u = scheme + "***@" + u[i+1:]
		}
		out = append(out, u)
	}
	return strings.Join(out, ",")
}
