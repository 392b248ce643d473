package functions_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/testkit/functiontest"
)

// sampleWorld is a service that has all desktops and images of the samples. The image of a chain is a private one.
func sampleWorld(t *testing.T, imageType string) emulator.Options {
	t.Helper()
	world, err := emulator.New(emulator.Options{Desktops: 4})
	require.NoError(t, err)
	state := world.State()
	require.NoError(t, world.Close())
	for i, id := range []string{
		"21616aa6-061d-4b2f-bd83-b230d7a9a14c", "f77db5cd-c020-47d4-bbbe-9b979a38d18c",
		"f77db5cd-c020-47d4-bbbe-9b979a38d18b", "a130ab3a-72bf-4b71-baa9-af4987c8e338",
	} {
		state.Desktops[i].DesktopID = id
	}
	gold := slices.IndexFunc(state.Images, func(i emulator.Image) bool { return i.ImageType == "gold" })
	require.NotEqual(t, -1, gold)
	image := state.Images[gold]
	image.ImageType, image.ID, image.Name = imageType, "b669106a-1395-4f24-92af-d884c227e558", "of the samples"
	state.Images = append(state.Images, image)
	seed, err := json.Marshal(state)
	require.NoError(t, err)
	return emulator.Options{Seed: seed, ProjectID: "0bec5db98280d2d02fd6c00c2de791ce"}
}

// The real program of each function handles its samples for `sam local invoke`. None is listed as failed: an invalid
// sample ends in an event or a dead letter.
func TestEachProgramTakesItsSamples(t *testing.T) {
	t.Parallel()
	seed, chain := sampleWorld(t, "gold"), sampleWorld(t, "private")
	files, err := filepath.Glob("../events/sqs/*.json")
	require.NoError(t, err)
	for name := range functiontest.Samples {
		require.FileExists(t, "../events/sqs/"+name+".json", "make golden writes it")
	}
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, ok := functiontest.Samples[name]
			require.True(t, ok, "the table of expected results has no such sample")
			function, _, _ := strings.Cut(name, ".")
			require.Contains(t, functions.Names(), function)
			world := seed
			if strings.HasSuffix(name, ".reaction") {
				world = chain
			}
			k := newCloud(t, world)
			s := k.start(t, function, map[string]string{"HUAWEICLOUD_SDK_PROJECT_ID": "0bec5db98280d2d02fd6c00c2de791ce", "RECOMPOSE_CONCURRENCY": "1"})
			event, err := os.ReadFile(path)
			require.NoError(t, err)
			answer, err := s.Invoke(t.Context(), event, time.Minute)
			require.NoError(t, err)
			require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
			published := map[string]int{}
			for typ, es := range k.events(t) {
				published[typ] = len(es)
			}
			require.Equal(t, want.Counts(), published)
			require.Len(t, k.Messages(function), want.Delayed)
			require.Len(t, k.Messages(function+"-dead"), want.Dead)
		})
	}
}
