package emulator_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
)

func TestASeedForWhatTextsName(t *testing.T) {
	t.Parallel()
	seed, project, err := emulator.SeedFor(
		`{"data": {"desktop_ids": ["d1", "d2", "d1", "../x", 7], "project_id": "p1", "image_id": "i1", "image_type": "market", "os_type": "Linux"}}`,
		`{"Records": [{"desktop_id": "d3", "then": {"rebuild": {"image_id": "i2", "image_type": "other", "image_name": "golden"}}}]}`,
		`{"project_id": "p2"}`, `{`, "null", `"d4"`)
	require.NoError(t, err)
	require.Equal(t, "p1", project)
	world, err := emulator.New(emulator.Options{Seed: seed, ProjectID: project})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, world.Close()) })
	require.Equal(t, []string{"d1", "d2", "d3"}, world.DesktopIDs())
	named := map[string]emulator.Image{}
	for _, i := range world.State().Images {
		named[i.ID] = i
	}
	require.Equal(t, "market Linux image-of-the-event", named["i1"].ImageType+" "+named["i1"].OSType+" "+named["i1"].Name)
	require.Equal(t, "private Windows golden", named["i2"].ImageType+" "+named["i2"].OSType+" "+named["i2"].Name)
}

func TestASeedForTextsThatNameNothing(t *testing.T) {
	t.Parallel()
	seed, project, err := emulator.SeedFor()
	require.NoError(t, err)
	require.Equal(t, emulator.DefaultProjectID, project)
	var state struct{ Desktops []json.RawMessage }
	require.NoError(t, json.Unmarshal(seed, &state))
	require.Len(t, state.Desktops, 1)
}
