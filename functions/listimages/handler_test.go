package listimages_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/listimages"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
)

func command(r *functiontest.Rig) queue.Delivery {
	return r.Command(events.TypeListImages, "c1", events.ListImages{})
}

func function(r *functiontest.Rig) queue.Function { return listimages.New(r.API, r.Engine()) }

func TestListsTheImagesThatMatch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cmd  events.ListImages
		want []string
	}{
		"all":     {events.ListImages{}, []string{"gold-uos-20", "gold-windows-10", "gold-windows-11"}},
		"type":    {events.ListImages{ImageType: "private"}, []string{}},
		"name":    {events.ListImages{Name: "gold-windows-10"}, []string{"gold-windows-10"}},
		"part":    {events.ListImages{Name: "gold-windows"}, []string{}},
		"id":      {events.ListImages{ImageID: emulator.LinuxGoldImageID}, []string{"gold-uos-20"}},
		"several": {events.ListImages{ImageID: emulator.LinuxGoldImageID, Name: "gold-windows-10"}, []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 1)
			e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeListImages, "c1", c.cmd)))
			listed := functiontest.Data[events.ImagesListed](t, e)
			names := []string{}
			for _, i := range listed.Images {
				names = append(names, i.Name)
			}
			require.Equal(t, c.want, names)
			require.Equal(t, []any{1, true, len(c.want), "c1"}, []any{listed.Page, listed.Last, listed.Total, e.Causation})
			again := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeListImages, "c1", c.cmd)))
			require.Equal(t, e.ID, again.ID)
		})
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.ReadStatuses(t, emulator.CallListImages, function, command)
}

func TestRefusesWithoutACall(t *testing.T) {
	t.Parallel()
	functiontest.Refuses(t, events.TypeListImages, function, map[string]functiontest.Refusal{
		"a market image":  {`{"image_type":"market"}`, events.KindInvalid, "image_type: must be one of gold, private"},
		"another project": {`{"project_id":"p2"}`, events.KindNotAllowed, "project_id"},
		"unknown field":   {`{"os":"x"}`, events.KindInvalid, "os: is not a field"},
	})
}
