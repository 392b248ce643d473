package functions_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/queue"
)

// A worker whose clock is ahead read the desktops before the command of a batch, and its answer waited in the queue. What
// it knows is not younger for that: the command expires three minutes after the look was asked for.
func TestAnAnswerOfAClockThatIsAheadMakesNoCommandLater(t *testing.T) {
	t.Parallel()
	b := newBus(t, emulator.Options{Desktops: 3})
	b.startAll()
	b.run(events.TypeRolloutWaveStarted, 1)
	listed := func(e events.Envelope) bool {
		ref, err := events.ParseRolloutRef(e.Rollout)
		return err == nil && ref.Attempt > 0 && e.Type == events.TypeDesktopsListed
	}
	for !slices.ContainsFunc(b.published, listed) {
		b.run(events.TypeDesktopsListed, 1)
	}
	answer := b.published[slices.IndexFunc(b.published, listed)]
	var d events.DesktopsListed
	require.NoError(t, json.Unmarshal(answer.Data, &d))
	d.ReadAt = answer.Time.Add(2 * time.Minute)
	var err error
	answer.Data, err = json.Marshal(d)
	require.NoError(t, err)
	b.Clock.Add(140 * time.Second)
	result := b.Process(b.function(events.FnRollout), b.Message(answer))
	i := slices.IndexFunc(result.Next, func(n queue.Next) bool { return n.Envelope.Type == events.TypeRebuild })
	require.GreaterOrEqual(t, i, 0, "%+v", result)
	require.False(t, result.Next[i].Envelope.Expiry.After(answer.Time.Add(3*time.Minute)), result.Next[i].Envelope.Expiry.Sub(answer.Time))
}
