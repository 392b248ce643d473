package deployment

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/embednats"
	"recompose/shared/queue"
	"recompose/shared/testkit/natstest"
)

// TestAFollowerWhoseClockIsAheadReadsTheAnswer is about an answer that comes before the follower reads.
func TestAFollowerWhoseClockIsAheadReadsTheAnswer(t *testing.T) {
	t.Parallel()
	d, err := OnNATS(natstest.Start(t, embednats.Options{}).Conn, config.Default(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	function := queue.Function{Name: events.FnGetDesktop, Types: []string{events.TypeGetDesktop}}
	require.NoError(t, d.Queue.Setup(t.Context(), []queue.Function{function}))
	event := events.Envelope{ID: "before", Source: "test", Type: events.TypeDesktopDescribed, Data: json.RawMessage(`{}`)}
	require.NoError(t, d.Queue.Publish(t.Context(), event))

	f, err := d.Follow(t.Context(), time.Now().Add(time.Hour))
	require.NoError(t, err)
	event.ID = "answer"
	require.NoError(t, d.Queue.Publish(t.Context(), event))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var got string
	require.NoError(t, f.Read(ctx, func(e events.Envelope) (bool, error) {
		got = e.ID
		return false, nil
	}))
	require.Equal(t, "answer", got)
}
