package chain

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

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

// Desktops are retried and rolled back, and the plan leaves some out: what their commands ended in is not the result.
func TestTheResultOfARolloutIsThatOfItsOwnEvents(t *testing.T) {
	t.Parallel()
	start := &events.CommandRef{Type: events.TypeRolloutStart, ID: "c1", Source: "s"}
	c := New("c1", events.Root{})
	add := func(minute int, function, typ string, data any) {
		raw, err := json.Marshal(data)
		require.NoError(t, err)
		require.True(t, c.Add(events.Envelope{
			ID: fmt.Sprint(typ, minute), Source: events.Source(function), Type: typ, Correlation: "c1",
			Time: time.Date(2026, 1, 15, 8, minute, 0, 0, time.UTC), Data: raw,
		}))
	}
	batch := func(minute int, desktops ...events.RolloutDesktop) {
		add(minute, events.FnRollout, events.TypeRolloutBatchCompleted,
			events.Rollout{Name: "r", Command: start, Batch: &events.RolloutBatch{Number: minute, Desktops: desktops}})
	}
	add(1, events.FnListDesktops, events.TypeCommandFailed, events.CommandFailed{Error: events.Failure{Kind: events.KindThrottled}})
	add(2, events.FnRebuild, events.TypeJobCompleted, events.JobCompleted{Function: events.FnRebuild, Outcome: events.Partial,
		Desktops: []events.DesktopResult{{DesktopID: "a", Outcome: events.Failed}, {DesktopID: "b", Outcome: events.Failed}}})
	batch(9, events.RolloutDesktop{DesktopID: "a", State: "done"}) // the retry
	batch(4, events.RolloutDesktop{DesktopID: "a", State: "failed", Code: "1"}, events.RolloutDesktop{DesktopID: "b", State: "failed", Code: "2", Reason: "full"})
	add(10, events.FnRollout, events.TypeRolloutCompleted, events.Rollout{Name: "r", Command: start, Counts: map[string]int{"done": 1, "failed": 1, "skipped": 8}})
	require.Equal(t, Result{
		Counts: map[string]int{"done": 1, "failed": 1, "skipped": 8},
		Failed: []FailedDesktop{{DesktopID: "b", Outcome: "failed", ErrorCode: "2", FailReason: "full"}},
	}, c.Result())

	add(11, events.FnRollout, events.TypeRolloutRolledBack, events.Rollout{Name: "r", Command: start, Counts: map[string]int{"rolled_back": 1, "unknown": 3, "skipped": 8}})
	require.Equal(t, []string{"rollout r: 2 desktops failed whose events are not stored any more; recompose rollout status r names them"},
		c.Result().Problems)
}
