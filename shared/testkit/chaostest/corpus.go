// Package chaostest is the common part of the chaos tests for every transport: the commands that they send, the faults
// of the service and of the path to it, and the check of the published events against the service's state.
package chaostest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
)

// Source is the sender of the commands.
const Source = "chaos"

// Message is a command with its own transport message id: the same command arrives in several messages.
type Message struct {
	ID       string
	Envelope events.Envelope
}

// Corpus is the commands of a chaos test.
type Corpus struct {
	Messages []Message // each command twice, shuffled
	Roots    []string
	Writes   map[string][]string // command → its desktops
}

// DesktopsOf returns a fleet size that is sufficient for a corpus of this size.
func DesktopsOf(size int) int { return 4*size + 7 + 4*size/10 + 130 }

// NewCorpus makes size rebuilds, a tenth as many captures that rebuild, a large rebuild, and reads. No two writes
// share a desktop.
func NewCorpus(tb testing.TB, rnd *rand.Rand, state emulator.State, size int) Corpus {
	tb.Helper()
	c := Corpus{Writes: map[string][]string{}}
	image, kind := OtherImage(tb, state)
	var ids []string
	for _, d := range state.Desktops {
		ids = append(ids, d.DesktopID)
	}
	free := ids
	some := func(n int) []string { taken := free[:n]; free = free[n:]; return taken }
	for i := range size {
		cmd := events.Rebuild{DesktopIDs: some(1 + i%7), ImageID: image, ImageType: kind}
		if i%5 == 4 { // the image that they already run: only their disks show the rebuild
			cmd.ImageID, cmd.RebuildCurrent = state.Desktops[0].Metadata["metering.image_id"], true
		}
		c.add(tb, fmt.Sprintf("rebuild-%03d", i), events.TypeRebuild, cmd.DesktopIDs, cmd)
	}
	for i := range size / 10 {
		golden := some(1)
		then := &events.ThenRebuild{DesktopIDs: some(3)}
		c.add(tb, fmt.Sprintf("capture-%03d", i), events.TypeDesktopToImage, golden, events.DesktopToImage{
			DesktopID: golden[0], ImageName: fmt.Sprintf("golden-%03d", i), Then: &events.Then{Rebuild: then},
		})
	}
	large := some(130)
	c.add(tb, "rebuild-large", events.TypeRebuild, large, events.Rebuild{DesktopIDs: large, ImageID: image, ImageType: kind})
	for i := range size / 6 { // reads of desktops that others write to
		c.add(tb, fmt.Sprintf("look-%03d", i), events.TypeGetDesktop, nil, events.GetDesktop{DesktopID: ids[i]})
		c.add(tb, fmt.Sprintf("check-%03d", i), events.TypeCheckImages, nil, events.CheckImages{DesktopIDs: ids[i : i+5]})
	}
	rnd.Shuffle(len(c.Messages), func(i, j int) { c.Messages[i], c.Messages[j] = c.Messages[j], c.Messages[i] })
	return c
}

// add adds a command, twice. about lists the desktops that it writes to.
func (c *Corpus) add(tb testing.TB, id, typ string, about []string, data any) {
	tb.Helper()
	c.Roots = append(c.Roots, id)
	if about != nil {
		c.Writes[id] = about
	}
	e := Command(tb, id, typ, data)
	c.Messages = append(c.Messages, Message{id, e}, Message{id + "/again", e})
}

// Command returns a command with this id, the first of its chain.
func Command(tb testing.TB, id, typ string, data any) events.Envelope {
	tb.Helper()
	raw, err := json.Marshal(data)
	require.NoError(tb, err)
	return events.Envelope{ID: id, Source: Source, Type: typ, Time: time.Now().UTC(), Correlation: id, Data: raw}
}

// OtherImage returns an image that the generated desktops do not run.
func OtherImage(tb testing.TB, s emulator.State) (id, kind string) {
	tb.Helper()
	for _, i := range s.Images {
		if i.ImageType == "gold" && i.ID != s.Desktops[0].Metadata["metering.image_id"] && i.OSType == s.Desktops[0].Metadata["os_type"] {
			return i.ID, i.ImageType
		}
	}
	require.FailNow(tb, "no other image")
	return "", ""
}
