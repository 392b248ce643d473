package rebuild_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
)

// put replaces a record of a rollout.
func put(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	_, rev, _ := s.Get(t.Context(), key)
	_, err := s.Put(t.Context(), key, []byte(value), rev)
	require.NoError(t, err)
}

// withRollouts is the function of a worker that has records of rollouts.
func withRollouts(r *functiontest.Rig) (queue.Function, store.Store) {
	o := r.Options()
	o.Rollouts = memstore.New()
	return rebuild.New(r.API, r.EngineWith(o)), o.Rollouts
}

// batchCommand is a command of the first batch of a rollout.
func batchCommand(r *functiontest.Rig, id string, cmd events.Rebuild) queue.Delivery {
	e := events.Envelope{
		ID: id, Source: "recompose/rollout", Type: events.TypeRebuild, Time: r.Clock.Now(), Correlation: "chain", Rollout: "win11/1/0/1",
	}
	e.Expiry = r.Clock.Now().Add(3 * time.Minute)
	return r.Message(withData(r, e, cmd))
}

const sentHead = `{"name":"win11","phase":"running","plan":1,"open":{"0":{"attempt":1,"state":"sent"}}}`

// A batch that waited in its queue while its rollout was paused, halted or aborted is not sent.
func TestABatchThatItsRolloutTookBackIsNotRebuilt(t *testing.T) {
	t.Parallel()
	for name, head := range map[string]string{
		"paused":          `{"name":"win11","phase":"paused","plan":1,"open":{"0":{"attempt":1,"state":"sent"}}}`,
		"aborting":        `{"name":"win11","phase":"aborting","plan":1,"open":{"0":{"attempt":1,"state":"sent"}}}`,
		"a later plan":    `{"name":"win11","phase":"rolling_back","plan":2,"open":{"0":{"attempt":1,"state":"sent"}}}`,
		"a later attempt": `{"name":"win11","phase":"running","plan":1,"open":{"0":{"attempt":2,"state":"sent"}}}`,
		"gone":            "",
		"as it was":       sentHead,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 3)
			f, rollouts := withRollouts(r)
			if head != "" {
				put(t, rollouts, rollout.HeadKey("win11"), head)
			}
			e := functiontest.Only(t, r.Process(f, batchCommand(r, "b1", data(r))))
			require.Equal(t, "win11/1/0/1", e.Rollout)
			if head == sentHead {
				functiontest.Data[events.JobAccepted](t, e)
				return
			}
			failed := functiontest.Data[events.CommandFailed](t, e)
			require.Equal(t, events.KindExpired, failed.Error.Kind)
			require.Equal(t, events.EffectNone, failed.Effect)
			require.Equal(t, r.Desktops, failed.DesktopIDs)
			asked, _ := r.Calls(emulator.CallRebuild)
			require.Zero(t, asked)
		})
	}
}

// The parts of a batch read the head, too: none is sent once the rollout is paused.
func TestThePartsOfABatchAreStoppedToo(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 4)
	f, rollouts := withRollouts(r)
	put(t, rollouts, rollout.HeadKey("win11"), sentHead)
	cmd := data(r)
	cmd.DesktopIDs = append([]string{"deleted-desktop"}, r.Desktops...)
	result := r.Follow(f, batchCommand(r, "b1", cmd))
	functiontest.Data[events.CommandSplit](t, result.Events[0])
	require.Len(t, result.Next, 2)
	put(t, rollouts, rollout.HeadKey("win11"), `{"name":"win11","phase":"paused","plan":1}`)
	for _, part := range result.Next {
		require.Equal(t, "win11/1/0/1", part.Envelope.Rollout)
		e := functiontest.Only(t, r.Follow(f, r.Message(part.Envelope)))
		failed := functiontest.Data[events.CommandFailed](t, e)
		require.Equal(t, events.KindExpired, failed.Error.Kind)
		require.Contains(t, failed.Error.ErrorMsg, "rollout win11 is paused")
	}
	_, accepted := r.Calls(emulator.CallRebuild)
	require.Zero(t, accepted)
}

func TestADesktopOfARolloutIsRefused(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	f, rollouts := withRollouts(r)
	held := r.Desktops[1]
	put(t, rollouts, rollout.LiveKey, `{"names":["win11"]}`)
	put(t, rollouts, rollout.HeadKey("win11"), sentHead)
	put(t, rollouts, rollout.ClaimKey(fence.ClaimPart(held)), fmt.Sprintf(`{"desktops":{%q:"win11"}}`, held))

	failed := functiontest.OnlyData[events.CommandFailed](t, r.Process(f, command(r)))
	require.Equal(t, events.KindConflict, failed.Error.Kind)
	require.Equal(t, events.EffectNone, failed.Effect)
	require.Equal(t, r.Desktops, failed.DesktopIDs, "none of the command is done")
	for _, want := range []string{"rollout win11 holds " + held, "rollout exclude", "rollout abort", "override_rollout"} {
		require.Contains(t, failed.Error.ErrorMsg, want)
	}
	require.Contains(t, failed.Error.ErrorDetail, "win11: "+held)
	_, accepted := r.Calls(emulator.CallRebuild)
	require.Zero(t, accepted)

	// The others, then this one with the override, then after the end of the rollout.
	for i, allowed := range []func(*events.Rebuild){
		func(c *events.Rebuild) { c.DesktopIDs = []string{r.Desktops[0], r.Desktops[2]} },
		func(c *events.Rebuild) { c.DesktopIDs, c.OverrideRollout = []string{held}, true },
		func(c *events.Rebuild) {
			c.DesktopIDs, c.RebuildCurrent = []string{held}, true
			put(t, rollouts, rollout.HeadKey("win11"), `{"name":"win11","phase":"completed","plan":1}`)
		},
	} {
		cmd := events.Rebuild{ImageID: emulator.OtherGoldImageID, ImageType: "gold"}
		allowed(&cmd)
		e := functiontest.Only(t, r.Follow(f, r.Command(events.TypeRebuild, fmt.Sprint("allowed-", i), cmd)))
		functiontest.Data[events.JobAccepted](t, e)
		r.Clock.Add(time.Hour)
	}
}

// With when_busy fail the busy desktops end as conflict, without effect, and the others are rebuilt.
func TestBusyDesktopsThatAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, busy := range map[string]int{"some": 2, "all": 5, "one of one": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desktops := 5
			if name == "one of one" {
				desktops = 1
			}
			r := functiontest.New(t, desktops)
			cmd := data(r)
			other := cmd.Only(r.Desktops[:busy])
			other.DelayTime = 60
			functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "other", other)))
			begin := r.Clock.Now()
			cmd.WhenBusy = events.BusyFails
			_, ends := chain(t, r, function(r), r.Command(events.TypeRebuild, "c1", cmd))
			require.Less(t, r.Clock.Now().Sub(begin), 10*time.Minute, "it does not wait for the other job")
			for i, id := range r.Desktops {
				want := "accepted"
				if i < busy {
					want = events.KindConflict
				}
				require.Equal(t, want, ends[id])
			}
			r.Clock.Add(2 * time.Hour)
			for _, d := range r.Emulator.State().Desktops {
				require.Equal(t, 1, d.Notes.Rebuilds)
			}
		})
	}
}

// withData is an envelope with the data of a command.
func withData(r *functiontest.Rig, e events.Envelope, cmd events.Rebuild) events.Envelope {
	raw, err := json.Marshal(cmd)
	require.NoError(r.TB, err)
	e.Data = raw
	return e
}
