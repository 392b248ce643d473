package getdesktop_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/functiontest"
	"recompose/functions/getdesktop"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func command(r *functiontest.Rig) queue.Delivery {
	return r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: r.Desktops[0]})
}

func function(r *functiontest.Rig) queue.Function { return getdesktop.New(r.API) }

func TestDescribesTheDesktop(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	e := functiontest.Only(t, r.Process(function(r), command(r)))
	said := functiontest.Data[struct{ Desktop workspace.Desktop }](t, e, events.TypeDesktopDescribed)
	want, err := r.API.GetDesktop(t.Context(), r.Desktops[0])
	require.NoError(t, err)
	require.Equal(t, want, said.Desktop)
	require.Equal(t, r.Desktops[0], said.Desktop.DesktopID)
	require.Equal(t, "c1", e.Causation)
	require.Equal(t, "chain", e.Correlation)

	again := functiontest.Only(t, r.Process(function(r), command(r)))
	require.Equal(t, e.ID, again.ID, "the same command says it under the same id")
}

func TestOneShapeWhateverCameIn(t *testing.T) {
	t.Parallel()
	for _, quirk := range []string{"desktop-array", "addresses-array", "metadata-number", "times-without-zone", "process-null", "task-status-null"} {
		t.Run(quirk, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 3)
			r.Faults(emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Quirk: quirk}})
			e := functiontest.Only(t, r.Process(function(r), command(r)))
			said := functiontest.Data[struct {
				Desktop struct {
					DesktopID string                         `json:"desktop_id"`
					Addresses map[string][]workspace.Address `json:"addresses"`
					Metadata  map[string]string              `json:"metadata"`
					Created   string                         `json:"created"`
				}
			}](t, e, events.TypeDesktopDescribed)
			require.Equal(t, r.Desktops[0], said.Desktop.DesktopID)
			require.NotEmpty(t, said.Desktop.Addresses)
			require.NotEmpty(t, said.Desktop.Metadata)
			require.Regexp(t, `^\d{4}-\d\d-\d\dT[\d:.]+Z$`, said.Desktop.Created)
		})
	}
}

func TestUnknownFieldsArePassedThrough(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	plain := functiontest.Only(t, r.Process(function(r), command(r)))
	r.Faults(emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Quirk: "unknown-fields"}})
	more := functiontest.Only(t, r.Process(function(r), command(r)))
	require.Greater(t, len(more.Data), len(plain.Data))
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.ReadStatuses(t, emulator.CallGetDesktop, function, command)
}

func TestUnknownDesktop(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	d := r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: "no-such-desktop"})
	failed := functiontest.Data[events.CommandFailed](t, functiontest.Only(t, r.Process(function(r), d)), events.TypeCommandFailed)
	require.Equal(t, events.KindNotFound, failed.Error.Kind)
	require.Equal(t, []string{"no-such-desktop"}, failed.DesktopIDs)
}

func TestRefusesWithoutACall(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ data, kind, says string }{
		"no desktop":      {`{}`, events.KindInvalid, "desktop_id: must be given"},
		"a path":          {`{"desktop_id":"../images"}`, events.KindInvalid, "desktop_id"},
		"another project": {`{"desktop_id":"d1","project_id":"p2"}`, events.KindNotAllowed, "project_id"},
		"unknown field":   {`{"desktop_id":"d1","desktop":"d2"}`, events.KindInvalid, "desktop: is not a field"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 1)
			e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeGetDesktop, "c1", c.data)))
			failed := functiontest.Data[events.CommandFailed](t, e, events.TypeCommandFailed)
			require.Equal(t, c.kind, failed.Error.Kind)
			require.Contains(t, failed.Error.ErrorMsg, c.says)
			require.Empty(t, r.Emulator.Requests(0, 0))
		})
	}
}
