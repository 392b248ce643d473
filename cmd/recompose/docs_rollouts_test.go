package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
)

// The commands of docs/rollouts.md do what the page claims, on an emulator with 40 desktops: the plan, the approval, the
// end, and the way back.
func TestTheRolloutOfTheDocuments(t *testing.T) {
	t.Parallel()
	world, err := emulator.New(emulator.Options{Desktops: 40, Speed: 600})
	require.NoError(t, err)
	t.Cleanup(func() { _ = world.Close() })
	site := httptest.NewServer(world)
	t.Cleanup(site.Close)
	ids, images := world.DesktopIDs(), world.State().Images

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.Symlink(binary(t, "recompose"), filepath.Join(dir, "bin", "recompose")))
	natsAt := freePort(t)
	env := []string{"NATS_URL=nats://" + natsAt}
	path := `export PATH="$PWD/bin:$PATH"` + "\n"
	running := start(t, env, "sh", "-euc", "cd '"+dir+"'\n"+path+"exec env RECOMPOSE_WORKSPACE_ENDPOINT="+site.URL+
		" HUAWEICLOUD_SDK_AK="+emulator.DefaultAccessKey+" HUAWEICLOUD_SDK_SK="+emulator.DefaultSecretKey+
		" HUAWEICLOUD_SDK_PROJECT_ID="+emulator.DefaultProjectID+" recompose up --nats-listen "+natsAt)
	running.prints(t, "Ctrl-C ends it")

	fits := strings.NewReplacer(
		"4f1c8b1e-0000-0000-0000-000000000000, image_type: private", images[1].ID+", image_type: "+images[1].ImageType,
		"9a1f0c3e-0000-0000-0000-000000000000", images[0].ID,
		"soak: 10m", "soak: 1s", "delay_time: 15, ", "",
		`window: {days: [sat], from: "20:00", to: "06:00", timezone: Europe/Berlin}`+"\n", "",
		"recompose rollout approve office-november\n", "recompose rollout approve office-november --yes --wait\n",
		"recompose rollout rollback office-november\n", "recompose rollout rollback office-november --yes\n",
	)
	outputs := map[string]string{}
	for _, block := range shellBlocks(t, "../../docs/rollouts.md") {
		script := fits.Replace(strings.Join(block, "\n") + "\n")
		p := start(t, env, "sh", "-euc", "cd '"+dir+"'\n"+path+script)
		require.Equal(t, exitDone, p.wait(t), "%s\n%s", script, p.out.String())
		outputs[block[0]] = p.out.String()
	}
	require.Contains(t, outputs["recompose rollout plan -f office.yaml"], "canary of 5 desktops")
	require.Contains(t, outputs["recompose rollout approve office-november"], "completed")
	require.Contains(t, outputs["recompose rollout rollback office-november"], "rolled back")
	require.Equal(t, 2*len(ids), sum(counted(t, site.URL, ids)))
	for _, d := range world.State().Desktops {
		require.Equal(t, images[0].ID, d.Metadata["metering.image_id"], d.DesktopID)
	}
}

func sum(numbers []int) int {
	total := 0
	for _, n := range numbers {
		total += n
	}
	return total
}
