package rebuild_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/once"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func linux(r *functiontest.Rig) events.Rebuild {
	return events.Rebuild{DesktopIDs: r.Desktops, ImageType: "gold", ImageID: emulator.LinuxGoldImageID}
}

// process follows a rebuild to its one event, and counts the rebuilds that the service accepted.
func process(t *testing.T, r *functiontest.Rig, id string, cmd events.Rebuild) (events.Envelope, int) {
	t.Helper()
	e := functiontest.Only(t, r.Follow(function(r), r.Command(events.TypeRebuild, id, cmd)))
	_, accepted := r.Calls(emulator.CallRebuild)
	return e, accepted
}

func TestAnotherOperatingSystemIsRefused(t *testing.T) {
	t.Parallel()
	windows := func(r *functiontest.Rig) events.Rebuild { return data(r) }
	with := func(of func(*functiontest.Rig) events.Rebuild, change func(*events.Rebuild)) func(*functiontest.Rig) events.Rebuild {
		return func(r *functiontest.Rig) events.Rebuild {
			cmd := of(r)
			change(&cmd)
			return cmd
		}
	}
	for name, test := range map[string]struct {
		cmd  func(r *functiontest.Rig) events.Rebuild
		want []string // nothing: it is rebuilt
	}{
		"the image has it":            {linux, []string{"image " + emulator.LinuxGoldImageID + " is Linux", "runs Windows", "(2 in all)", "allow_os_change", "--allow-os-change"}},
		"and os_type names the old":   {with(linux, func(c *events.Rebuild) { c.OSType = "Windows" }), []string{"is Linux"}},
		"os_type has it":              {with(windows, func(c *events.Rebuild) { c.OSType = "Linux" }), []string{"os_type is Linux"}},
		"of an image that is no gold": {with(windows, func(c *events.Rebuild) { c.ImageType, c.ImageID, c.OSType = "market", emulator.MarketImageID, "Other" }), []string{"os_type is Other"}},
		"the same":                    {windows, nil},
		"the same in lower case":      {with(windows, func(c *events.Rebuild) { c.OSType = "windows" }), nil},
		"an image that is not listed": {with(windows, func(c *events.Rebuild) { c.ImageType, c.ImageID = "market", emulator.MarketImageID }), nil},
		"allowed":                     {with(linux, func(c *events.Rebuild) { c.AllowOSChange = true }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			e, accepted := process(t, r, "c1", test.cmd(r))
			if test.want == nil {
				functiontest.Data[events.JobAccepted](t, e)
				require.Equal(t, 1, accepted)
				return
			}
			failed := functiontest.Data[events.CommandFailed](t, e)
			require.Zero(t, accepted)
			require.Equal(t, events.KindNotAllowed, failed.Error.Kind)
			require.Equal(t, events.EffectNone, failed.Effect)
			require.Equal(t, r.Desktops, failed.DesktopIDs)
			for _, part := range test.want {
				require.Contains(t, failed.Error.ErrorMsg, part)
			}
			require.Contains(t, failed.Error.ErrorDetail, r.Desktops[1])
		})
	}
}

// One desktop of another operating system is enough; a desktop that runs the image shows the system of the image.
func TestAFleetOfTwoOperatingSystemsIsNotRebuiltToOne(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	first := linux(r)
	first.DesktopIDs, first.AllowOSChange = r.Desktops[:1], true
	functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c0", first)))
	r.Clock.Add(time.Hour)

	e, accepted := process(t, r, "c1", linux(r))
	failed := functiontest.Data[events.CommandFailed](t, e)
	require.Equal(t, 1, accepted, "only the first")
	require.Contains(t, failed.Error.ErrorMsg, "(2 in all)")
	require.NotContains(t, failed.Error.ErrorDetail, r.Desktops[0])

	e, accepted = process(t, r, "c2", data(r))
	failed = functiontest.Data[events.CommandFailed](t, e)
	require.Equal(t, 1, accepted)
	require.Equal(t, "another operating system: "+r.Desktops[0], failed.Error.ErrorDetail)
}

// What cannot be read does not turn the check off.
func TestAnImageWhoseOperatingSystemCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, status := range []int{403, 500} {
		r := functiontest.New(t, 2)
		r.Faults(emulator.Fault{Call: emulator.CallListImages, Times: 100, Do: emulator.Do{Status: status}})
		e, accepted := process(t, r, "c1", linux(r))
		failed := functiontest.Data[events.CommandFailed](t, e)
		require.Zero(t, accepted)
		require.Contains(t, failed.Error.ErrorDetail, "give os_type, or allow_os_change")
	}

	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallListImages, Times: 100, Do: emulator.Do{Status: 403}})
	cmd := data(r)
	cmd.OSType = "Windows"
	_, accepted := process(t, r, "c1", cmd)
	require.Equal(t, 1, accepted, "the command's os_type is used if images may not be listed")
}

// A list of images that is cut short does not turn the check off either.
func TestAnImageThatAnIncompleteListDoesNotShow(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/images") {
			_, _ = io.WriteString(w, `{"total_count":7,"images":[]}`)
			return
		}
		r.Emulator.ServeHTTP(w, req)
	}))
	t.Cleanup(cut.Close)
	api, err := workspace.New(workspace.Options{
		Endpoint: cut.URL, ProjectID: emulator.DefaultProjectID, Now: r.Clock.Now, ReadsPerMinute: -1, WritesPerMinute: -1,
		SignatureWindow: r.Config.SignatureWindow,
		Auth:            workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	require.NoError(t, err)
	f := rebuild.New(api, once.New(r.Config, api, r.Options()))
	result := r.Process(f, r.Command(events.TypeRebuild, "c1", linux(r)))
	require.NotNil(t, result.Delay, "it waits for a complete list")
	require.Empty(t, r.Emulator.State().Jobs)
}
