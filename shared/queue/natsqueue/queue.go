package natsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"

	"recompose/events"
	"recompose/shared/queue"
)

// Options of a Queue. The zero value works.
type Options struct {
	Deployment string // prefix of all names: at most 32 of a-z, 0-9 and -
	Replicas   int    // of every stream; zero: three in a cluster, one otherwise; existing streams keep theirs
	Verify     bool   // Setup only checks, and changes nothing

	Concurrency int             // messages handled at a time, for each function and stream; zero: one
	Redeliver   []time.Duration // waits before a failed message is redelivered, by delivery; the last one repeats; default 1s, 5s, 15s, 30s, 60s
	AckWait     time.Duration   // after it a message of a dead worker is delivered to another; zero: 30s
	Late        time.Duration   // a worker moves a timer that is this late; zero: 30s
	SweepEvery  time.Duration   // how often a worker looks for late timers; zero: 1 minute
	Grace       time.Duration   // time for handlers to finish when the worker stops; zero: 45s

	Log     *slog.Logger     // default: silent
	Now     func() time.Time // this machine's clock; default: time.Now. Timers follow the server's clock
	Observe func(Handled)    // called for every message after it was acknowledged or returned; must not block
	OnLate  func()           // called for every late timer that this worker moved; must not block

	Worker string                                     // name of this worker in its answers to status requests
	Status func(ctx context.Context, s *WorkerStatus) // completes the answer to a status request

	// Stamp returns the headers that describe the ledger at this moment, for everything that functions publish; nil:
	// none.
	Stamp func() map[string]string

	// Key decides whether messages may be handled. It is checked before each message, and every CheckEvery while the
	// worker is stopped, but not before Run. Without a Key, a function that stops the worker ends Run. CheckEvery is
	// 1 second unless set.
	Key        queue.Key
	CheckEvery time.Duration
}

// Handled is the result of one delivery.
type Handled struct {
	Function string
	Delivery int           // of this message, from 1
	Took     time.Duration // handling and storing
	Verdict  string        // ack, delay, dead, retry, or unstored: the result could not be stored

	Events []events.Envelope // events that were stored; must not be changed
	Dead   string            // class of the dead letter that was stored; "" without one
}

// Queue has the streams of one deployment. Its methods may be called concurrently.
type Queue struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	o     Options
	names names
	log   *slog.Logger

	mu    sync.Mutex
	known map[string]queue.Function // the functions whose streams and consumers are created anew if they are deleted
	runs  int
	beats map[*puller]time.Time // when each loop last completed a round

	stopped  *stopped
	clock    *clock
	waits    waits
	storeFor time.Duration

	repair singleflight.Group // one loop repairs for all
}

// ErrNotSetUp reports that the streams do not exist.
var ErrNotSetUp = errors.New("the streams of recompose do not exist: run recompose setup")

// ErrFull reports that the entrance has reached its limit. The message was not stored.
var ErrFull = errors.New("the entrance is full because the workers are behind; retry later")

// ErrNotSent reports that a command was certainly not stored.
var ErrNotSent = errors.New("the command was not stored")

// New makes a queue on a connection, which must be connected and stays the caller's. The error names the version of a
// server older than 2.12, and is a *NoJetStreamError for a server without JetStream.
func New(nc *nats.Conn, o Options) (*Queue, error) {
	n, err := newNames(o.Deployment)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(nc.ConnectedServerVersion()); err != nil {
		return nil, err
	}
	if err := checkJetStream(nc, n); err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(publishWithin), jetstream.WithDefaultTimeout(publishWithin))
	if err != nil {
		return nil, fmt.Errorf("use JetStream: %w", err)
	}
	o.setDefaults()
	return &Queue{
		nc: nc, js: js, o: o, names: n, log: o.Log, known: map[string]queue.Function{}, beats: map[*puller]time.Time{},
		stopped: &stopped{log: o.Log, now: o.Now, key: o.Key, begun: make(chan struct{}, 1)},
		clock:   &clock{ours: o.Now}, waits: waits{of: map[string]wait{}}, storeFor: storeFor,
	}, nil
}

func (o *Options) setDefaults() {
	o.Concurrency = max(o.Concurrency, 1)
	if len(o.Redeliver) == 0 {
		o.Redeliver = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute}
	}
	o.AckWait, o.Late = cmp.Or(o.AckWait, 30*time.Second), cmp.Or(o.Late, 30*time.Second)
	o.SweepEvery, o.CheckEvery = cmp.Or(o.SweepEvery, time.Minute), cmp.Or(o.CheckEvery, checkEvery)
	o.Grace = cmp.Or(o.Grace, 45*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Observe == nil {
		o.Observe = func(Handled) {}
	}
	if o.Status == nil {
		o.Status = func(context.Context, *WorkerStatus) {}
	}
	if o.Stamp == nil {
		o.Stamp = func() map[string]string { return nil }
	}
	if o.OnLate == nil {
		o.OnLate = func() {}
	}
}

var versionForm = regexp.MustCompile(`^v?(\d+)\.(\d+)`)

// checkVersion returns an error for servers that cannot delay messages.
func checkVersion(v string) error {
	m := versionForm.FindStringSubmatch(v)
	if m == nil {
		return fmt.Errorf("%w (%q)", errNoVersion, v)
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	if major < 2 || (major == 2 && minor < 12) {
		return fmt.Errorf("the NATS server is version %s, and recompose needs 2.12 or later: older ones cannot delay messages", v)
	}
	return nil
}

// Receipt is the acknowledgement of a command by the entrance.
type Receipt struct {
	Stream    string
	Seq       uint64
	Duplicate bool // a message with the same id and data was stored within the last two minutes; this one was not stored
}

// Send stores a command at the entrance and blocks until it is stored. It may be repeated with the same envelope:
// within two minutes the second message is dropped, and after that it has no second effect. The same id with other
// data is always stored.
//
// The error is ErrNotSent by errors.Is if the command was certainly not stored, with the reason: ErrFull,
// ErrNotSetUp, a *DeniedError, or a fault of the command. After any other error it is not known whether it was
// stored.
func (q *Queue) Send(ctx context.Context, e events.Envelope) (Receipt, error) {
	notSent := func(err error) (Receipt, error) { return Receipt{}, fmt.Errorf("send: %w: %w", ErrNotSent, err) }
	if !events.IsCommand(e.Type) || !publishable(e.Type) {
		return notSent(fmt.Errorf("%q is not the type of a command", e.Type))
	}
	if e.ID == "" || e.Source == "" {
		return notSent(errors.New("a command needs an id and a source"))
	}
	id := e.ID
	if digest := e.Digest(); digest != "" {
		id += "/" + digest[:16]
	}
	m, err := message(q.names.subject(e.Type), e, id)
	if err != nil {
		return notSent(err)
	}
	if len(m.Data) > events.MaxMessage {
		return notSent(fmt.Errorf("a message may have at most %d bytes; this one has %d", events.MaxMessage, len(m.Data)))
	}
	if denied := inboxDenied(q.nc); denied != nil { // the acknowledgement could not be received, so it would not be known whether the command was stored
		return notSent(denied)
	}
	ack, err := q.js.PublishMsg(ctx, m, jetstream.WithExpectStream(q.names.commands()))
	if err != nil {
		return Receipt{}, fmt.Errorf("send %s: %w", e.Type, q.refused(ctx, m.Subject, err))
	}
	return Receipt{Stream: ack.Stream, Seq: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// refused returns why the entrance did not accept a message. A missing response of a stream may mean that the stream
// does not exist, or that a cluster is electing its leader.
func (q *Queue) refused(ctx context.Context, subject string, err error) error {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		if api.ErrorCode == codeStoreFailed {
			return fmt.Errorf("%w: %w (%w)", ErrNotSent, ErrFull, err)
		}
		return fmt.Errorf("%w: %w", ErrNotSent, q.explain(err))
	}
	if denied := inboxDenied(q.nc); denied != nil { // only the acknowledgement was refused, not the command
		return fmt.Errorf("it is not known whether the command was stored: %w", denied)
	}
	if denied := q.denied(subject); denied != nil {
		return fmt.Errorf("%w: %w", ErrNotSent, denied)
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: %w", ErrNotSent, q.explain(err))
	}
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return q.explain(err)
	}
	s, look := q.js.Stream(ctx, q.names.commands())
	switch {
	case errors.Is(look, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w: %w (%w)", ErrNotSent, ErrNotSetUp, err)
	case errors.Is(look, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("%w: %w", ErrNotSent, q.explain(look))
	case look == nil && !covers(s.CachedInfo().Config.Subjects, subject):
		return fmt.Errorf("%w: %w (stream %s does not take %s)", ErrNotSent, ErrNotSetUp, q.names.commands(), subject)
	default:
		return fmt.Errorf("%w: stream %s does not respond now; retry later: %w", ErrNotSent, q.names.commands(), err)
	}
}

// covers reports whether a subject matches one of filters, which end in ">".
func covers(filters []string, subject string) bool {
	return slices.ContainsFunc(filters, func(f string) bool {
		under, ok := strings.CutSuffix(f, ">")
		return f == subject || (ok && strings.HasPrefix(subject, under))
	})
}

// Codes of the server's errors for which the client has no constant.
const (
	codeStoreFailed = 10077 // "maximum messages exceeded" and the like
	codeNotMatch    = 10060 // the subject belongs to another stream
)

// explain adds to an error of publishing what an operator can do about it.
func (q *Queue) explain(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w (%w)", ErrNotSetUp, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("the NATS account of this user has no JetStream: set jetstream: enabled in the account: %w", err)
	case ok && api.ErrorCode == codeNotMatch:
		return fmt.Errorf("the subject belongs to a stream that is not recompose's: %w", err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("the server takes at most %d bytes a message: %w", q.nc.MaxPayload(), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("no answer, so it is not known whether it was stored; sending the same message once more is safe: %w", err)
	}
	return err
}
