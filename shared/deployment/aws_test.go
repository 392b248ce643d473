package deployment

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/awsstack"
)

// What could not be opened is nil, not an interface that holds a nil pointer.
func TestWithoutATableNothingIsOpened(t *testing.T) {
	t.Parallel()
	d := OnAWS(&awsstack.Target{}, slog.New(slog.DiscardHandler))
	book, err := d.Ledger(t.Context())
	require.ErrorIs(t, err, ErrNoTable)
	require.True(t, book == nil) //nolint:testifylint // Nil accepts an interface that holds a nil pointer
	rollouts, err := d.Rollouts(t.Context())
	require.ErrorIs(t, err, ErrNoTable)
	require.True(t, rollouts == nil) //nolint:testifylint // as above
	o, err := d.Operators(t.Context())
	require.ErrorIs(t, err, ErrNoTable)
	require.Nil(t, o)
}

// The topic carries the command, too: until it comes back, something that followed from it may have been missed.
func TestACommandThatIsNotReceivedIsResent(t *testing.T) {
	t.Parallel()
	sent := events.Envelope{ID: "one", Source: "s", Type: events.TypeGetDesktop, Data: json.RawMessage(`{"desktop_id":"d1"}`)}
	reused := sent
	reused.Data = json.RawMessage(`{"desktop_id":"d2"}`)
	end := events.Envelope{ID: "end", Source: "f", Type: events.TypeDesktopDescribed}
	topic := make(chan events.Envelope, 10)
	topic <- reused // the same id with other data, of another sender
	sends := 0
	read := func(ctx context.Context, each func(events.Envelope) (bool, error)) error {
		for {
			select {
			case e := <-topic:
				if more, err := each(e); err != nil || !more {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	resend := func(context.Context) {
		if sends++; sends > 1 { // the first one is lost
			topic <- sent
			topic <- end
		}
	}
	var received []events.Envelope
	require.NoError(t, followSent(t.Context(), read, sent, time.Millisecond, resend, func(e events.Envelope) (bool, error) {
		received = append(received, e)
		return false, nil
	}))
	require.Equal(t, []events.Envelope{end}, received, "events, and no commands")
	require.GreaterOrEqual(t, sends, 2)
}
