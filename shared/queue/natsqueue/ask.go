package natsqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/queue"
)

// WorkerStatus is what each worker answers to a request on recompose.status: why what was sent to it may not move.
type WorkerStatus struct {
	Worker    string            `json:"worker"` // its name
	Functions []string          `json:"functions"`
	Stopped   *WorkerStopped    `json:"stopped,omitempty"`        // it takes no messages
	Frozen    *WorkerFrozen     `json:"frozen,omitempty"`         // writes are frozen, as this worker reads it
	Unknown   string            `json:"frozen_unknown,omitempty"` // why it cannot be read whether they are
	Ledger    *WorkerLedger     `json:"ledger,omitempty"`         // no write begins because of the ledger
	Lists     string            `json:"lists,omitempty"`          // why a list of desktops cannot be read: no write begins
	Service   string            `json:"service,omitempty"`        // why no write begins because of the deployment's service
	Throttled []WorkerThrottled `json:"throttled,omitempty"`      // calls that it slows down
	Waiting   []WorkerWait      `json:"waiting,omitempty"`        // messages of the chain asked for, the next one first
}

// WorkerStopped is why a worker takes no messages.
type WorkerStopped struct {
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason"`
	KeyRefused bool      `json:"key_refused,omitempty"` // the service refused the credentials
}

// WorkerFrozen is the freeze in force.
type WorkerFrozen struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// WorkerLedger is why no write begins: the ledger has lost records, or it is not known whether it has.
type WorkerLedger struct {
	Reason string `json:"reason"`
	Accept string `json:"accept,omitempty"` // the command that accepts the loss; "" where none is known
}

// WorkerThrottled is a rate limit that holds calls back because of answers of the service.
type WorkerThrottled struct {
	Calls     string    `json:"calls"`            // reads or writes
	PerMinute float64   `json:"per_minute"`       // that are left
	Until     time.Time `json:"until,omitzero"`   // when calls go on, where the service asked for a pause
	Status    int       `json:"status,omitempty"` // of these answers, 429 or 503
}

// DeniedError reports that a request got no answer because of a right that its user lacks.
type DeniedError struct{ Right string }

func (e *DeniedError) Error() string { return "this NATS user lacks the right to " + e.Right }

func (n names) status() string { return n.subject("recompose.status") }

// statusWithin is how long a worker may take to find out how it stands.
const statusWithin = 800 * time.Millisecond

// Answer answers requests for the status until stop, as Run does: for a worker that does not run yet.
func (q *Queue) Answer(ctx context.Context, fns []queue.Function) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var answering sync.WaitGroup
	answering.Go(func() { q.answers(ctx, fns) })
	return func() { cancel(); answering.Wait() }
}

// answers answers requests on recompose.status until ctx ends. A worker that may not subscribe to it works all the same;
// the connection reports what it lacks.
func (q *Queue) answers(ctx context.Context, fns []queue.Function) {
	sub, err := q.nc.Subscribe(q.names.status(), func(m *nats.Msg) {
		// The requester names the subject of the answer. Anywhere but in an inbox it could be stored as something else.
		if !strings.HasPrefix(m.Reply, "_INBOX") {
			return
		}
		data, err := json.Marshal(q.workerStatus(ctx, fns, askedChain(m.Data)))
		if err == nil {
			err = m.Respond(data)
		}
		if err != nil {
			q.log.DebugContext(ctx, "a request for the status was not answered", "error", err)
		}
	})
	if err != nil {
		q.log.WarnContext(ctx, "this worker will not answer why nothing moves", "error", err)
		return
	}
	<-ctx.Done()
	_ = sub.Unsubscribe()
}

func (q *Queue) workerStatus(ctx context.Context, fns []queue.Function, chain string) WorkerStatus {
	s := WorkerStatus{Worker: q.o.Worker, Waiting: q.waits.in(chain, q.Now())}
	for _, f := range fns {
		s.Functions = append(s.Functions, f.Name)
	}
	if since, why := q.stopped.state(); why != nil {
		s.Stopped = &WorkerStopped{Since: since.UTC(), Reason: why.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	q.o.Status(ctx, &s)
	return s
}

// Times to wait for the answers of workers: for the first one, and for each that follows.
const (
	firstAnswer = time.Second
	nextAnswer  = 200 * time.Millisecond
)

// Workers asks all workers of this deployment how they stand, and why the messages of a chain wait that they delayed; of no
// chain where its correlation id is "". Without a worker the list is empty. The error is a *DeniedError where the user
// lacks the right to ask.
func (q *Queue) Workers(ctx context.Context, correlation string) ([]WorkerStatus, error) {
	request, err := json.Marshal(statusRequest{correlation})
	if err != nil {
		return nil, fmt.Errorf("ask the workers: %w", err)
	}
	sub, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("ask the workers: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := q.nc.PublishRequest(q.names.status(), sub.Subject, request); err != nil {
		return nil, fmt.Errorf("ask the workers: %w", err)
	}
	var workers []WorkerStatus
	for wait := firstAnswer; ; wait = nextAnswer {
		ctx, cancel := context.WithTimeout(ctx, wait)
		m, err := sub.NextMsgWithContext(ctx)
		cancel()
		switch {
		case errors.Is(err, nats.ErrNoResponders), err != nil && len(workers) > 0:
			return workers, nil
		case err != nil && q.nc.IsConnected() && errors.Is(err, context.DeadlineExceeded):
			if denied := q.denied(q.names.status()); denied != nil {
				return nil, denied
			}
			return nil, nil
		case err != nil:
			return nil, fmt.Errorf("ask the workers: %w", err)
		}
		var s WorkerStatus
		if json.Unmarshal(m.Data, &s) == nil {
			workers = append(workers, s)
		}
	}
}

// Entrance is how the commands for one function stand at the entrance.
type Entrance struct {
	Waiting uint64 // stored and not handed to a worker
	Taken   uint64 // number of the last command that was handed to one
	Asking  bool   // some worker asks for more
}

// Entrance reports how the commands for a function stand. The error is a *DeniedError where the user lacks the right to
// ask, and ErrNotSetUp where the consumer of the function is not there.
func (q *Queue) Entrance(ctx context.Context, function string) (Entrance, error) {
	stream, durable := q.names.commands(), q.names.name(function)
	ctx, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	m, err := q.nc.RequestWithContext(ctx, "$JS.API.CONSUMER.INFO."+stream+"."+durable, nil)
	if err != nil {
		if denied := q.denied("$JS.API.CONSUMER.INFO." + stream); denied != nil {
			return Entrance{}, denied
		}
		return Entrance{}, fmt.Errorf("consumer %s of stream %s: %w", durable, stream, err)
	}
	var info struct {
		Error *jetstream.APIError `json:"error"`
		jetstream.ConsumerInfo
	}
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return Entrance{}, fmt.Errorf("consumer %s of stream %s: %w", durable, stream, err)
	}
	if info.Error != nil {
		return Entrance{}, fmt.Errorf("consumer %s of stream %s: %w (%w)", durable, stream, ErrNotSetUp, info.Error)
	}
	return Entrance{Waiting: info.NumPending, Taken: info.Delivered.Stream, Asking: info.NumWaiting > 0}, nil
}

// Denied is a *DeniedError in the place of err, where no answer came because the user lacks the right to publish on a subject
// that begins with one of these. Any other error has another cause, and stays.
func (q *Queue) Denied(err error, subjects ...string) error {
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
		return err
	}
	for _, subject := range subjects {
		if denied := q.denied(subject); denied != nil {
			return denied
		}
	}
	return err
}

var deniedForm = regexp.MustCompile(`(?i)permissions violation for (publish|subscription) to "([^"]+)"`)

// denied is a *DeniedError where the server last refused a request on a subject that begins so, or all answers; else nil.
// The server does not answer a refused request, so this explains an answer that did not come.
func (q *Queue) denied(subject string) error {
	last := q.nc.LastError()
	if !errors.Is(last, nats.ErrPermissionViolation) {
		return nil
	}
	m := deniedForm.FindStringSubmatch(last.Error())
	if m != nil && strings.EqualFold(m[1], "publish") && strings.HasPrefix(m[2], subject) {
		return &DeniedError{"publish on " + m[2]}
	}
	return inboxDenied(q.nc)
}
