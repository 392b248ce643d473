package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
	"recompose/shared/store/natsstore"
)

// Without the records of rollouts no rollout seems to live: a plain rebuild would wipe a desktop that a rollout holds.
func TestRecordsOfRolloutsThatAreGoneStopWrites(t *testing.T) {
	t.Parallel()
	r := newLossRig(t)
	r.ready(t)
	nc, _ := r.connect(t)
	rollouts, err := natsstore.Open(t.Context(), nc, natsstore.Options{Bucket: natsstore.Rollouts, Verify: true})
	require.NoError(t, err)
	for key, value := range map[string]string{
		rollout.ClaimKey(fence.ClaimPart(r.desktops[0])): fmt.Sprintf(`{"desktops":{%q:"win11"}}`, r.desktops[0]),
		rollout.HeadKey("win11"):                         `{"name":"win11","phase":"running","plan":1}`,
		rollout.LiveKey:                                  `{"names":["win11"]}`,
	} {
		_, err := rollouts.Put(t.Context(), key, []byte(value), 0)
		require.NoError(t, err)
	}
	r.send(t, 0, 2)
	eventually(t, func() bool { return r.ends(t) == 2 }, "the commands do not end")
	require.Equal(t, 1, r.writes(t), "one of the desktops is held")
	nc.Close()
	r.stop(t)

	require.NoError(t, os.RemoveAll(r.store("KV_RECOMPOSE_ROLLOUTS")))
	r.begin(t) // makes the bucket anew
	r.lost(t)
	require.Contains(t, r.up.err.String(), "the bucket of rollouts was created at")
	r.up.prints(t, "Ctrl-C ends it")
	r.send(t, 2, 3)
	eventually(t, func() bool { return r.waiting(t, "RECOMPOSE_COMMANDS") == 0 }, "the command is not taken")
	require.Equal(t, 1, r.writes(t))
	asked := finish(t, r.env(), "rollout", "pause", "win11", "--reason", "x", "--timeout", "2s")
	require.NotContains(t, asked.out+asked.errOut, "there is no rollout")
	refused := finish(t, r.env(), "setup")
	require.Equal(t, exitFailed, refused.code)
	require.Contains(t, refused.errOut, "the bucket of rollouts was created at")
	require.Contains(t, refused.errOut, "--accept-ledger-loss")

	accepted := finish(t, r.env(), "setup", "--accept-ledger-loss")
	require.Equal(t, exitDone, accepted.code, accepted.errOut)
	require.Contains(t, accepted.out, "a rollout whose records are lost holds no desktop")
	require.Contains(t, accepted.out, "frozen since")
	require.Equal(t, exitDone, finish(t, r.env(), "thaw").code)
	eventually(t, func() bool { return r.writes(t) == 2 }, "what waited is not begun")
	r.ready(t)
}
