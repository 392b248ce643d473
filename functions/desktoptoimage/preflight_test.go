package desktoptoimage_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/desktoptoimage"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/rollout/fence"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
)

// A desktop that cannot be captured is refused before the call; what is not known about sysprep holds nothing up.
func TestTheDesktopIsCheckedBeforeItsCapture(t *testing.T) {
	t.Parallel()
	sysprep := func(do emulator.Do) *emulator.Fault { return &emulator.Fault{Call: emulator.CallSysprep, Do: do} }
	for name, test := range map[string]struct {
		status, task string
		sysprep      bool
		fault        *emulator.Fault
		kind, text   string // "": the capture begins
	}{
		"ready":                            {"ACTIVE", "", true, nil, "", ""},
		"off":                              {"SHUTOFF", "", false, nil, events.KindConflict, "is SHUTOFF; start it first"},
		"in error":                         {"ERROR", "", true, nil, events.KindConflict, "is ERROR"},
		"with a task":                      {"ACTIVE", "rebooting", false, nil, events.KindConflict, "has the task rebooting"},
		"without sysprep tools":            {"ACTIVE", "", true, sysprep(emulator.Do{Quirk: "sysprep-unsupported"}), events.KindRefused, "execute_sysprep: desktop"},
		"without sysprep tools, not asked": {"ACTIVE", "", false, sysprep(emulator.Do{Quirk: "sysprep-unsupported"}), "", ""},
		"sysprep is not in the answer":     {"ACTIVE", "", true, sysprep(emulator.Do{Quirk: "sysprep-missing"}), "", ""},
		"sysprep cannot be read":           {"ACTIVE", "", true, sysprep(emulator.Do{Status: 500}), "", ""},
		"the region has no such call":      {"ACTIVE", "", true, sysprep(emulator.Do{Quirk: "gateway-404"}), "", ""},
		"too many calls":                   {"ACTIVE", "", true, &emulator.Fault{Call: emulator.CallSysprep, Times: 1, Do: emulator.Do{Quirk: "throttled"}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed := functiontest.New(t, 2).Emulator.State()
			seed.Desktops[0].Status, seed.Desktops[0].TaskStatus = test.status, test.task
			raw, err := json.Marshal(seed)
			require.NoError(t, err)
			r := functiontest.NewWith(t, emulator.Options{Seed: raw})
			if test.fault != nil {
				r.Faults(*test.fault)
			}
			cmd := data(r)
			cmd.ExecuteSysprep = test.sysprep
			e := functiontest.Only(t, r.Follow(function(r), r.Command(events.TypeDesktopToImage, "c1", cmd)))
			asked, _ := r.Calls(emulator.CallSysprep)
			if !test.sysprep {
				require.Zero(t, asked)
			}
			if test.kind == "" {
				functiontest.Data[events.JobAccepted](t, e)
				return
			}
			failed := functiontest.Data[events.CommandFailed](t, e)
			require.Equal(t, test.kind, failed.Error.Kind)
			require.Contains(t, failed.Error.ErrorMsg, test.text)
			require.Equal(t, events.EffectNone, failed.Effect)
			asked, _ = r.Calls(emulator.CallDesktopToImage)
			require.Zero(t, asked)
		})
	}
}

func TestADesktopThatARolloutHoldsIsNotCaptured(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	o := r.Options()
	o.Rollouts = memstore.New()
	for key, value := range map[string]string{
		rollout.LiveKey:          `{"names":["win11"]}`,
		rollout.HeadKey("win11"): `{"name":"win11","phase":"halted"}`,
		rollout.ClaimKey(fence.ClaimPart(r.Desktops[0])): `{"desktops":{"` + r.Desktops[0] + `":"win11"}}`,
	} {
		_, err := o.Rollouts.Put(t.Context(), key, []byte(value), 0)
		require.NoError(t, err)
	}
	e := functiontest.Only(t, r.Process(desktoptoimage.New(r.API, r.EngineWith(o)), command(r)))
	failed := functiontest.Data[events.CommandFailed](t, e)
	require.Equal(t, events.KindConflict, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, "rollout win11 holds "+r.Desktops[0])
	asked, _ := r.Calls(emulator.CallDesktopToImage)
	require.Zero(t, asked)
}
