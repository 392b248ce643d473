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

// TestTheSameEndsAsOnNATS sends one corpus to the functions on NATS and to the programs on AWS, each with its own
// emulator that behaves the same for the same desktops: every command, and every command that follows from one, ends
// the same.
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

	var published []events.Envelope
	for w, wave := range corpus.waves {
		for _, m := range wave.messages {
			c.publish(t, m.Envelope)
			n.publish(t, m)
		}
		published = append(published, c.settle(t, 2*time.Minute, wave.roots)...)
		n.settle(t, 2*time.Minute, wave.roots)
		if w == 0 {
			chaostest.Take(t, published, c.service.State(), corpus.Writes).Honest()
			chaostest.Take(t, n.published(t), n.service.State(), corpus.Writes).Honest()
		}
	}
	nats := n.published(t)
	want, got := endsOf(t, nats, images), endsOf(t, published, images)
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
	chaostest.Take(t, published, c.service.State(), corpus.Writes).Counted(c.service.Requests(0, 0))
	chaostest.Take(t, nats, n.service.State(), corpus.Writes).Counted(n.service.Requests(0, 0))
	require.Equal(t, took(n.service), took(c.service), "desktops whose write was accepted")
}

// end is one end of a command without what depends on the transport or on time: no job, no time.
type end struct {
	ID       string // of the event, which follows from the command
	What     string // its type and outcome
	Effect   string
	Code     string // of the service
	Status   int
	Image    string // the name of a new image
	Desktops []string
}

// endsOf returns the ends of each command, including the commands that follow from others.
func endsOf(t *testing.T, published []events.Envelope, images map[string]bool) map[string][]end {
	t.Helper()
	all := map[string][]end{}
	for id, list := range chaostest.EndsOf(published) {
		for _, e := range list {
			all[id] = append(all[id], endOf(t, e, images))
		}
		slices.SortFunc(all[id], func(a, b end) int { return strings.Compare(a.ID, b.ID) })
	}
	return all
}

func endOf(t *testing.T, e events.Envelope, images map[string]bool) end {
	t.Helper()
	result := end{ID: e.ID, What: strings.TrimPrefix(e.Type, "recompose.event.")}
	image := func(id string) string {
		if id == "" || images[id] {
			return id
		}
		return "a new one"
	}
	switch e.Type {
	case events.TypeJobCompleted:
		c := chaostest.Read[events.JobCompleted](t, e)
		result.What += " " + c.Function + " " + c.Outcome
		if result.Image = image(c.ImageID); c.Image != nil {
			result.Image = c.Image.ImageType + " " + c.Image.ImageName
		}
		if c.Error != nil {
			result.What, result.Code, result.Status = result.What+" "+c.Error.Kind, c.Error.ErrorCode, c.Error.HTTPStatus
		}
		for _, d := range c.Desktops {
			result.Desktops = append(result.Desktops, strings.Join([]string{d.DesktopID, d.Outcome, d.ErrorCode, d.FailReason}, " "))
		}
	case events.TypeCommandFailed:
		f := chaostest.Read[events.CommandFailed](t, e)
		result.What += " " + f.Command.Type + " " + f.Error.Kind
		result.Effect, result.Code, result.Status, result.Desktops = f.Effect, f.Error.ErrorCode, f.Error.HTTPStatus, f.DesktopIDs
	case events.TypeCommandSplit:
		for _, p := range chaostest.Read[events.CommandSplit](t, e).Parts {
			result.Desktops = append(result.Desktops, p.ID+": "+strings.Join(p.DesktopIDs, " "))
		}
	case events.TypeImagesChecked: // a read concurrent with writes: compare only its desktops
		c := chaostest.Read[events.ImagesChecked](t, e)
		result.Desktops = slices.Concat([]string{"missing"}, c.Missing, []string{"matched"}, c.Matched, []string{"mismatched"}, c.Mismatched, []string{"all"})
		if c.Expected != nil {
			result.Image = image(c.Expected.ImageID)
		}
		for _, i := range c.ImageInfos {
			var info events.ImageInfo
			require.NoError(t, json.Unmarshal(i, &info))
			result.Desktops = append(result.Desktops, info.DesktopID)
		}
	case events.TypeDesktopDescribed:
		var d struct {
			DesktopID string `json:"desktop_id"`
		}
		require.NoError(t, json.Unmarshal(chaostest.Read[events.DesktopDescribed](t, e).Desktop, &d))
		result.Desktops = []string{d.DesktopID}
	}
	slices.Sort(result.Desktops)
	return result
}

// took returns the desktops of the writes that a service accepted, by call, in an order that does not depend on time.
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
