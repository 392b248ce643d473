package functions_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/testkit/awstest"
)

// rolloutCommand publishes a command of a rollout as a sender does.
func (k *cloud) rolloutCommand(t *testing.T, typ, id string, data events.RolloutCommand) {
	t.Helper()
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	body, err := json.Marshal(events.Envelope{ID: id, Source: "test", Type: typ, Time: time.Now(), Correlation: id, Data: raw})
	require.NoError(t, err)
	k.Publish(string(body), map[string]string{"type": typ, "id": id})
}

// smallRollout is a rollout of all desktops: a canary of one, and one wave.
func (k *cloud) smallRollout(t *testing.T, name string) (spec json.RawMessage, image emulator.Image) {
	t.Helper()
	state := k.world.State()
	i := slices.IndexFunc(state.Images, func(i emulator.Image) bool {
		return !slices.ContainsFunc(state.Desktops, func(d emulator.Desktop) bool { return d.Metadata["metering.image_id"] == i.ID })
	})
	require.NotEqual(t, -1, i)
	s := rollout.Defaults()
	s.Name, s.Image.ImageID, s.Image.ImageType = name, state.Images[i].ID, state.Images[i].ImageType
	s.Targets.DesktopIDs = k.world.DesktopIDs()
	s.Strategy.Canary, s.Strategy.Waves, s.Strategy.MaxUnavailable = 1, []string{"100%"}, len(state.Desktops)
	s.Strategy.MaxFailed, s.Strategy.Soak = rollout.Amount{}, rollout.Duration(time.Second)
	s.Approval = rollout.Approval{}
	spec, err := json.Marshal(s)
	require.NoError(t, err)
	return spec, state.Images[i]
}

// serveAll runs all functions behind their queues, rollout with a second sandbox.
func (k *cloud) serveAll(t *testing.T) map[string]*awstest.Sandbox {
	t.Helper()
	second := k.start(t, events.FnRollout, nil)
	all := map[string]*awstest.Sandbox{}
	for _, name := range functions.Names() {
		all[name] = k.start(t, name, nil)
	}
	k.serve(t, all)
	k.serve(t, map[string]*awstest.Sandbox{events.FnRollout: second})
	all["second"] = second
	return all
}

// The real programs carry a rollout from its start to its end, with every message of the sender twice. The program of
// rollout has no credentials of the service.
func TestARolloutOfBootstraps(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 4, Speed: 2000})
	spec, image := k.smallRollout(t, "small")
	k.serveAll(t)
	for range 2 {
		k.rolloutCommand(t, events.TypeRolloutStart, "start", events.RolloutCommand{Spec: spec})
	}
	k.until(t, events.TypeRolloutCompleted)
	for _, d := range k.world.State().Desktops {
		require.Equal(t, image.ID, d.Metadata["metering.image_id"], d.DesktopID)
	}
	require.Equal(t, 2, k.rebuilt(), "the canary, and the wave")
	var all []events.Envelope
	for typ, es := range k.events(t) {
		if events.IsEvent(typ) {
			all = append(all, es...)
		}
	}
	require.Empty(t, events.Open(events.Root{ID: "start", Source: "test"}, all))
	for _, name := range functions.Names() {
		require.Empty(t, k.Messages(name+"-dead"), name)
	}
}

// A message of the timer wakes rollout, which has nothing to do.
func TestTheTimerWakesTheBootstrapOfRollout(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 1})
	s := k.start(t, events.FnRollout, nil)
	body := `{"specversion":"1.0","id":"e-1","source":"eventbridge/rollout",` +
		`"type":"recompose.internal.rollout.wake.v1","time":"2026-02-10T08:00:00Z","data":{}}`
	require.Empty(t, invoke(t, s, time.Minute, recordOf(events.FnRollout, "e-1", body)))
	require.Empty(t, k.events(t))
	require.Empty(t, k.Messages(events.FnRollout+"-dead"))
}
