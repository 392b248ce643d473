package main

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
	"recompose/shared/store/natsstore"
)

// A running `recompose up` refuses a plain rebuild of a desktop that a rollout holds; a rebuild that expires while writes
// are frozen ends without a call.
func TestAPlainRebuildOfADesktopOfARolloutIsRefused(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	world := h.world
	held := world.Desktops[1].DesktopID
	send := func(id string, more ...string) ran {
		return h.run(t, append([]string{
			"send", "rebuild", "--desktop-ids", id, "--image-id", world.Images[1].ID, "--image-type", world.Images[1].ImageType, "--wait",
		}, more...)...)
	}
	nc, err := nats.Connect(h.nats)
	require.NoError(t, err)
	defer nc.Close()
	rollouts, err := natsstore.Open(t.Context(), nc, natsstore.Options{Bucket: natsstore.Rollouts, Verify: true})
	require.NoError(t, err)
	for key, value := range map[string]string{
		rollout.ClaimKey(fence.ClaimPart(held)): fmt.Sprintf(`{"desktops":{%q:"win11"}}`, held),
		rollout.HeadKey("win11"):                `{"name":"win11","phase":"running","plan":1}`,
		rollout.LiveKey:                         `{"names":["win11"]}`,
	} {
		_, err := rollouts.Put(t.Context(), key, []byte(value), 0)
		require.NoError(t, err)
	}

	r := send(held)
	require.Equal(t, exitFailed, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "rollout win11 holds "+held)
	require.Contains(t, r.out, "override_rollout")
	require.Empty(t, acceptedWrites(t, h.emulator))
	r = send(world.Desktops[2].DesktopID)
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	r = send(held, "--override-rollout")
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.Len(t, acceptedWrites(t, h.emulator), 2)

	require.Equal(t, exitDone, h.run(t, "freeze", "--reason", "look first").code)
	r = send(world.Desktops[0].DesktopID, "--not-after", "2s")
	require.Equal(t, exitFailed, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "expirytime: passed at")
	require.Len(t, acceptedWrites(t, h.emulator), 2)
}
