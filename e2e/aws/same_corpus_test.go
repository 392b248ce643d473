//go:build e2e

package aws_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

const (
	ordinary = 20 // size of the chaos corpus in the comparison
	marked   = 40 // desktops of the commands with an expected end
)

// determined is the chaos corpus, and commands whose end does not depend on the order: it follows from their data, or
// from faults of their desktops.
type determined struct {
	chaostest.Corpus
	faults []emulator.Fault
	waves  []wave
}

// wave is messages that are sent when all earlier ones have ended.
type wave struct {
	messages []chaostest.Message
	roots    []string
}

func newDetermined(t *testing.T, seed uint64, state emulator.State) determined {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	d := determined{Corpus: chaostest.NewCorpus(t, rnd, state, ordinary)}
	var free []string
	for _, x := range state.Desktops[len(state.Desktops)-marked:] {
		free = append(free, x.DesktopID)
	}
	some := func(n int) []string { taken := free[:n]; free = free[n:]; return taken }
	image, kind := chaostest.OtherImage(t, state)
	twice := func(e events.Envelope) []chaostest.Message {
		d.Roots = append(d.Roots, e.ID)
		return []chaostest.Message{{ID: e.ID, Envelope: e}, {ID: e.ID + "/again", Envelope: e}}
	}
	add := func(e events.Envelope) { d.Messages = append(d.Messages, twice(e)...) }
	rebuild := func(id string, desktops []string) events.Envelope {
		if d.Writes[id] == nil {
			d.Writes[id] = desktops
		}
		return chaostest.Command(t, id, events.TypeRebuild, events.Rebuild{DesktopIDs: desktops, ImageID: image, ImageType: kind})
	}
	capture := func(id, name, desktop string, then ...string) events.Envelope {
		d.Writes[id] = []string{desktop}
		data := events.DesktopToImage{DesktopID: desktop, ImageName: name}
		if len(then) > 0 {
			data.Then = &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: then}}
		}
		return chaostest.Command(t, id, events.TypeDesktopToImage, data)
	}
	fault := func(call, desktop string, times int, do emulator.Do) {
		d.faults = append(d.faults, emulator.Fault{Call: call, DesktopID: desktop, Times: times, Do: do})
	}

	// Faults of the service for a write.
	for id, do := range map[string]emulator.Do{
		"job-fails":      {Job: emulator.JobFail},
		"job-fails-late": {Job: emulator.JobFail, Quirk: "late-failure"},
		"forbidden":      {Status: 403, ErrorCode: "WKS.0403", ErrorMsg: "no"},
		"refused":        {Status: 400, ErrorCode: "WKS.0400", ErrorMsg: "no"},
		"answer-lost":    {Drop: emulator.DropAfter},
	} {
		desktops := some(2)
		fault(emulator.CallRebuild, desktops[0], 0, do)
		add(rebuild(id, desktops))
	}
	for id, do := range map[string]emulator.Do{
		"call-lost": {Drop: emulator.DropBefore},
		"throttled": {Status: 429, RetryAfter: "1"},
		"busy":      {Status: 409, ErrorCode: "WKS.0409", ErrorMsg: "busy"},
		"broken":    {Status: 502},
	} {
		desktops := some(2)
		fault(emulator.CallRebuild, desktops[0], 1, do)
		add(rebuild(id, desktops))
	}
	golden := some(3)
	fault(emulator.CallDesktopToImage, golden[0], 0, emulator.Do{Job: emulator.JobFail})
	add(capture("image-fails", "never", golden[0], golden[1:]...))
	golden = some(2)
	fault(emulator.CallDesktopToImage, golden[0], 0, emulator.Do{Drop: emulator.DropAfter})
	fault(emulator.CallRebuild, golden[1], 0, emulator.Do{Job: emulator.JobFail})
	add(capture("image-and-then-a-failure", "then-fails", golden[0], golden[1]))

	// Properties of the command itself.
	add(rebuild("one-is-gone", append([]string{"gone-0000-0000"}, some(3)...)))
	add(rebuild("all-are-gone", []string{"gone-0000-0001", "gone-0000-0002"}))
	same := some(1)
	add(chaostest.Command(t, "twice-in-one", events.TypeRebuild, events.Rebuild{DesktopIDs: append(same, same...), ImageID: image, ImageType: kind}))
	add(capture("capture-of-nothing", "nothing", "gone-0000-0004"))
	add(chaostest.Command(t, "no-image", events.TypeRebuild, events.Rebuild{DesktopIDs: some(1), ImageID: "no-such-image", ImageType: kind}))
	add(chaostest.Command(t, "wrong-type", events.TypeRebuild, events.Rebuild{DesktopIDs: some(1), ImageID: image, ImageType: "market"}))
	add(chaostest.Command(t, "runs-it-already", events.TypeRebuild, events.Rebuild{DesktopIDs: some(1),
		ImageID: state.Desktops[0].Metadata["metering.image_id"], ImageType: kind}))
	add(chaostest.Command(t, "another-project", events.TypeRebuild, events.Rebuild{ProjectID: "another", DesktopIDs: some(1), ImageID: image, ImageType: kind}))
	add(chaostest.Command(t, "unknown-field", events.TypeRebuild, map[string]any{"desktop_ids": some(1), "image_id": image, "image_type": kind, "imgae": 1}))
	add(chaostest.Command(t, "no-sysprep", events.TypeDesktopToImage, map[string]any{"desktop_id": some(1)[0], "image_name": "no-sysprep"}))
	add(chaostest.Command(t, "no-desktops", events.TypeCheckImages, map[string]any{"desktop_ids": []string{}}))
	add(chaostest.Command(t, "look-at-nothing", events.TypeGetDesktop, events.GetDesktop{DesktopID: "gone-0000-0005"}))
	add(chaostest.Command(t, "check-nothing", events.TypeCheckImages, events.CheckImages{DesktopIDs: []string{"gone-0000-0006"}}))
	expired := rebuild("expired", some(1))
	expired.Expiry = time.Now().Add(-time.Minute).UTC()
	add(expired)
	stale := rebuild("too-old", some(1))
	stale.Time = time.Now().Add(-7 * time.Hour).UTC()
	add(stale)
	rnd.Shuffle(len(d.Messages), func(i, j int) { d.Messages[i], d.Messages[j] = d.Messages[j], d.Messages[i] })

	first := wave{d.Messages, slices.Clone(d.Roots)}
	reused := rebuild("rebuild-000", some(1))
	second := wave{append(twice(capture("name-is-taken", "golden-000", some(1)[0])), chaostest.Message{ID: "reused", Envelope: reused},
		chaostest.Message{ID: "reused/again", Envelope: reused}), []string{"name-is-taken"}}
	d.waves = []wave{first, second}
	return d
}

// known are the images that existed before; others are identified by their names.
func known(state emulator.State) map[string]bool {
	images := map[string]bool{}
	for _, i := range state.Images {
		images[i.ID] = true
	}
	return images
}
