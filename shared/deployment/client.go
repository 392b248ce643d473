package deployment

import (
	"context"
	"errors"
	"time"

	"recompose/events"
	"recompose/shared/chain/reasons"
	"recompose/shared/ledger"
	"recompose/shared/printable"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
)

// Client is a deployment as those see it who send commands to it.
type Client interface {
	// Send stores a command for its function. The error is ErrNotSent by errors.Is if it was certainly not stored.
	Send(ctx context.Context, e events.Envelope) (Receipt, error)
	// Follow starts to read events: from now on or, on NATS without a time, all that are stored. Call it before Send.
	Follow(ctx context.Context, from time.Time) (Follower, error)
	// Service returns the service that the functions work on.
	Service(ctx context.Context) Service
	// Ledger opens the ledger. It never creates it.
	Ledger(ctx context.Context) (ledger.Store, error)
	// Operators opens what people have set for the deployment: freeze and lists.
	Operators(ctx context.Context) (*safety.Operators, error)
	// Rollouts opens the records of rollouts, for reading.
	Rollouts(ctx context.Context) (store.Store, error)
	// Letters returns the dead letters; nil if only a topic or a queue on AWS is known.
	Letters() queue.Letters
	// Reasons returns what finds out why a chain is quiet; nil if that is not possible.
	Reasons() reasons.Finder
	// Where names the deployment or the stack, for people; "" for the only one.
	Where() string
	// Close ends the use of the deployment.
	Close(ctx context.Context) error
}

// Follower reads events.
type Follower interface {
	// Read passes events to each until that returns false or an error, or ctx ends.
	Read(ctx context.Context, each func(events.Envelope) (more bool, err error)) error
	// Close ends the reading, and removes what it needed.
	Close(ctx context.Context) error
}

// Receipt is the acknowledgement of a stored command.
type Receipt struct {
	Duplicate bool   // it was stored before
	Number    uint64 // in the stream of commands; 0 on AWS
	Shown     any    // for people, as JSON
}

var (
	// ErrNotSent reports that a command was certainly not stored.
	ErrNotSent = errors.New("the command was not sent")
	// ErrNoTable reports that a topic or a queue on AWS does not name the table.
	ErrNoTable = errors.New("a topic or a queue does not name the table")
	// ErrNoTopic reports that a queue on AWS does not name the topic of events.
	ErrNoTopic = errors.New("events go to the topic, and a queue does not name its topic")
)

// Service is the service that the workers of a deployment recorded. If it is not known, it counts as a real one.
type Service struct {
	events.Service
	Unknown string // why it is not known
}

// String describes the service on one line that is safe to print.
func (s Service) String() string {
	if s.Unknown != "" {
		return "REAL (" + printable.Line(s.Unknown) + ", so it counts as a real service)"
	}
	return printable.Line(s.Service.String())
}

// recorded returns the service that is recorded in a store.
func recorded(ctx context.Context, values store.Store) Service {
	r, _, err := service.Read(ctx, values)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return Service{Unknown: "no worker has recorded yet which service it works on"}
	case err != nil:
		return Service{Unknown: err.Error()}
	}
	return Service{Service: r.Service}
}
