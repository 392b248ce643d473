// Package service records which Workspace service the workers of a deployment use.
//
// The first worker of a deployment stores the record by compare-and-set ([Claim]); a worker that is configured for
// another service or project does not start. A program that sends a command reads the record ([Read], [Parse]),
// because the settings of a sender prove nothing about the workers. Only [Accept] changes it.
package service

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/store"
)

// Key is the key of the record in the ledger of a deployment.
const Key = "control/service"

// Record is the stored record of a deployment's service.
type Record struct {
	events.Service
	By       string      `json:"by"` // the worker or person that stored it
	At       time.Time   `json:"at"` // when, UTC
	Accepted *Acceptance `json:"accepted,omitempty"`
}

// Acceptance is set on a record that Accept stored.
type Acceptance struct {
	ID     string          `json:"id"`               // of the change; the id of its event is derived from it
	Before *events.Service `json:"before,omitempty"` // nil: none was recorded, or the record was damaged
}

// ErrDamaged reports that the stored value is not a valid record.
var ErrDamaged = errors.New("the record of the deployment's service is damaged; " +
	"recompose setup --accept-service replaces it")

// Parse reads a stored record. It is strict: any client of a NATS server can make the server store a response of its
// own under this key, and such bytes must be reported as damaged, never read as a service.
func Parse(value []byte) (Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if d.More() || !valid(r.Service) {
		return Record{}, fmt.Errorf("%w: it has other content", ErrDamaged)
	}
	return r, nil
}

func valid(s events.Service) bool {
	switch s.Kind {
	case events.ServiceEmulator:
		return s.Host == "" && s.Project != ""
	case events.ServiceReal:
		return s.Host != "" && s.Project != ""
	default:
		return false
	}
}

// Read reads the record of a deployment. The error is store.ErrNotFound by errors.Is if there is none, and ErrDamaged
// if the stored value is not a valid record; the revision is that of the stored value.
func Read(ctx context.Context, s store.Store) (Record, store.Revision, error) {
	value, rev, err := s.Get(ctx, Key)
	if errors.Is(err, store.ErrDamaged) {
		return Record{}, rev, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return Record{}, 0, fmt.Errorf("read which service the deployment works on: %w", err)
	}
	r, err := Parse(value)
	return r, rev, err
}

// OtherError reports that the deployment uses another service than this worker.
type OtherError struct {
	Recorded Record
	Own      events.Service
}

func (e *OtherError) Error() string {
	return fmt.Sprintf("this deployment works on %s (recorded %s by %s), and this worker is configured for %s: "+
		"correct its settings, or change the deployment's service with recompose setup --accept-service",
		e.Recorded.Name(), e.Recorded.At.Format(time.RFC3339), e.Recorded.By, e.Own.Name())
}

// Claim is the service of one worker.
type Claim struct {
	Store   store.Store
	Service events.Service
	// Ledger is checked before a service is recorded: a ledger that has lost records may have lost the record of the
	// service, too. It is nil for functions that only read, which may not read the ledger.
	Ledger interface {
		Fit(ctx context.Context, epoch string) error
	}
	By  string // name of the worker
	Now func() time.Time
}

// Check returns nil if the deployment uses the service of this worker. If no service is recorded, it records this
// one, unless the ledger may have lost records. The error is an *OtherError by errors.As if the deployment uses
// another service, and ledger.ErrLost by errors.Is while that cannot be known. It blocks as store.Store does and may
// be repeated.
func (c Claim) Check(ctx context.Context) error {
	for {
		r, _, err := Read(ctx, c.Store)
		switch {
		case err == nil && r.Service == c.Service:
			return nil
		case err == nil:
			return &OtherError{Recorded: r, Own: c.Service}
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if c.Ledger != nil {
			if err := c.Ledger.Fit(ctx, ""); err != nil {
				return fmt.Errorf("the record of the deployment's service may be lost with the ledger; "+
					"recompose setup --accept-service replaces it: %w", err)
			}
		}
		err = put(ctx, c.Store, Record{Service: c.Service, By: c.By, At: stamp(c.Now())}, 0)
		if !errors.Is(err, store.ErrConflict) { // otherwise another worker was first: read its record
			return err
		}
	}
}

// Accept records that the deployment uses a service from now on, and replaces any other record. If the service is
// recorded already, it returns that record: with Accepted set it is an earlier change, whose event may not have been
// published. It blocks as store.Store does; after an error the record may have been stored.
func Accept(ctx context.Context, s store.Store, to events.Service, by string, now time.Time) (Record, error) {
	r, rev, err := Read(ctx, s)
	accepted := Record{Service: to, By: by, At: stamp(now), Accepted: &Acceptance{ID: rand.Text()}}
	switch {
	case err == nil && r.Service == to:
		return r, nil
	case err == nil:
		accepted.Accepted.Before = &r.Service
	case errors.Is(err, ErrDamaged) && rev == 0: // compare-and-set cannot replace the value
		return Record{}, fmt.Errorf("%w; remove %s by hand first", err, Key)
	case !errors.Is(err, store.ErrNotFound) && !errors.Is(err, ErrDamaged):
		return Record{}, err
	}
	return accepted, put(ctx, s, accepted, rev)
}

// Event returns the event of a change that Accept stored.
func (r Record) Event() (events.Envelope, error) {
	source := events.Source("setup")
	data, err := json.Marshal(events.ServiceAccepted{Service: r.Service, Before: r.Accepted.Before, By: r.By})
	id := events.Derive(events.Identity(source, r.Accepted.ID), "service.accepted")
	return events.Envelope{
		ID: id, Source: source, Type: events.TypeServiceAccepted, Time: r.At, Correlation: id, Data: data,
	}, err
}

func put(ctx context.Context, s store.Store, r Record, old store.Revision) error {
	value, err := json.Marshal(r)
	if err == nil {
		_, err = s.Put(ctx, Key, value, old)
	}
	if err != nil {
		return fmt.Errorf("record which service the deployment works on: %w", err)
	}
	return nil
}

func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
