package queue

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"recompose/events"
	"recompose/shared/telemetry/logging"
)

// WakeType is the type of the message that wakes a function with Wake where no worker runs all the time: on AWS a rule
// sends one to the queue of the function every minute.
func WakeType(function string) string { return events.InternalType(function, "wake") }

// Wake wakes a function and returns what is to be stored. The ids of what it returns depend on the minute, so workers
// that do so at the same time publish the same. An error is only logged: the function is woken once more a minute later.
func (p Processor) Wake(ctx context.Context, f Function) Result {
	minute := p.now().UTC().Truncate(time.Minute)
	id := "wake/" + strconv.FormatInt(minute.Unix(), 10)
	return p.wake(ctx, f, Command{Envelope: events.Envelope{
		ID: id, Source: events.Source(f.Name), Type: WakeType(f.Name), Time: minute, Correlation: id,
	}})
}

func (p Processor) wake(ctx context.Context, f Function, c Command) Result {
	ctx = logging.With(ctx, slog.String(logging.KeyCommand, c.Envelope.ID))
	log := messageLog{log: p.logger()}.with("function", f.Name, "type", c.Envelope.Type)
	outcomes, err := Guarded(func() ([]Outcome, error) { return f.Wake(ctx, p.now()) })
	if err == nil {
		r := p.result(ctx, f, Delivery{}, c, outcomes, nil, log)
		if r.Retry == nil {
			return r
		}
		err = r.Retry
	}
	log.error(ctx, "the function could not be woken; the next try is in a minute", "error", err)
	logStack(ctx, err, log)
	return Result{}
}
