package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
)

// Book is a ledger that may have lost records, with its store.
type Book interface {
	Fit(ctx context.Context, epoch string) error
	Epoch() string
	Accept(ctx context.Context) error
	Values() store.Store
}

// Acceptance changes a deployment where a person accepts what that may cost. Its methods may be repeated.
type Acceptance struct {
	Ledger    Book
	Operators *safety.Operators
	Events    interface {
		Publish(ctx context.Context, e events.Envelope) error
	}
	By string // the person
}

// UncertainError reports that a change may have been stored, or is stored in part.
type UncertainError struct{ error }

func (e UncertainError) Unwrap() error { return e.error }

func uncertain(format string, args ...any) error { return UncertainError{fmt.Errorf(format, args...)} }

// Service records that the deployment works on another service from now on.
func (a Acceptance) Service(ctx context.Context, to events.Service) (service.Record, error) {
	const repeat = "%w\nWhether it was stored is not known. It is safe to repeat"
	if err := a.Operators.SetService(ctx, to); err != nil { // before the record, so that workers of the former service stop first
		return service.Record{}, uncertain(repeat, err)
	}
	now, err := service.Accept(ctx, a.Ledger.Values(), to, a.By, time.Now())
	switch {
	case errors.Is(err, store.ErrConflict):
		return now, fmt.Errorf("%w; repeat the command if it is still wanted", err)
	case err != nil:
		return now, uncertain(repeat, err)
	}
	return now, nil
}

// PublishService publishes the event of a record that Service returned. It republishes the event if the record was changed
// before, because an earlier run may have failed between the two.
func (a Acceptance) PublishService(ctx context.Context, r service.Record) error {
	if r.Accepted == nil {
		return nil
	}
	e, err := r.Event()
	if err == nil {
		err = a.Events.Publish(ctx, e)
	}
	if err != nil {
		return uncertain("it is recorded, but its event could not be published; repeat the command: %w", err)
	}
	return nil
}

// LostService reports whether the record of the service is lost.
func (a Acceptance) LostService(ctx context.Context) (bool, error) {
	_, _, err := service.Read(ctx, a.Ledger.Values())
	if errors.Is(err, store.ErrNotFound) || errors.Is(err, service.ErrDamaged) {
		return true, nil
	}
	return false, err
}

// Loss publishes that a person accepts the loss of records, and then accepts it. An earlier freeze may be lost with the
// ledger, so it first freezes writes. It returns the freeze in force.
func (a Acceptance) Loss(ctx context.Context, lost *ledger.LostError) (*safety.Freeze, error) {
	if f, err := a.Operators.Frozen(ctx); err != nil || f == nil {
		f = &safety.Freeze{
			Reason: "the loss of ledger records was accepted; an earlier freeze may be lost", By: a.By,
			At: time.Now().UTC().Truncate(time.Second),
		}
		if err := a.Operators.SetFreeze(ctx, *f); err != nil {
			return nil, uncertain("%w\nThe loss is not accepted. It is safe to repeat", err)
		}
	}
	data, err := json.Marshal(events.LedgerAccepted{Reason: lost.Reason, By: a.By, Previous: a.Ledger.Epoch()})
	if err != nil {
		return nil, err
	}
	id := events.Derive(a.Ledger.Epoch(), "ledger.accepted", lost.Reason) // the same event if the loss is accepted several times
	err = a.Events.Publish(ctx, events.Envelope{
		ID: id, Source: "recompose/setup", Type: events.TypeLedgerAccepted, Time: time.Now().UTC(), Correlation: id, Data: data,
	})
	if err == nil {
		err = a.Ledger.Accept(ctx)
	}
	if err != nil {
		return nil, uncertain("accept the loss: %w\nIt is safe to repeat", err)
	}
	if err := a.Ledger.Fit(ctx, ""); err != nil {
		return nil, err
	}
	f, err := a.Operators.Frozen(ctx)
	if err != nil {
		err = uncertain("%w", err)
	}
	return f, err
}
