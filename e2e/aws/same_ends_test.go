//go:build e2e

package aws_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

// TestTheSameEndsAsOnNATS sends one corpus to the functions on NATS and to the programs on AWS, each with an emulator of
// its own that does the same to the same desktops: every command, and every one that follows from it, ends the same.
func TestTheSameEndsAsOnNATS(t *testing.T) {
	t.Parallel()
	const seed = 20260115
	desktops := chaostest.DesktopsOf(ordinary) + marked
	c := startCloud(t, settings{desktops: desktops, window: chaosWindow})
	n := startNATS(t, desktops)
	images := known(c.service.State())
	corpus := newDetermined(t, seed, c.service.State())
	require.NoError(t, c.service.SetFaults(corpus.faults))
	require.NoError(t, n.service.SetFaults(corpus.faults))
	x := &trouble{twice: 0.3, seed: seed}
	c.poll(t, x, 2)
	c.begin(t, x)

	var said []events.Envelope
	for w, wave := range corpus.waves {
		for _, m := range wave.messages {
			c.publish(t, m.Envelope)
			n.publish(t, m)
		}
		said = append(said, c.settle(t, 2*time.Minute, wave.roots)...)
		n.settle(t, 2*time.Minute, wave.roots)
		if w == 0 {
			chaostest.Take(t, said, c.service.State(), corpus.Writes).Honest()
			chaostest.Take(t, n.said(t), n.service.State(), corpus.Writes).Honest()
		}
	}
	nats := n.said(t)
	want, got := told(t, nats, images), told(t, said, images)
	for _, id := range slices.Sorted(maps.Keys(want)) {
		require.Equal(t, want[id], got[id], "command %s", id)
	}
	require.Len(t, got, len(want))
	for _, root := range corpus.Roots {
		require.NotEmpty(t, got[root], root)
	}
	require.Len(t, got["rebuild-000"], 2, "its own end, and that of the command that took its id")
	kinds := map[string]int{}
	for _, ends := range got {
		for _, e := range ends {
			kinds[e.What]++
		}
	}
	t.Logf("%d commands, with what followed %d: %v", len(corpus.Roots), len(got), kinds)
	chaostest.Take(t, said, c.service.State(), corpus.Writes).Counted(c.service.Requests(0, 0))
	chaostest.Take(t, nats, n.service.State(), corpus.Writes).Counted(n.service.Requests(0, 0))
	require.Equal(t, took(n.service), took(c.service), "desktops whose write was accepted")
}

// end is one end of a command, in what depends neither on the transport nor on time: no job, no time.
type end struct {
	ID       string // of the event, which follows from the command
	What     string // its type, and how it ended
	Effect   string
	Code     string // of the service
	Status   int
	Image    string // of a new one its name
	Desktops []string
}

// told are the ends of each command, those that followed from others included.
func told(t *testing.T, said []events.Envelope, images map[string]bool) map[string][]end {
	t.Helper()
	all := map[string][]end{}
	for id, list := range chaostest.EndsOf(said) {
		for _, e := range list {
			all[id] = append(all[id], tell(t, e, images))
		}
		slices.SortFunc(all[id], func(a, b end) int { return strings.Compare(a.ID, b.ID) })
	}
	return all
}

func tell(t *testing.T, e events.Envelope, images map[string]bool) end {
	t.Helper()
	told := end{ID: e.ID, What: strings.TrimPrefix(e.Type, "recompose.event.")}
	image := func(id string) string {
		if id == "" || images[id] {
			return id
		}
		return "a new one"
	}
	switch e.Type {
	case events.TypeJobCompleted:
		c := chaostest.Read[events.JobCompleted](t, e)
		told.What += " " + c.Function + " " + c.Outcome
		if told.Image = image(c.ImageID); c.Image != nil {
			told.Image = c.Image.ImageType + " " + c.Image.ImageName
		}
		if c.Error != nil {
			told.What, told.Code, told.Status = told.What+" "+c.Error.Kind, c.Error.ErrorCode, c.Error.HTTPStatus
		}
		for _, d := range c.Desktops {
			told.Desktops = append(told.Desktops, strings.Join([]string{d.DesktopID, d.Outcome, d.ErrorCode, d.FailReason}, " "))
		}
	case events.TypeCommandFailed:
		f := chaostest.Read[events.CommandFailed](t, e)
		told.What += " " + f.Command.Type + " " + f.Error.Kind
		told.Effect, told.Code, told.Status, told.Desktops = f.Effect, f.Error.ErrorCode, f.Error.HTTPStatus, f.DesktopIDs
	case events.TypeCommandSplit:
		for _, p := range chaostest.Read[events.CommandSplit](t, e).Parts {
			told.Desktops = append(told.Desktops, p.ID+": "+strings.Join(p.DesktopIDs, " "))
		}
	case events.TypeImagesChecked: // of a read that runs beside writes only which desktops it is about
		c := chaostest.Read[events.ImagesChecked](t, e)
		told.Desktops = slices.Concat([]string{"missing"}, c.Missing, []string{"matched"}, c.Matched, []string{"mismatched"}, c.Mismatched, []string{"all"})
		if c.Expected != nil {
			told.Image = image(c.Expected.ImageID)
		}
		for _, i := range c.ImageInfos {
			var info events.ImageInfo
			require.NoError(t, json.Unmarshal(i, &info))
			told.Desktops = append(told.Desktops, info.DesktopID)
		}
	case events.TypeDesktopDescribed:
		var d struct {
			DesktopID string `json:"desktop_id"`
		}
		require.NoError(t, json.Unmarshal(chaostest.Read[events.DesktopDescribed](t, e).Desktop, &d))
		told.Desktops = []string{d.DesktopID}
	}
	slices.Sort(told.Desktops)
	return told
}

// took are the desktops of the writes that a service accepted, by call, in an order that does not depend on time.
func took(service *emulator.Server) []string {
	var all []string
	for _, r := range service.Requests(0, 0) {
		if r.Effect == emulator.EffectJob {
			all = append(all, r.Call+" "+strings.Join(r.DesktopIDs, " "))
		}
	}
	slices.Sort(all)
	return all
}
