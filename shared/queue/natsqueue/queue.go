package natsqueue

import (
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
	Deployment string // stands before all names: at most 32 of a-z, 0-9 and -
	Replicas   int    // of every stream; zero: three in a cluster, one otherwise, and streams that exist keep theirs
	Verify     bool   // Setup checks and changes nothing

	Concurrency int             // messages in hand at a time, for each function and stream; zero: one
	Redeliver   []time.Duration // waits before a failed message comes again, by delivery; the last holds on; default 1s, 5s, 15s, 30s, 60s
	AckWait     time.Duration   // after it a message of a dead worker goes to another; zero: 30s
	Late        time.Duration   // a timer so much past its time is moved by a worker; zero: 30s
	SweepEvery  time.Duration   // how often a worker looks for late timers; zero: 1 minute
	Grace       time.Duration   // for handlers when the worker stops; zero: 45s

	Log     *slog.Logger     // default: silent
	Now     func() time.Time // this machine's clock; default: time.Now. Timers go by the server's
	Observe func(Handled)    // told of every message, after it was let go or given back; must not block
	OnLate  func()           // told of every timer that this worker moved because it was late; must not block

	Worker string                                     // names this worker to people who ask why nothing moves
	Status func(ctx context.Context, s *WorkerStatus) // completes what is answered to them

	// Stamp gives the headers that describe the ledger at this moment, for all that functions publish; nil: there are none.
	Stamp func() map[string]string

	// Key decides whether messages may be handled: it is checked before each, and every CheckEvery (zero: 1 second) while the
	// worker is stopped. It is not used before Run. Without a Key, a function that stops the worker ends Run.
	Key        queue.Key
	CheckEvery time.Duration
}

// Handled is what became of one delivery.
type Handled struct {
	Function string
	Stream   string
	Delivery int           // of this message, from 1
	Took     time.Duration // handling and storing
	Verdict  string        // ack, delay, dead, retry, or unstored: what was said could not be stored

	Said []events.Envelope // events that were stored; not to be changed
	Dead string            // class of the dead letter that was stored, "" without one
}

// Queue is one deployment's streams. Its methods may be used at the same time.
type Queue struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	o     Options
	names names
	log   *slog.Logger

	mu    sync.Mutex
	known map[string]queue.Function // what the streams and consumers are for, to make them again
	runs  int
	turns map[*puller]time.Time // when each loop last came round

	stopped *stopped
	clock   *clock
	waits   waits

	repair singleflight.Group // one loop makes them again for all
}

// ErrNotSetUp says that the streams are not there.
var ErrNotSetUp = errors.New("the streams of recompose are not there: run recompose setup")

// ErrFull says that the entrance takes nothing more for now. The message was not stored.
var ErrFull = errors.New("the entrance is full: the workers are behind; send again later")

// ErrNotSent reports that a command was certainly not stored.
var ErrNotSent = errors.New("the command was not stored")

// New makes a queue on a connection, which stays the caller's and must be connected. Servers older than 2.12 are
// refused, and those without JetStream, with a *NoJetStreamError.
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
		nc: nc, js: js, o: o, names: n, log: o.Log, known: map[string]queue.Function{}, turns: map[*puller]time.Time{}, stopped: newStopped(o),
		clock: &clock{ours: o.Now}, waits: waits{of: map[string]wait{}},
	}, nil
}

func (o *Options) setDefaults() {
	o.Concurrency = max(o.Concurrency, 1)
	if len(o.Redeliver) == 0 {
		o.Redeliver = []time.Duration{time.Second, 5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute}
	}
	for _, d := range []struct {
		value *time.Duration
		zero  time.Duration
	}{{&o.AckWait, 30 * time.Second}, {&o.Late, 30 * time.Second}, {&o.SweepEvery, time.Minute}, {&o.Grace, 45 * time.Second}, {&o.CheckEvery, checkEvery}} {
		if *d.value == 0 {
			*d.value = d.zero
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
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

// checkVersion refuses servers that cannot delay messages.
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

// Receipt is what the entrance says of a command.
type Receipt struct {
	Stream    string
	Seq       uint64
	Duplicate bool // a message with the same id and data came within the last two minutes; this one was not stored
}

// Send puts a command in at the entrance and returns when it is stored. It may be repeated with the same envelope: a
// second message is dropped within two minutes, and after that does nothing a second time. The same id with other data
// is stored at any time.
//
// The error is ErrNotSent by errors.Is where the command was certainly not stored, with the reason: ErrFull, ErrNotSetUp, a
// *DeniedError, or what is wrong with the command. With any other error it is not known whether it was stored.
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
	if denied := inboxDenied(q.nc); denied != nil { // the answer could not come, and it would not be known whether it was stored
		return notSent(denied)
	}
	ack, err := q.js.PublishMsg(ctx, m, jetstream.WithExpectStream(q.names.commands()))
	if err != nil {
		return Receipt{}, fmt.Errorf("send %s: %w", e.Type, q.refused(ctx, m.Subject, err))
	}
	return Receipt{Stream: ack.Stream, Seq: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// refused tells why the entrance did not take a message. That no stream answers may mean that there is none, or that a
// cluster is choosing who is to answer for it.
func (q *Queue) refused(ctx context.Context, subject string, err error) error {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		if api.ErrorCode == codeStoreFailed {
			return fmt.Errorf("%w: %w (%w)", ErrNotSent, ErrFull, err)
		}
		return fmt.Errorf("%w: %w", ErrNotSent, q.explain(err))
	}
	if denied := inboxDenied(q.nc); denied != nil { // that keeps the answer away, and not the command
		return fmt.Errorf("whether it was stored is not known: %w", denied)
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
		return fmt.Errorf("%w: stream %s does not answer just now; send it later: %w", ErrNotSent, q.names.commands(), err)
	}
}

// covers reports whether a subject is under one of filters that end in ">".
func covers(filters []string, subject string) bool {
	return slices.ContainsFunc(filters, func(f string) bool {
		under, ok := strings.CutSuffix(f, ">")
		return f == subject || (ok && strings.HasPrefix(subject, under))
	})
}

// Codes of the server's errors that the client has no name for.
const (
	codeStoreFailed = 10077 // "maximum messages exceeded" and the like
	codeNotMatch    = 10060 // the subject belongs to another stream
)

// explain turns an error of publishing into what a person can act on.
func (q *Queue) explain(err error) error {
	api, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("%w (%w)", ErrNotSetUp, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("the NATS account of this user has no JetStream: set jetstream: enabled in the account: %w", err)
	case ok && api.ErrorCode == codeNotMatch:
		return fmt.Errorf("the subject belongs to a stream of somebody else: %w", err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("the server takes at most %d bytes a message: %w", q.nc.MaxPayload(), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("no answer, so it is not known whether it was stored; sending the same again is safe: %w", err)
	}
	return err
}
