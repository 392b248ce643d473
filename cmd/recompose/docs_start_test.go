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

// The commands of docs/start.md do what the page claims, with an emulator in the place of the real service. One desktop of
// the fleet fails at first. Four jobs are each polled for the first time after 10 s, as at the real service.
func TestTheFirstRebuildOfTheDocuments(t *testing.T) {
	t.Parallel()
	const ak, sk, project = "YOURACCESSKEY", "YOURSECRETKEY", "0a1b2c3d4e5f"
	world, err := emulator.New(emulator.Options{AccessKey: ak, SecretKey: sk, ProjectID: project, Desktops: 5, Speed: 600})
	require.NoError(t, err)
	t.Cleanup(func() { _ = world.Close() })
	site := httptest.NewServer(world)
	t.Cleanup(site.Close)
	ids, images := world.DesktopIDs(), world.State().Images
	require.NoError(t, world.SetFaults([]emulator.Fault{{Call: emulator.CallRebuild, DesktopID: ids[2], Times: 1, Do: emulator.Do{Job: "fail"}}}))

	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "bin"), 0o755))
	require.NoError(t, os.Symlink(binary(t, "recompose"), filepath.Join(dir, "bin", "recompose")))
	for name, text := range map[string]string{"secret-key": sk, "canary.txt": ids[0] + "\n", "fleet.txt": strings.Join(ids[1:], "\n") + "\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	natsAt := freePort(t)
	fits := strings.NewReplacer(
		"make build\n", "", // see TestTheCommandsInTheDocumentsAreReal
		"RECOMPOSE_REGION=ap-southeast-3", "RECOMPOSE_WORKSPACE_ENDPOINT="+site.URL,
		"recompose up\n", "exec recompose up --nats-listen "+natsAt+"\n",
		"IMAGE_ID=4f1c8b1e-0000-0000-0000-000000000000 IMAGE_TYPE=private", "IMAGE_ID="+images[1].ID+" IMAGE_TYPE="+images[1].ImageType,
		"PREVIOUS_ID=9a1f0c3e-0000-0000-0000-000000000000", "PREVIOUS_ID="+images[0].ID,
	)

	var terminal string // what was exported in it
	outputs := map[string]string{}
	for _, block := range shellBlocks(t, "../../docs/start.md") {
		script := fits.Replace(strings.Join(block, "\n") + "\n")
		p := start(t, []string{"NATS_URL=nats://" + natsAt}, "sh", "-euc", "cd '"+dir+"'\n"+terminal+script)
		if strings.Contains(script, "recompose up") {
			p.prints(t, "Ctrl-C ends it")
			terminal = "" // the page goes on in a second one
			continue
		}
		want := exitDone
		if strings.Contains(script, "--failed-to") {
			want = exitFailed
		}
		require.Equal(t, want, p.wait(t), script)
		outputs[block[len(block)-1]] = p.out.String()
		for line := range strings.Lines(script) {
			if strings.HasPrefix(line, "export ") {
				terminal += line
			}
		}
	}

	output := func(command string) string {
		for line, out := range outputs {
			if strings.HasPrefix(line, command) {
				return out
			}
		}
		require.Fail(t, "the page has no block that ends so", command)
		return ""
	}
	require.Contains(t, output("recompose lists show"), "1 desktop")
	require.Contains(t, output("recompose send checkimages"), images[0].ID)
	require.Contains(t, output("recompose send rebuild --desktop-ids-file canary.txt"), "1 of 1 desktop run image "+images[1].ID)
	failed, err := os.ReadFile(filepath.Join(dir, "failed.txt"))
	require.NoError(t, err)
	require.Contains(t, string(failed), ids[2])
	require.NotContains(t, string(failed), ids[1])
	require.Contains(t, output("recompose events --correlation fleet-1 --type job.completed"), ids[2])
	require.Contains(t, output("recompose send rebuild --desktop-ids-file failed.txt"), "1 of 1 desktop run image "+images[1].ID)
	require.Contains(t, output("recompose events --correlation fleet-1 --type job.accepted"), `"previous"`)
	require.Contains(t, output(`recompose send rebuild --desktop-ids-file fleet.txt --image-id "$PREVIOUS_ID"`), "4 of 4 desktops run image "+images[0].ID)
	require.Equal(t, []int{1, 2, 2, 2, 2}, counted(t, site.URL, ids))
}

// counted is how often each of these desktops was rebuilt.
func counted(t *testing.T, emulatorURL string, ids []string) []int {
	t.Helper()
	all := rebuilds(t, emulatorURL)
	var counts []int
	for _, id := range ids {
		counts = append(counts, all[id])
	}
	return counts
}
