package verdict_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

func TestOurOwnRateLimitEndsNoCommand(t *testing.T) {
	t.Parallel()
	limited := &workspace.Error{Operation: "rebuild", Class: workspace.NotSent, RetryAfter: 7 * time.Minute, Err: fmt.Errorf("%w for 7m", workspace.ErrLimited)}
	for _, attempt := range []int{0, 5, 500} {
		for _, err := range []error{verdict.Read(limited, attempt), verdict.NotDone(limited, attempt)} {
			var delayed *queue.RetryError
			require.ErrorAs(t, err, &delayed)
			require.Equal(t, 7*time.Minute, delayed.After, "when the rate limit allows the call")
		}
	}
	refused := &workspace.Error{Operation: "rebuild", Class: workspace.NotSent}
	var failed *queue.FailedError
	require.ErrorAs(t, verdict.NotDone(refused, 500), &failed, "a network that is down ends the command after all attempts")
}
