package chain

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// A person who reads a line of a rollout needs the reason first: the counts may be long.
func TestALineOfARolloutHasTheReasonBeforeTheCounts(t *testing.T) {
	t.Parallel()
	for typ, c := range map[string]struct{ data, want string }{
		events.TypeRolloutRejected: {
			`{"name": "r", "reason": "name: r was used before", "counts": {"pending": 11, "done": 2}}`,
			"rollout r: rejected: name: r was used before; 2 done, 11 pending",
		},
		events.TypeRolloutPaused:   {`{"name": "r", "reason": "lunch", "by": "me", "counts": {"pending": 1}}`, "rollout r: paused: lunch, by me; 1 pending"},
		events.TypeRolloutApproved: {`{"name": "r", "by": "me", "counts": {"pending": 1}}`, "rollout r: approved, by me: 1 pending"},
		events.TypeRolloutPlanned:  {`{"name": "r", "plan_sha256": "ab", "counts": {"pending": 1}}`, "rollout r: planned: 1 pending; plan ab"},
		events.TypeRolloutHalted: {
			`{"name": "r", "reason": "too many", "wave": {"number": 2, "of": 3, "kind": "wave"}, "counts": {"failed": 1},
				"desktops": [{"desktop_id": "d", "state": "failed", "code": "c"}]}`,
			"rollout r, wave 2 of 3 (wave): halted: too many; 1 failed",
		},
		events.TypeRolloutBatchCompleted: {
			`{"name": "r", "batch": {"number": 1, "attempt": 2, "desktops": [{"desktop_id": "d", "state": "done"}]}, "counts": {"done": 9}}`,
			"rollout r: batch completed (batch 1, attempt 2): 1 done",
		},
		events.TypeRolloutWaveStarted: {
			`{"name": "r", "wave": {"number": 2, "of": 3, "kind": "wave"}, "counts": {"pending": 1}}`,
			"rollout r, wave 2 of 3 (wave): started: 1 pending",
		},
	} {
		require.Equal(t, c.want, Describe(events.Envelope{Type: typ, Data: []byte(c.data)})[0], typ)
	}
}

// Nothing was done, or the rollout did not reach its goal: waiting for such a chain ends with exit code 1.
func TestARejectedVerbAndAnAbortedRolloutHaveFailed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		typ, command string
		want         []string
	}{
		{events.TypeRolloutRejected, events.TypeRolloutApprove, []string{"rollout r: rejected: why; 1 pending"}},
		{events.TypeRolloutAborted, events.TypeRolloutStart, []string{"rollout r: aborted: why; 1 pending"}},
		{events.TypeRolloutAborted, events.TypeRolloutAbort, nil},
		{events.TypeRolloutCompleted, events.TypeRolloutStart, nil},
	} {
		data := `{"name": "r", "reason": "why", "counts": {"pending": 1}, "command": {"type": "` + c.command + `", "id": "c1", "source": "s"}}`
		end := events.Envelope{
			ID: "e", Type: c.typ, Source: events.Source(events.FnRollout), Correlation: "c1", Causation: "c1", Data: []byte(data),
		}
		all := New("c1", events.Root{})
		require.True(t, all.Add(end))
		require.Equal(t, c.want, all.Result().Problems, "%s of %s", c.typ, c.command)
		row := NewRow("c1", []events.Envelope{end}, nil)
		require.Equal(t, map[bool]string{true: "failed", false: "succeeded"}[c.want != nil], row.State)
	}
}

func TestABatchOfAWaveIsDescribedInWords(t *testing.T) {
	t.Parallel()
	data := `{"name": "r", "wave": {"number": 2, "of": 3, "kind": "wave"},
		"batch": {"number": 1, "attempt": 2, "desktops": [{"desktop_id": "d", "state": "done"}]}}`
	require.Equal(t, []string{"rollout r, wave 2 of 3 (wave): batch completed (batch 1, attempt 2): 1 done"},
		Describe(events.Envelope{Type: events.TypeRolloutBatchCompleted, Data: []byte(data)}))
}
