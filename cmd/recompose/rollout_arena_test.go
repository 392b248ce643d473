//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/chaostest"
)

const imageOfDesktop = "metering.image_id"

// seedFile is a file with a generated fleet, changed as the settings want it.
func seedFile(t *testing.T, s settings) string {
	t.Helper()
	made, err := emulator.New(emulator.Options{Desktops: s.desktops})
	require.NoError(t, err)
	defer made.Close()
	state := made.State()
	s.seed(&state)
	content, err := json.Marshal(state)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "seed.json")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return file
}

// severalImages lets the desktops of a fleet run n images in turn, of which none is the one that a rollout brings.
func severalImages(n int) func(*emulator.State) {
	return func(s *emulator.State) {
		images := []emulator.Image{s.Images[0]}
		for i := 1; i < n; i++ {
			image := s.Images[0]
			image.ID, image.Name = fmt.Sprint("earlier-", i), fmt.Sprint("earlier-", i)
			images = append(images, image)
		}
		s.Images = append(s.Images, images[1:]...)
		for i := range s.Desktops {
			image := images[i%n]
			s.Desktops[i].Metadata[imageOfDesktop], s.Desktops[i].Metadata["image_name"] = image.ID, image.Name
		}
	}
}

// stand is an arena with rollouts.
type stand struct {
	*arena
	records store.Store
	before  map[string]string // the image of each desktop at the beginning
	ids     []string
	sent    int
}

func newStand(t *testing.T, s settings) *stand {
	t.Helper()
	f := &stand{arena: newArena(t, s), before: map[string]string{}}
	var err error
	f.records, err = natsstore.Open(t.Context(), f.nc, natsstore.Options{Bucket: natsstore.Rollouts, Verify: true})
	require.NoError(t, err)
	for _, d := range f.state().Desktops {
		f.before[d.DesktopID] = d.Metadata[imageOfDesktop]
		f.ids = append(f.ids, d.DesktopID)
	}
	return f
}

// small is a fleet of a few desktops, whose rollouts have no long waits.
func small(t *testing.T, desktops int) *stand {
	t.Helper()
	return newStand(t, settings{desktops: desktops, window: proofWindow, speed: "600", pace: "60"})
}

// spec is a rollout without canary's waits: one wave, no approval.
func (f *stand) spec(name string) rollout.Spec {
	f.t.Helper()
	spec := rollout.Defaults()
	spec.Name = name
	spec.Image.ImageID, spec.Image.ImageType = chaostest.OtherImage(f.t, f.state())
	spec.Targets.DesktopIDs = f.ids
	spec.Strategy = rollout.Strategy{Canary: 1, Waves: []string{"100%"}, MaxUnavailable: len(f.ids)}
	spec.Approval = rollout.Approval{}
	return spec
}

// verb sends a command of a rollout and returns its id.
func (f *stand) verb(typ string, c events.RolloutCommand) string {
	f.t.Helper()
	f.sent++
	id := fmt.Sprintf("verb-%d", f.sent)
	f.send(id, typ, c)
	return id
}

func (f *stand) start(spec rollout.Spec) string {
	f.t.Helper()
	raw, err := json.Marshal(spec)
	require.NoError(f.t, err)
	return f.verb(events.TypeRolloutStart, events.RolloutCommand{Spec: raw})
}

// reported are the events of rollouts so far, each once.
func (f *stand) reported() []events.Envelope {
	f.t.Helper()
	var all []events.Envelope
	seen := map[string]bool{}
	for _, e := range f.events() {
		if e.Source == events.Source(events.FnRollout) && !seen[e.ID] {
			seen[e.ID] = true
			all = append(all, e)
		}
	}
	return all
}

// answer waits for the one event that answers a verb.
func (f *stand) answer(id string) (string, events.Rollout) {
	f.t.Helper()
	f.until(func() bool { return len(f.answersTo(id)) > 0 }, "nothing answers %s", id)
	found := f.answersTo(id)[0]
	return found.Type, chaostest.Read[events.Rollout](f.t, found)
}

// refused is the reason for which a verb is rejected.
func (f *stand) refused(id string) string {
	f.t.Helper()
	typ, r := f.answer(id)
	require.Equal(f.t, events.TypeRolloutRejected, typ, r.Reason)
	return r.Reason
}

// answered waits for the answer to a verb, which is this event.
func (f *stand) answered(id, typ string) events.Rollout {
	f.t.Helper()
	is, r := f.answer(id)
	require.Equal(f.t, typ, is, r.Reason)
	return r
}

// head is the state of a rollout; zero if there is none.
func (f *stand) head(name string) *rollout.Head {
	f.t.Helper()
	h := &rollout.Head{}
	value, _, err := f.records.Get(f.t.Context(), rollout.HeadKey(name))
	if err == nil {
		require.NoError(f.t, json.Unmarshal(value, h))
	} else if !errors.Is(err, store.ErrNotFound) {
		f.t.Logf("the head cannot be read now: %v", err) // the server is restarted
	}
	return h
}

// comesTo waits until a rollout is in one of these phases.
func (f *stand) comesTo(name string, phases ...string) *rollout.Head {
	f.t.Helper()
	var h *rollout.Head
	f.until(func() bool { h = f.head(name); return slices.Contains(phases, h.Phase) }, "the rollout does not come to %v", phases)
	return h
}

// until waits for a condition, and shows the rollouts if it is not met in time.
func (f *stand) until(condition func() bool, message string, args ...any) {
	f.t.Helper()
	f.within(2*within, condition, message, args...)
}

func (f *stand) within(most time.Duration, condition func() bool, message string, args ...any) {
	f.t.Helper()
	for deadline := time.Now().Add(most); !condition(); {
		if time.Now().After(deadline) {
			require.FailNow(f.t, fmt.Sprintf(message, args...), "%s\n%s\n%s", f.history(), f.waiting(), f.loggedLast())
		}
		if f.tend != nil {
			f.tend()
		}
		<-time.After(50 * time.Millisecond) // between two looks
	}
}

// history describes the events of the rollouts, in order.
func (f *stand) history() string {
	var b bytes.Buffer
	for _, e := range f.reported() {
		r := chaostest.Read[events.Rollout](f.t, e)
		fmt.Fprintf(&b, "%s %s %s %s %s %v", e.Time.Format("05.000"), e.Type, r.Name, r.Phase, r.Reason, r.Counts)
		if r.Wave != nil {
			fmt.Fprintf(&b, " wave %d %s", r.Wave.Number, r.Wave.Kind)
		}
		if r.Batch != nil {
			reasons := map[string]int{}
			for _, d := range r.Batch.Desktops {
				reasons[d.State+" "+d.Code+" "+d.Reason]++
			}
			fmt.Fprintf(&b, " batch %d/%d %v", r.Batch.Number, r.Batch.Attempt, reasons)
		}
		b.WriteByte('\n')
	}
	var live rollout.Live
	value, _, err := f.records.Get(f.t.Context(), rollout.LiveKey)
	if err == nil && json.Unmarshal(value, &live) == nil {
		for _, name := range live.Names {
			h := f.head(name)
			fmt.Fprintf(&b, "%s is %s, waits %+v, open %+v, tick %+v\n", name, h.Phase, h.Waiting, h.Open, h.Tick)
		}
	}
	return b.String()
}

// users lets users log in or off.
func (f *stand) users(users ...emulator.User) {
	f.t.Helper()
	putJSON(f.t, f.url+"/_emulator/users", users)
}

// rebuiltTimes are how often the desktops were rebuilt, and how many were in use then.
func (f *stand) rebuiltTimes() (times map[string]int, inUse int) {
	f.t.Helper()
	times = map[string]int{}
	for _, d := range f.state().Desktops {
		if d.Notes != nil {
			times[d.DesktopID] = d.Notes.Rebuilds
			inUse += d.Notes.RebuiltInUse
		}
	}
	return times, inUse
}

// images are the images that the desktops run.
func (f *stand) images() map[string]string {
	f.t.Helper()
	images := map[string]string{}
	for _, d := range f.state().Desktops {
		images[d.DesktopID] = d.Metadata[imageOfDesktop]
	}
	return images
}

// restartNATS kills the server and starts it anew.
func (f *stand) restartNATS() {
	f.t.Helper()
	f.nats.kill()
	f.startNATS()
	eventually(f.t, func() bool {
		_, err := f.js.Stream(f.t.Context(), "RECOMPOSE_EVENTS")
		return err == nil
	}, "the server does not come back")
}

// all is a map that gives each desktop the same value.
func all[V any](ids []string, v V) map[string]V {
	m := map[string]V{}
	for _, id := range ids {
		m[id] = v
	}
	return m
}

// answersTo are the events that answer a verb, each once.
func (f *stand) answersTo(id string) []events.Envelope {
	f.t.Helper()
	var answers []events.Envelope
	for _, e := range f.reported() {
		if e.Causation == id {
			answers = append(answers, e)
		}
	}
	return answers
}
