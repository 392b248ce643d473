package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Who only reads what is stored has no key of the service, and may have its address in the environment.
func TestCommandsWithoutCallsNeedNoCredentials(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	for line, want := range map[string]string{
		"rollout list":            "no rollouts",
		"rollout status november": "there is no such rollout",
		"dead list":               "0 dead letters",
	} {
		r := finish(t, []string{"NATS_URL=" + w.url, "RECOMPOSE_WORKSPACE_ENDPOINT=https://workspace.ap-southeast-1.myhuaweicloud.com"},
			strings.Fields(line)...)
		require.Contains(t, r.out+r.errOut, want, line)
		require.NotContains(t, r.errOut, "HUAWEICLOUD_SDK", line)
	}
}
