package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
	"recompose/shared/rollout"
)

// TestARolloutFromPlanToRollback drives the commands against a running `recompose up`.
func TestARolloutFromPlanToRollback(t *testing.T) {
	t.Parallel()
	h := newHome(t, 12)
	world := h.world
	image, before := demoImage(world)
	var ids []string
	for _, d := range world.Desktops {
		ids = append(ids, d.DesktopID)
	}
	spec := specOf(t, fmt.Sprintf(`name: november
image: {image_id: %s, image_type: %s}
targets: {file: ids.csv}
strategy: {canary: 2, waves: ["50%%", "100%%"], max_unavailable: 12, max_failed: 0, soak: 100ms}
approval: {required: true}
`, image.ID, image.ImageType))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(spec), "ids.csv"), []byte("desktop_id\n"+strings.Join(ids, "\n")+"\n"), 0o600))
	do := func(code int, args ...string) ran {
		t.Helper()
		r := h.run(t, args...)
		require.Equal(t, code, r.code, r.out+r.errOut)
		return r
	}
	status := func() rollout.Status {
		var s rollout.Status
		require.NoError(t, json.Unmarshal([]byte(do(exitDone, "rollout", "status", "november", "--json").out), &s))
		return s
	}

	r := do(exitDone, "rollout", "plan", "-f", spec, "--csv")
	require.Equal(t, 13, strings.Count(r.out, "\n"), r.out)
	require.Contains(t, do(exitDone, "rollout", "plan", "-f", spec).out, "desktops  12 are rebuilt")
	require.Contains(t, do(exitDone, "drift", "-f", spec).out, "targets   12: 0 run it, 12 differ, 0 are not known to the service")

	r = do(exitPerson, "rollout", "start", "-f", spec, "--wait")
	digest := status().Digest
	require.Contains(t, r.out, "rollout approve november --plan-sha256 "+digest)
	require.Contains(t, do(exitFailed, "rollout", "start", "-f", spec).errOut, "november was used before")
	require.Contains(t, do(exitFailed, "rollout", "approve", "november", "--plan-sha256", strings.Repeat("0", 64)).errOut, "the plan in force is "+digest)
	require.Equal(t, exitUsage, do(exitUsage, "rollout", "approve", "november").code, "there is no terminal to ask on")

	bad := ids[len(ids)-1]
	h.faults(t, emulator.Fault{Call: emulator.CallRebuild, DesktopID: bad, Times: 1, Do: emulator.Do{Job: "fail", ErrorCode: "WKS.1", ErrorMsg: "made up"}})

	r = do(exitFailed, "rollout", "approve", "november", "--yes", "--wait")
	require.Contains(t, r.out, "halted")
	require.Contains(t, r.out, "rollout retry november")
	halted := status()
	require.Equal(t, rollout.Halted, halted.Phase)
	require.Len(t, halted.Failures, 1)
	require.Equal(t, bad, halted.Failures[0].DesktopID)
	require.Contains(t, do(exitDone, "rollout", "status", "november").out, "failures  failed, WKS.1, made up: "+bad)
	require.Contains(t, do(exitDone, "rollout", "list").out, "halted")

	do(exitPerson, "rollout", "retry", "november", "--wait")
	do(exitDone, "rollout", "approve", "november", "--yes", "--wait")
	require.Equal(t, rollout.Counts{rollout.Done: 12}, status().Counts)
	require.Contains(t, do(exitDone, "drift", "-f", spec).out, "targets   12: 12 run it, 0 differ")
	require.Contains(t, do(exitDone, "rollout", "status", "november", "--watch").out, "completed: 12 done")

	do(exitPerson, "rollout", "rollback", "november", "--desktop-ids", bad, "--wait")
	r = do(exitDone, "rollout", "approve", "november", "--yes", "--wait")
	require.Contains(t, r.out, "rollback  1 desktop is rebuilt: the data on their system disks is lost\nback to   1: image "+before[bad])
	require.NotContains(t, r.out, ". pending", "the cells are read")
	getJSON(t, h.emulator+"/_emulator/state", &world)
	for _, d := range world.Desktops {
		want := image.ID
		if d.DesktopID == bad {
			want = before[bad]
		}
		require.Equal(t, want, d.Metadata["metering.image_id"], d.DesktopID)
	}
}
