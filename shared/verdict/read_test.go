package verdict_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

func TestAnUnreadableAnswerToAReadIsRetriedLikeA502(t *testing.T) {
	t.Parallel()
	for failures := range 8 {
		page := verdict.Read(&workspace.Error{Operation: "check-images", Class: workspace.BadAnswer, Status: 302}, failures)
		gateway := verdict.Read(&workspace.Error{Operation: "check-images", Class: workspace.Unavailable, Status: 502}, failures)
		require.IsType(t, gateway, page, "after %d failures", failures)
	}
	var again *queue.RetryError
	require.ErrorAs(t, verdict.Read(&workspace.Error{Class: workspace.BadAnswer}, 0), &again)
	require.True(t, again.Failed, "each counts")
}
