package awsqueue_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
)

// Observe receives exactly the stored results, as they were published.
func TestStoredResultsAreObserved(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []awsqueue.Handled
	b := newBench(t, func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		switch c.Envelope.ID {
		case "large": // the topic takes 256 KiB
			return []queue.Outcome{{Type: events.TypeDesktopDescribed, Data: strings.Repeat("x", 300*1024)}}, nil
		case "dead":
			return nil, queue.Permanent(errors.New("no attempt can succeed"))
		case "failed":
			return nil, errors.New("unexpected")
		}
		return []queue.Outcome{{Type: events.TypeDesktopDescribed, Data: c.Envelope.ID}}, nil
	}, func(_ *queue.Function, o *awsqueue.Options) {
		o.Observe = func(_ context.Context, h awsqueue.Handled) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, h)
		}
	})
	for _, id := range []string{"good", "large", "dead", "failed"} {
		b.take(t.Context(), command(id))
	}
	b.RefuseEntries(func(string) (string, bool) { return "InvalidParameter", true })
	require.Equal(t, []string{"unstored"}, b.take(t.Context(), command("unstored")))
	var types []string
	for _, h := range seen {
		for _, e := range h.Events {
			types = append(types, e.Causation+" "+e.Type+" "+h.Dead)
		}
	}
	require.Equal(t, []string{
		"good " + events.TypeDesktopDescribed + " ", "large " + events.TypeCommandFailed + " ",
		"dead " + events.TypeCommandFailed + " " + queue.ClassPermanent,
	}, types)
}
