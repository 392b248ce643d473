package events_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// listSamples are the samples of the lists: both commands, a first page, and a last one.
func listSamples() map[string]events.Envelope {
	yes, no := true, false
	ram, disk := int64(4096), int64(80)
	list := command(events.FnListDesktops, "list-2026-02-10", events.ListDesktops{
		ImageID: oldImage, Status: "ACTIVE", EnterpriseProjectID: "0", Tags: map[string]string{"ring": "a"}, UserAttached: &yes,
	})
	named := command(events.FnListDesktops, "look-2026-02-10", events.ListDesktops{
		DesktopIDs: []string{first, second, third}, Fields: []string{"login_status", "image_id", "data_volumes", "tags"},
	})
	images := command(events.FnListImages, "images-2026-02-10", events.ListImages{ImageType: "private", Name: "office-2026-02"})
	row := events.DesktopRow{
		DesktopID: first, Status: "ACTIVE", ComputerName: "CHENMIN01", DesktopType: "DEDICATED", LoginStatus: "REGISTERED",
		ImageID: oldImage, ImageName: "office-2026-01", ImageType: "private", OSType: "Windows", OSVersion: "Windows 11",
		ProductID: "workspace.k.large2", ChargeMode: "1", ChargingMode: "0",
		RootVolume:          &events.RowVolume{ID: "e4406c227a8711ecaf56fa163ed8e03f", VolumeID: "91b9457c-ef61-4058-9e82-c86b35f15934", Type: "SAS", Size: 80},
		DataVolumes:         []events.RowVolume{{ID: "e4406c227a8711ecaf56fa163ed8e040", Type: "SSD", Size: 50}},
		Tags:                []events.Tag{{Key: "ring", Value: "a"}},
		EnterpriseProjectID: "0", SubnetID: "f1f0c4f6-5c0d-4f4a-9a5a-1a2b3c4d5e6f", AvailabilityZone: "cn-north-5a",
		InMaintenanceMode: &no, AttachState: "ATTACHED", UserAttached: &yes, Created: "2026-01-21T06:57:47.459Z",
	}
	page := answering(list, events.FnListDesktops, events.TypeDesktopsListed, "", minutes(1), events.DesktopsListed{
		Command: ref(list), Page: 1, Desktops: []events.DesktopRow{row},
	})
	page.ID, page.Causation = events.Derive(list.Identity(), "desktops.listed", list.Digest(), "1"), ""
	return map[string]events.Envelope{
		events.TypeListDesktops:            list,
		events.TypeListDesktops + ".named": named,
		events.TypeListImages:              images,
		events.TypeDesktopsListed:          page,
		events.TypeDesktopsListed + ".last": read(named, events.FnListDesktops, events.TypeDesktopsListed, "desktops.listed", minutes(1), events.DesktopsListed{
			Command: ref(named), Page: 1, Last: true, Total: 2, Missing: []string{third}, Desktops: []events.DesktopRow{
				{DesktopID: first, Status: "ACTIVE", LoginStatus: "CONNECTED", ImageID: oldImage, DataVolumes: []events.RowVolume{}, Tags: []events.Tag{}},
				{DesktopID: second, TaskStatus: "deleting"},
			},
		}),
		events.TypeImagesListed: read(images, events.FnListImages, events.TypeImagesListed, "images.listed", minutes(1), events.ImagesListed{
			Command: ref(images), Page: 1, Last: true, Total: 1, Images: []events.ListedImage{{
				ID: newImage, Name: "office-2026-02", ImageType: "private", OSType: "Windows", OSVersion: "Windows 11", Architecture: "x86",
				DiskFormat: "zvhd2", MinRAM: &ram, MinDisk: &disk, CreatedAt: "2026-02-10T06:41:00Z",
			}},
		}),
	}
}

func TestOnlyTheLastPageOfAListIsItsEnd(t *testing.T) {
	t.Parallel()
	cmd := command(events.FnListDesktops, "list", events.ListDesktops{})
	root := events.Root{ID: cmd.ID, Source: cmd.Source, Digest: cmd.Digest()}
	page := func(n int, last bool, causation string) events.Envelope {
		e := answering(cmd, events.FnListDesktops, events.TypeDesktopsListed, fmt.Sprint(n), morning, events.DesktopsListed{Command: ref(cmd), Page: n, Last: last})
		e.Causation = causation
		return e
	}
	first, second, last := page(1, false, ""), page(2, false, cmd.ID), page(3, true, cmd.ID)
	require.Len(t, events.Open(root, []events.Envelope{first, second}), 1, "with a causationid, an earlier page is no end either")
	require.Empty(t, events.Open(root, []events.Envelope{last}))
	require.Empty(t, events.Open(root, []events.Envelope{last, second, first}))
	other := page(1, false, "")
	other.Data = mustJSON(events.DesktopsListed{Command: events.CommandRef{Type: cmd.Type, ID: "another", Source: cmd.Source}})
	other.ID = "another"
	require.Equal(t, []events.Envelope{first, last}, events.Chain(root, []events.Envelope{first, other, last}), "all pages are of the chain")
}

func TestListCommandsThatBreakARule(t *testing.T) {
	t.Parallel()
	many := make([]string, events.MaxListed+1)
	for i := range many {
		many[i] = fmt.Sprint("d", i)
	}
	tags := make(map[string]string, 21)
	for i := range 21 {
		tags[fmt.Sprint("k", i)] = "v"
	}
	for data, want := range map[string]string{
		`{"desktop_ids":[]}`:                                  "desktop_ids: must name at least one desktop",
		`{"desktop_ids":["a","A"]}`:                           "is in the list twice",
		string(mustJSON(map[string]any{"desktop_ids": many})): "desktop_ids: must have at most 100 ids; send several commands; got 101 ids",
		string(mustJSON(map[string]any{"tags": tags})):        "tags: must have at most 20 tags; got 21 tags",
		`{"tags":["ring=a"]}`:                                 `tags: must be an object of keys and values, such as {"ring": "a"}`,
		`{"tags":{"ring":1}}`:                                 "tags.ring: must be a string",
		`{"tags":{"":"a"}}`:                                   "must have a key of 1 to 128 characters",
		`{"tags":{"ring":"a","ring":"b"}}`:                    "tags.ring: is given twice",
		`{"fields":"tags"}`:                                   "fields: must be a list of names",
		`{"fields":["tag"]}`:                                  "fields[0]: must be one of computer_name, ",
		`{"fields":["tags","tags"]}`:                          "fields[1]: is in the list twice",
		`{"fields":[` + strings.Repeat(`"x",`, 64) + `"x"]}`:  "fields[0]: must be one of",
		`{"user_attached":"yes"}`:                             "user_attached: must be true or false",
		`{"image_id":"../x"}`:                                 "image_id: must be 1 to 255 letters",
		`{"limit":5}`:                                         "limit: is not a field here",
	} {
		_, err := events.DecodeListDesktops(json.RawMessage(data))
		require.ErrorContains(t, err, want, data)
	}
	_, err := events.DecodeListImages(json.RawMessage(`{"image_type":"market"}`))
	require.ErrorContains(t, err, "image_type: must be one of gold, private")
	all, err := events.DecodeListDesktops(json.RawMessage(`{"tags":{},"fields":[],"user_attached":null}`))
	require.NoError(t, err)
	require.Equal(t, events.ListDesktops{}, all)
}

// Every field of a row has its name in RowFields, so that each can be asked for.
func TestRowFieldsAreTheFieldsOfARow(t *testing.T) {
	t.Parallel()
	yes := true
	row := events.DesktopRow{
		ComputerName: "x", DesktopType: "x", LoginStatus: "x", ImageID: "x", ImageName: "x", ImageType: "x", OSType: "x", OSVersion: "x",
		ProductID: "x", OrderID: "x", ChargeMode: "x", ChargingMode: "x", RootVolume: &events.RowVolume{}, DataVolumes: []events.RowVolume{},
		Tags: []events.Tag{}, PoolID: "x", EnterpriseProjectID: "x", SubnetID: "x", AvailabilityZone: "x", InMaintenanceMode: &yes,
		AttachState: "x", UserAttached: &yes, AttachUserInfos: []events.RowUser{}, Created: "x",
	}
	var written map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(mustJSON(row), &written))
	want := append([]string{"desktop_id", "status", "task_status"}, events.RowFields...)
	require.Len(t, written, len(want))
	for _, name := range want {
		require.Contains(t, written, name)
	}
}
