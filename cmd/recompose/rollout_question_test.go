package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/rollout"
)

// A retry and a rollback begin when the batches under way have ended, and take their desktops, too.
func TestTheQuestionCountsTheBatchesUnderWay(t *testing.T) {
	t.Parallel()
	head := func(counts rollout.Counts) *rollout.Head {
		return &rollout.Head{LeftOut: counts}
	}
	for name, test := range map[string]struct {
		counts          rollout.Counts
		named           []string
		retry, rollback string
	}{
		"ended":             {rollout.Counts{rollout.Done: 5, rollout.Failed: 1, rollout.Missing: 2}, nil, "3 desktops", "6 desktops"},
		"a batch under way": {rollout.Counts{rollout.Done: 5, rollout.Failed: 1, rollout.Sent: 4}, nil, "up to 5 desktops", "up to 10 desktops"},
		"the first batch":   {rollout.Counts{rollout.Sent: 4}, nil, "up to 4 desktops", "up to 4 desktops"},
		"not known":         {rollout.Counts{rollout.Failed: 1, rollout.Unknown: 2}, nil, "1 desktop", "up to 3 desktops"},
		"named":             {rollout.Counts{rollout.Done: 5, rollout.Sent: 4}, []string{"a"}, "1 desktop", "1 desktop"},
	} {
		c := events.RolloutCommand{DesktopIDs: test.named}
		retry, rollback := rebuildQuestion(head(test.counts), events.TypeRolloutRetry, c, "x"), rebuildQuestion(head(test.counts), events.TypeRolloutRollback, c, "x")
		require.True(t, strings.HasPrefix(retry, "This rebuilds "+test.retry+" of rollout "), "%s: %s", name, retry)
		require.True(t, strings.HasPrefix(rollback, "This rebuilds "+test.rollback+" of rollout "), "%s: %s", name, rollback)
	}
	h := &rollout.Head{Waves: []rollout.Wave{{Kind: rollout.BackWave, To: 7, Next: 3}}}
	require.Contains(t, rebuildQuestion(h, events.TypeRolloutRollback, events.RolloutCommand{}, "x"), "up to 4 desktops", "those of an earlier rollback")
	paused := head(rollout.Counts{rollout.Failed: 2, rollout.Pending: 30, rollout.Deferred: 1})
	require.Contains(t, rebuildQuestion(paused, events.TypeRolloutRetry, events.RolloutCommand{}, "once more"),
		"once more, and goes on with the 31 that wait: the data", "a retry ends a pause and a halt")
	require.NotContains(t, rebuildQuestion(paused, events.TypeRolloutRollback, events.RolloutCommand{}, "x"), "goes on")
	require.Empty(t, rebuildQuestion(head(rollout.Counts{rollout.Skipped: 1}), events.TypeRolloutRetry, events.RolloutCommand{}, "x"))
}
