package getdesktop_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/getdesktop"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func command(r *functiontest.Rig) queue.Delivery {
	return r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: r.Desktops[0]})
}

func function(r *functiontest.Rig) queue.Function {
	return getdesktop.New(r.API, r.Engine())
}

func TestDescribesTheDesktop(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	e := functiontest.Only(t, r.Process(function(r), command(r)))
	var published workspace.Desktop
	require.NoError(t, json.Unmarshal(functiontest.Data[events.DesktopDescribed](t, e).Desktop, &published))
	want, err := r.API.GetDesktop(t.Context(), r.Desktops[0])
	require.NoError(t, err)
	require.Equal(t, want, published)
	require.Equal(t, r.Desktops[0], published.DesktopID)
	require.Equal(t, "c1", e.Causation)
	require.Equal(t, "chain", e.Correlation)

	again := functiontest.Only(t, r.Process(function(r), command(r)))
	require.Equal(t, e.ID, again.ID, "the same command publishes it under the same id")

	other := events.GetDesktop{DesktopID: r.Desktops[1]}
	reused := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeGetDesktop, "c1", other)))
	require.NotEqual(t, e.ID, reused.ID, "and other data under another")
	named := functiontest.Data[events.DesktopDescribed](t, reused).Command
	require.Equal(t, events.CommandRef{Type: events.TypeGetDesktop, ID: "c1", Source: "test", Digest: events.Digest(other)}, named)
}

func TestOneShapeWhateverCameIn(t *testing.T) {
	t.Parallel()
	for _, quirk := range []string{"desktop-array", "addresses-array", "metadata-number", "times-without-zone", "process-null", "task-status-null"} {
		t.Run(quirk, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 3)
			r.Faults(emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Quirk: quirk}})
			var published struct {
				DesktopID string                         `json:"desktop_id"`
				Addresses map[string][]workspace.Address `json:"addresses"`
				Metadata  map[string]string              `json:"metadata"`
				Created   string                         `json:"created"`
			}
			described := functiontest.OnlyData[events.DesktopDescribed](t, r.Process(function(r), command(r)))
			require.NoError(t, json.Unmarshal(described.Desktop, &published))
			require.Equal(t, r.Desktops[0], published.DesktopID)
			require.NotEmpty(t, published.Addresses)
			require.NotEmpty(t, published.Metadata)
			require.Regexp(t, `^\d{4}-\d\d-\d\dT[\d:.]+Z$`, published.Created)
		})
	}
}

func TestEmptyStatusesArePublished(t *testing.T) {
	t.Parallel()
	for name, received := range map[string]string{
		"empty": `{"desktop_id":"d1","status":"","task_status":""}`, "null": `{"desktop_id":"d1","status":null,"task_status":null}`,
		"absent": `{"desktop_id":"d1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var d workspace.Desktop
			require.NoError(t, json.Unmarshal([]byte(received), &d))
			r := functiontest.New(t, 1)
			r.Config.BlankPersonal = true
			command := r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: "d1"})
			e := functiontest.Only(t, r.Process(getdesktop.New(describes{d}, r.Engine()), command))
			digest := events.Digest(events.GetDesktop{DesktopID: "d1"})
			require.JSONEq(t, `{"command":{"type":"recompose.command.getdesktop.v1","id":"c1","source":"test","digest":"`+digest+`"},`+
				`"desktop":{"desktop_id":"d1","status":"","task_status":""}}`, string(e.Data))
		})
	}
}

func TestUnknownFieldsArePassedThrough(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	plain := functiontest.Only(t, r.Process(function(r), command(r)))
	r = functiontest.New(t, 3)
	r.Faults(emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Quirk: "unknown-fields"}})
	more := functiontest.Only(t, r.Process(function(r), command(r)))
	require.Greater(t, len(more.Data), len(plain.Data))
}

// TestNothingPersonalIsPublished reads the bytes of the event, with every field of the service's answer filled.
func TestNothingPersonalIsPublished(t *testing.T) {
	t.Parallel()
	var d workspace.Desktop
	require.NoError(t, json.Unmarshal([]byte(`{
		"desktop_id":"d1", "computer_name":"PERSONAL", "os_host_name":"PERSONAL",
		"addresses":{"net":[{"addr":"PERSONAL","version":"4","OS-EXT-IPS-MAC:mac_addr":"PERSONAL","OS-EXT-IPS:type":"fixed"}]},
		"ip_addresses":["PERSONAL"], "ipv4":"PERSONAL", "ipv6":"PERSONAL",
		"user_list":["PERSONAL"], "user_group_list":["PERSONAL"], "user_name":"PERSONAL",
		"attach_user_infos":[{"user_id":"PERSONAL","user_name":"PERSONAL","user_group":"PERSONAL","type":"USER"}],
		"sid":"PERSONAL", "tags":[{"key":"PERSONAL","value":"PERSONAL"}], "field_of_next_year":"PERSONAL",
		"metadata":{"metering.image_id":"i1","charging_mode":"1"}, "status":"ACTIVE", "task_status":"rebuilding", "user_group":"users",
		"root_volume":{"id":"v1","size":80}, "product":{"product_id":"p1"}, "login_status":"REGISTERED", "enterprise_project_id":"0"
	}`), &d))
	api := describes{d}
	for _, blank := range []bool{true, false} {
		r := functiontest.New(t, 1)
		r.Config.BlankPersonal = blank
		command := r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: "d1"})
		e := functiontest.Only(t, r.Process(getdesktop.New(api, r.Engine()), command))
		require.Equal(t, blank, !strings.Contains(string(e.Data), "PERSONAL"), "%s", e.Data)
		var published workspace.Desktop
		require.NoError(t, json.Unmarshal(functiontest.Data[events.DesktopDescribed](t, e).Desktop, &published))
		require.Equal(t, "d1", published.DesktopID)
		require.Equal(t, "i1", published.ImageID())
		require.Equal(t, "ACTIVE", published.State())
		require.Equal(t, "rebuilding", published.TaskStatus)
		require.Equal(t, d.RootVolume, published.RootVolume)
	}
}

// describes is a service with one desktop.
type describes struct{ desktop workspace.Desktop }

func (describes) ProjectID() string { return "p1" }

func (d describes) DescribeDesktop(context.Context, string) (workspace.Description, error) {
	return workspace.Describe(d.desktop)
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.ReadStatuses(t, emulator.CallGetDesktop, function, command)
}

func TestUnknownDesktop(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	d := r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: "no-such-desktop"})
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Process(function(r), d))
	require.Equal(t, events.KindNotFound, failed.Error.Kind)
	require.Equal(t, []string{"no-such-desktop"}, failed.DesktopIDs)
}

func TestRefusesWithoutACall(t *testing.T) {
	t.Parallel()
	functiontest.Refuses(t, events.TypeGetDesktop, function, map[string]functiontest.Refusal{
		"no desktop":      {`{}`, events.KindInvalid, "desktop_id: must be given"},
		"a path":          {`{"desktop_id":"../images"}`, events.KindInvalid, "desktop_id"},
		"another project": {`{"desktop_id":"d1","project_id":"p2"}`, events.KindNotAllowed, "project_id"},
		"unknown field":   {`{"desktop_id":"d1","desktop":"d2"}`, events.KindInvalid, "desktop: is not a field"},
	})
}

// What the ledger keeps of an answer is published once more if the message is redelivered; it has nothing of people.
func TestTheLedgerKeepsNothingOfPeople(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	f := getdesktop.New(r.API, r.Engine())
	d := r.Command(events.TypeGetDesktop, "c1", map[string]any{"desktop_id": r.Desktops[0]})
	first, second := functiontest.Only(t, r.Process(f, d)), functiontest.Only(t, r.Process(f, d))
	require.Equal(t, first.ID, second.ID)
	require.Contains(t, string(first.Data), "user_name")
	for _, personal := range []string{"user_name", "addr", "computer_name", `"sid"`} {
		require.NotContains(t, string(second.Data), personal)
	}
	require.Contains(t, string(second.Data), r.Desktops[0])
}

func TestOnlyTheDesktopThatWasAskedForIsPublished(t *testing.T) {
	t.Parallel()
	for id, failed := range map[string]bool{"d1": false, "D1": false, "": false, "d2": true} {
		r := functiontest.New(t, 1)
		command := r.Command(events.TypeGetDesktop, "c1", events.GetDesktop{DesktopID: "d1"})
		e := functiontest.Only(t, r.Process(getdesktop.New(describes{workspace.Desktop{DesktopID: id, Status: "ACTIVE"}}, r.Engine()), command))
		require.Equal(t, failed, e.Type == events.TypeCommandFailed, "%s: %s", id, e.Data)
		if failed {
			require.Contains(t, string(e.Data), "the service was asked for desktop d1 and described d2")
		}
	}
}
