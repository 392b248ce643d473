package fence_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
)

func TestABatchBeginsOnlyAsItsRolloutHasIt(t *testing.T) {
	t.Parallel()
	const running = `{"name":"win11","phase":"running","plan":2,"open":{"7":{"attempt":3,"state":"sent"},"8":{"attempt":1,"state":"looking"}},"more":1}`
	for name, test := range map[string]struct {
		head, attribute, stale string
	}{
		"as sent":                 {running, "win11/2/7/3", ""},
		"of a rollback":           {`{"name":"win11","phase":"rolling_back","plan":1,"open":{"0":{"attempt":1,"state":"sent"}}}`, "win11/1/0/1", ""},
		"no rollout":              {"", "win11/2/7/3", "there is no rollout win11"},
		"another plan":            {running, "win11/1/7/3", "the command is of plan 1 of rollout win11, and plan 2 is in force"},
		"another batch":           {running, "win11/2/6/3", "batch 6 of rollout win11 is not open"},
		"an earlier attempt":      {running, "win11/2/7/2", "the command is attempt 2 of batch 7 of rollout win11, which is at attempt 3"},
		"a batch that is not out": {running, "win11/2/8/1", "batch 8 of rollout win11 is looking"},
		"three parts":             {running, "win11/2/7", `"win11/2/7" must be name/plan/batch/attempt`},
		"a number with a sign":    {running, "win11/2/7/+3", `"win11/2/7/+3" must be name/plan/batch/attempt`},
		"a name that is a path":   {running, "../2/7/3", `"../2/7/3" must be name/plan/batch/attempt`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var head []byte
			if test.head != "" {
				head = []byte(test.head)
			}
			err := fence.MayStart(head, test.attribute)
			if test.stale == "" {
				require.NoError(t, err)
				return
			}
			stale := new(fence.StaleError)
			require.ErrorAs(t, err, &stale)
			require.Contains(t, stale.Reason, test.stale)
		})
	}
	for _, phase := range []string{
		rollout.Planning, rollout.Planned, rollout.Paused, rollout.Halted, rollout.Aborting, rollout.Completed, rollout.Aborted, rollout.RolledBack, "",
	} {
		head := fmt.Sprintf(`{"name":"win11","phase":%q,"plan":2,"open":{"7":{"attempt":3,"state":"sent"}}}`, phase)
		require.ErrorAs(t, fence.MayStart([]byte(head), "win11/2/7/3"), new(*fence.StaleError), phase)
	}
	for _, unreadable := range []string{"", "{", "null", `{"name":"other","phase":"running"}`, `{"name":"win11","open":[]}`} {
		err := fence.MayStart([]byte(unreadable), "win11/2/7/3")
		require.Error(t, err)
		require.NotErrorAs(t, err, new(*fence.StaleError), "%s: it is not known whether the batch may begin", unreadable)
	}
}

func TestTheClaimsOfDesktops(t *testing.T) {
	t.Parallel()
	require.Empty(t, fence.ClaimKeys(nil))
	require.Equal(t, []string{fence.ClaimKey(fence.ClaimPart("d-1"))}, fence.ClaimKeys([]string{"d-1", "D-1"}))
	var ids []string
	for i := range 5000 {
		ids = append(ids, fmt.Sprint("d-", i))
	}
	require.Len(t, fence.ClaimKeys(ids), rollout.ClaimParts)
	require.Equal(t, "rollout win11 holds a, b, c, d, e and 2 more: take them out with recompose rollout exclude, end it with "+
		"recompose rollout abort, or set override_rollout of a rebuild", fence.HeldText("win11", []string{"a", "b", "c", "d", "e", "f", "g"}))
}

// The package reads what package rollout writes.
func TestTheRecordsAreThoseOfPackageRollout(t *testing.T) {
	t.Parallel()
	require.Equal(t, rollout.LiveKey, fence.LiveKey)
	require.Equal(t, rollout.HeadKey("win11"), fence.HeadKey("win11"))
	require.Equal(t, rollout.ClaimKey(7), fence.ClaimKey(7))
	require.Equal(t, rollout.Live{Names: []string{"a"}}, fence.Live{Names: []string{"a"}})
	require.Equal(t, rollout.Claims{}, fence.Claims{}, "the same fields, with the same tags")
	for _, phase := range []string{
		rollout.Planning, rollout.Planned, rollout.Running, rollout.Paused, rollout.Halted, rollout.Aborting, rollout.RollingBack,
		rollout.Completed, rollout.Aborted, rollout.RolledBack,
	} {
		require.Equal(t, rollout.Over(phase), fence.Over(phase), phase)
	}
	for _, phase := range []string{rollout.Running, rollout.RollingBack} {
		head := fmt.Sprintf(`{"name":"win11","phase":%q,"open":{"0":{"state":%q}}}`, phase, rollout.Sent)
		require.NoError(t, fence.MayStart([]byte(head), "win11/0/0/0"))
	}
}
