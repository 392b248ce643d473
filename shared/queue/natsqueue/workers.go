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

// WorkerStatus is what each worker answers to a request on recompose.status: why it may not handle a command.
type WorkerStatus struct {
	Worker        string            `json:"worker"` // its name
	Functions     []string          `json:"functions"`
	Stopped       *WorkerStopped    `json:"stopped,omitempty"`        // it takes no messages
	Frozen        *queue.Freeze     `json:"frozen,omitempty"`         // writes are frozen, as this worker reads it
	FreezeUnknown string            `json:"frozen_unknown,omitempty"` // why the freeze cannot be read
	Ledger        *WorkerLedger     `json:"ledger,omitempty"`         // no write begins because of the ledger
	Lists         string            `json:"lists,omitempty"`          // why a list of desktops cannot be read: no write begins
	Service       string            `json:"service,omitempty"`        // why no write begins because of the deployment's service
	Unreached     *WorkerUnreached  `json:"unreached,omitempty"`      // the service does not answer it
	Throttled     []WorkerThrottled `json:"throttled,omitempty"`      // calls that it slows down
	Waiting       []WorkerWait      `json:"waiting,omitempty"`        // messages of the requested chain, the next one first
}

// WorkerStopped is why a worker takes no messages.
type WorkerStopped struct {
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason"`
	KeyRefused bool      `json:"key_refused,omitempty"` // the service refused the credentials
}

// WorkerUnreached is a period in which the service gave a worker no answer at all.
type WorkerUnreached struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"` // of the latest attempt
}

// WorkerLedger is why no write begins: the ledger has lost records, or it is not known whether it has.
type WorkerLedger struct {
	Reason string `json:"reason"`
	Accept string `json:"accept,omitempty"` // the command that accepts the loss; "" if none is known
}

// WorkerThrottled is a rate limit that delays calls because the service refused some.
type WorkerThrottled struct {
	Calls     string    `json:"calls"`            // reads or writes
	PerMinute float64   `json:"per_minute"`       // the remaining rate
	Until     time.Time `json:"until,omitzero"`   // when calls continue, if the service requested a pause
	Status    int       `json:"status,omitempty"` // of the refusals, 429 or 503
}

// DeniedError reports that a request got no answer because its user lacks a right.
type DeniedError struct{ Right string }

func (e *DeniedError) Error() string { return "this NATS user lacks the right to " + e.Right }

func (n names) status() string { return n.subject("recompose.status") }

// statusWithin is how long a worker may take to collect its status.
const statusWithin = 800 * time.Millisecond

// Answer answers status requests until stop is called, as Run does: for a worker that has not called Run yet.
func (q *Queue) Answer(ctx context.Context, fns []queue.Function) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var answering sync.WaitGroup
	answering.Go(func() { q.answers(ctx, fns) })
	return func() { cancel(); answering.Wait() }
}

// answers answers requests on recompose.status until ctx ends. A worker without the right to subscribe to it works
// without it; the connection reports the missing right.
func (q *Queue) answers(ctx context.Context, fns []queue.Function) {
	sub, err := q.nc.Subscribe(q.names.status(), func(m *nats.Msg) {
		if err := q.answer(ctx, fns, m); err != nil {
			q.log.DebugContext(ctx, "answering a status request failed", "error", err)
		}
	})
	if err != nil {
		q.log.WarnContext(ctx, "this worker cannot answer status requests", "error", err)
		return
	}
	<-ctx.Done()
	_ = sub.Unsubscribe()
}

// answer answers one request. The requester chooses the reply subject: any but an inbox could be stored by a stream as
// another message.
func (q *Queue) answer(ctx context.Context, fns []queue.Function, m *nats.Msg) (err error) {
	defer q.recovered(ctx, "answering a status request", &err)
	if !strings.HasPrefix(m.Reply, "_INBOX") {
		return nil
	}
	data, err := json.Marshal(q.workerStatus(ctx, fns, requestedChain(m.Data)))
	if err != nil {
		return err
	}
	return m.Respond(data)
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

// Workers requests the status of all workers of this deployment. With a correlation id their answers include why
// messages of that chain wait. The list is empty if no worker runs. The error is a *DeniedError if the user lacks the
// right to request it.
func (q *Queue) Workers(ctx context.Context, correlation string) ([]WorkerStatus, error) {
	request, err := json.Marshal(statusRequest{correlation})
	if err != nil {
		return nil, fmt.Errorf("request the status of the workers: %w", err)
	}
	sub, err := q.nc.SubscribeSync(q.nc.NewInbox())
	if err != nil {
		return nil, fmt.Errorf("request the status of the workers: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := q.nc.PublishRequest(q.names.status(), sub.Subject, request); err != nil {
		return nil, fmt.Errorf("request the status of the workers: %w", err)
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
			return nil, fmt.Errorf("request the status of the workers: %w", err)
		}
		var s WorkerStatus
		if json.Unmarshal(m.Data, &s) == nil {
			workers = append(workers, s)
		}
	}
}

// Entrance is the state of the commands for one function at the entrance.
type Entrance struct {
	Waiting uint64 // stored and not delivered to a worker
	Taken   uint64 // sequence number of the last command that was delivered to a worker
	Asking  bool   // a worker has requested more
}

// Entrance reads the state of the commands for a function. The error is a *DeniedError if the user lacks the right,
// and ErrNotSetUp if the consumer of the function does not exist.
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

// Denied replaces err by a *DeniedError if no answer came because the user lacks the right to publish on a subject
// that begins with one of subjects. It returns any other error unchanged.
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

// denied returns a *DeniedError if the last error of the connection is a refused publish on a subject with this
// prefix, or a refused subscription to the inbox; else nil. The server does not answer a refused request, so this
// explains a missing answer.
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
