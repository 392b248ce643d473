package worker

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/queue/natsqueue"
	"recompose/shared/workspace"
)

// A rate limit is reported while it holds calls back, and for the answers that lowered it.
func TestARateLimitIsReportedWhileItHoldsCallsBack(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 1, 15, 12, 1, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		limit workspace.Limit
		want  []natsqueue.WorkerThrottled
	}{
		"tokens are left": {workspace.Limit{Calls: "reads", Configured: 200, PerMinute: 100, Level: 0.5, Tokens: 3, Status: 429}, nil},
		"not lowered":     {workspace.Limit{Calls: "reads", Configured: 200, PerMinute: 200, Level: 1, Tokens: -2}, nil},
		"lowered": {
			workspace.Limit{Calls: "writes", Configured: 100, PerMinute: 50, Level: 0.5, Tokens: -1, Status: 503},
			[]natsqueue.WorkerThrottled{{Calls: "writes", PerMinute: 50, Status: 503}},
		},
		"paused": {
			workspace.Limit{Calls: "reads", Unlimited: true, Level: 1, PausedUntil: until, Status: 429},
			[]natsqueue.WorkerThrottled{{Calls: "reads", Until: until, Status: 429}},
		},
	} {
		require.Equal(t, c.want, throttledBy([]workspace.Limit{c.limit}), name)
	}
}
