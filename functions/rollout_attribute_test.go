package functions_test

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/rollout/fence"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
)

// carry passes a command through the functions until nothing more follows, and returns the commands and events on the
// way.
func carry(t *testing.T, r *functiontest.Rig, command events.Envelope) (passed []events.Envelope) {
	t.Helper()
	type message struct {
		function queue.Function
		delivery queue.Delivery
	}
	options := r.Options()
	options.Rollouts = memstore.New()
	_, err := options.Rollouts.Put(t.Context(), fence.HeadKey("nov"), []byte(`{"name":"nov","phase":"running","plan":1,"open":{"0":{"attempt":1,"state":"sent"}}}`), 0)
	require.NoError(t, err)
	table := functions.New(r.Config, r.API, options)
	var waiting []message
	add := func(e events.Envelope, takes func(queue.Function) bool) {
		passed = append(passed, e)
		for _, f := range table {
			if takes(f) && f.Name != events.FnRollout { // it has no record of the batch
				waiting = append(waiting, message{f, r.Message(e)})
			}
		}
	}
	add(command, func(f queue.Function) bool { return slices.Contains(f.Types, command.Type) })
	for steps := 0; len(waiting) > 0; steps++ {
		require.Less(t, steps, 2000, "it goes on for ever")
		m := waiting[0]
		waiting = waiting[1:]
		result := r.Process(m.function, m.delivery)
		require.NoError(t, result.Retry)
		require.NoError(t, result.Stop)
		for _, n := range result.Next {
			add(n.Envelope, func(f queue.Function) bool { return f.Name == n.Function })
		}
		for _, e := range result.Events {
			add(e, func(f queue.Function) bool { return slices.Contains(f.Reacts, e.Type) })
		}
		if result.Delay != nil {
			passed = append(passed, result.Delay.Envelope)
			waiting = append(waiting, message{m.function, r.Later(result.Delay)})
		}
	}
	return passed
}

// What follows from a command of a rollout belongs to the rollout: parts, delayed forms, notices, events and the checks.
func TestTheRolloutOfACommandIsOnAllThatFollows(t *testing.T) {
	t.Parallel()
	for name, attribute := range map[string]string{"of a rollout": "nov/1/0/1", "of none": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 150)
			r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "after"}})
			image, kind := r.OtherImage()
			types := map[string]int{}
			follow := func(id string, data any) {
				d := r.Command(events.TypeRebuild, id, data)
				command, err := events.Decode(d.Headers, d.Body, d.Bare)
				require.NoError(t, err)
				command.Rollout = attribute
				for _, e := range carry(t, r, command) {
					types[e.Type]++
					require.Equal(t, attribute, e.Rollout, "%s %s", e.Type, e.Data)
					written, err := events.Marshal(e)
					require.NoError(t, err)
					require.Equal(t, attribute != "", slices.Contains(fields(t, written), "rollout"))
				}
			}
			follow("all", events.Rebuild{DesktopIDs: r.Desktops, ImageID: image, ImageType: kind})
			follow("not valid", `{"desktop_ids":[]}`)
			for _, typ := range []string{
				events.TypeRebuild, events.TypeCommandSplit, events.TypeCommandUnclear, events.TypeJobAccepted, events.TypeJobProgress,
				events.TypeJobCompleted, events.TypeImagesChecked, events.TypeCommandFailed,
			} {
				require.NotZero(t, types[typ], typ)
			}
		})
	}
}

// fields are the names of the fields of a JSON object.
func fields(t *testing.T, object []byte) (names []string) {
	t.Helper()
	var o map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(object, &o))
	return slices.Collect(maps.Keys(o))
}
