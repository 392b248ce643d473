package functions_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/once"
	"recompose/shared/safety"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
)

// newBusWith is newBus with other options of the workers.
func newBusWith(t *testing.T, change func(o *once.Options)) *bus {
	b := &bus{Rig: functiontest.New(t, 3)}
	options := b.Options()
	options.Rollouts = memstore.New()
	change(&options)
	b.fns = functions.New(b.Config, b.API, options)
	return b
}

// startAll starts rollout r of all desktops in one wave.
func (b *bus) startAll() { b.startNamed("r") }

func (b *bus) startNamed(name string) {
	image, imageType := b.OtherImage()
	raw, err := json.Marshal(map[string]any{
		"name": name, "image": map[string]any{"image_id": image, "image_type": imageType}, "targets": map[string]any{"desktop_ids": b.Desktops},
		"strategy": map[string]any{"canary": 0, "waves": []string{"100%"}, "max_unavailable": len(b.Desktops), "max_failed": 0},
	})
	require.NoError(b.TB, err)
	b.send(events.TypeRolloutStart, "start "+name, events.RolloutCommand{Spec: raw})
}

func TestAPlanDuringAFreezeKnowsTheLists(t *testing.T) {
	t.Parallel()
	operators := &safety.Operators{Store: memstore.New()}
	b := newBusWith(t, func(o *once.Options) { o.Safety = safety.New(safety.Options{Operators: operators}) })
	_, err := operators.SetList(t.Context(), safety.DenyList, b.Desktops[1:2], "ada")
	require.NoError(t, err)
	require.NoError(t, operators.SetFreeze(t.Context(), safety.Freeze{Reason: "storm"}))
	b.startAll()
	require.Equal(t, map[string]int{"pending": 2, "refused": 1}, b.run(events.TypeRolloutPlanned, 1).Counts)
}

func TestAPlanWaitsForListsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "deny")
	b := newBusWith(t, func(o *once.Options) {
		o.Safety = safety.New(safety.Options{Files: &safety.Files{DenyDesktopsFile: file}})
	})
	b.startAll()
	reason := ""
	for n := 0; reason == ""; n++ {
		require.Less(t, n, 50)
		next := b.due[0]
		b.due = b.due[1:]
		b.Clock.Add(max(next.at.Sub(b.Clock.Now()), 0))
		result := b.Process(next.f, next.message())
		require.Nil(t, b.store(result, events.TypeRolloutPlanned), "a plan without the lists")
		if result.Delay != nil {
			reason = result.Delay.Reason
		}
	}
	require.Contains(t, reason, "the lists of desktops")
	require.NoError(t, os.WriteFile(file, []byte(b.Desktops[1]+"\n"), 0o600))
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Unix(0, 0))) // a first list that was just written waits
	require.Equal(t, map[string]int{"pending": 2, "refused": 1}, b.run(events.TypeRolloutPlanned, 1).Counts)
}
