//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
)

// ending is what an end event says of one desktop.
type ending struct {
	command string
	outcome string // of the desktop in a job, or "" of a failed command
	job     string
	image   string
	effect  string // of a failed command
	kind    string
}

func (e ending) String() string {
	return fmt.Sprintf("%s: outcome %q job %q effect %q kind %q", e.command, e.outcome, e.job, e.effect, e.kind)
}

// account is what was said and what the emulator knows, by desktop. Each desktop is in one command of a kind only, so
// what was done twice is seen by counting.
type account struct {
	t        *testing.T
	commands map[string][]string // id of a write command → its desktops
	rebuilt  map[string][]ending
	captured map[string][]ending
	jobs     map[string]emulator.Job
	jobsOf   map[string][]string // kind and desktop → jobs
	images   map[string]string   // desktop → image that it runs
}

// read reads an event's data.
func read[T any](t *testing.T, e events.Envelope) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal(e.Data, &v))
	return v
}

// take makes the account of what was said about the commands given.
func take(t *testing.T, said []events.Envelope, state emulator.State, commands map[string][]string) *account {
	t.Helper()
	a := &account{t: t, commands: maps.Clone(commands), rebuilt: map[string][]ending{}, captured: map[string][]ending{},
		jobs: map[string]emulator.Job{}, jobsOf: map[string][]string{}, images: map[string]string{}}
	for _, d := range state.Desktops {
		a.images[d.DesktopID] = d.Metadata["metering.image_id"]
	}
	for _, j := range state.Jobs {
		a.jobs[j.ID] = j
		for _, s := range j.SubJobs {
			key := j.JobType + " " + s.Entities.DesktopID
			a.jobsOf[key] = append(a.jobsOf[key], j.ID)
		}
	}
	ends := endsOf(said)
	for _, list := range ends { // commands that came of others
		for _, e := range list {
			switch e.Type {
			case events.TypeCommandSplit:
				for _, p := range read[events.CommandSplit](t, e).Parts {
					a.commands[p.ID] = p.DesktopIDs
				}
			case events.TypeJobCompleted:
				if c := read[events.JobCompleted](t, e); c.ImpliesRebuild() {
					a.commands[events.ReactionID(e, events.FnRebuild)] = c.Then.Rebuild.DesktopIDs
				}
			}
		}
	}
	for id, list := range ends {
		for _, e := range list {
			a.enter(id, e)
		}
	}
	return a
}

func (a *account) enter(id string, e events.Envelope) {
	switch e.Type {
	case events.TypeJobCompleted:
		c := read[events.JobCompleted](a.t, e)
		if c.Function == events.FnDesktopToImage {
			golden := a.commands[id][0]
			end := ending{command: id, outcome: c.Outcome, job: c.JobID}
			if c.Image != nil {
				end.image = c.Image.ImageID
			}
			a.captured[golden] = append(a.captured[golden], end)
			return
		}
		for _, d := range c.Desktops {
			a.rebuilt[d.DesktopID] = append(a.rebuilt[d.DesktopID], ending{command: id, outcome: d.Outcome, job: c.JobID, image: c.ImageID})
		}
	case events.TypeCommandFailed:
		f := read[events.CommandFailed](a.t, e)
		ids := f.DesktopIDs
		if len(ids) == 0 {
			ids = a.commands[id]
		}
		end := ending{command: id, effect: f.Effect, kind: f.Error.Kind}
		for _, d := range ids {
			switch f.Command.Type {
			case events.TypeRebuild:
				a.rebuilt[d] = append(a.rebuilt[d], end)
			case events.TypeDesktopToImage:
				a.captured[d] = append(a.captured[d], end)
			}
		}
	}
}

// Types of the emulator's jobs.
const (
	rebuildJob = "rebuildDesktops"
	imageJob   = "desktopToImage"
)

// honest holds every end to what the emulator knows.
func (a *account) honest() {
	a.t.Helper()
	for key, jobs := range a.jobsOf {
		require.Len(a.t, jobs, 1, "accepted more than once: %s", key)
	}
	for desktop, ends := range a.rebuilt {
		require.Len(a.t, ends, 1, "desktop %s ends more than once: %v", desktop, ends)
		a.holds(desktop, rebuildJob, ends[0])
	}
	for desktop, ends := range a.captured {
		require.Len(a.t, ends, 1, "the capture of %s ends more than once: %v", desktop, ends)
		a.holds(desktop, imageJob, ends[0])
	}
	for key := range a.jobsOf { // and nothing was done of which nobody says anything
		kind, desktop, _ := strings.Cut(key, " ")
		said := a.rebuilt[desktop]
		if kind == imageJob {
			said = a.captured[desktop]
		}
		require.Len(a.t, said, 1, "a job was accepted, and no end tells of it: %s", key)
	}
}

// holds holds one end to the emulator.
func (a *account) holds(desktop, kind string, e ending) {
	a.t.Helper()
	accepted := a.jobsOf[kind+" "+desktop]
	switch {
	case e.effect == events.EffectNone, e.outcome == events.Skipped:
		require.Empty(a.t, accepted, "desktop %s, %v: but a job was accepted", desktop, e)
	case e.effect != "": // unknown or accepted: whatever happened, it does not say otherwise
	case e.job == "":
		require.FailNow(a.t, "an end without a job", "desktop %s, %v", desktop, e)
	default:
		require.Equal(a.t, []string{e.job}, accepted, "desktop %s, %v", desktop, e)
		a.outcome(desktop, kind, e)
	}
}

// outcome holds the outcome of a desktop in a job to the job.
func (a *account) outcome(desktop, kind string, e ending) {
	a.t.Helper()
	job := a.jobs[e.job]
	i := slices.IndexFunc(job.SubJobs, func(s emulator.SubJob) bool { return s.Entities.DesktopID == desktop })
	sub := job.SubJobs[i]
	switch {
	case e.outcome == events.Succeeded && kind == rebuildJob:
		require.Equal(a.t, e.image, a.images[desktop], "desktop %s, %v: does not run the image", desktop, e)
		require.Equal(a.t, "SUCCESS", sub.Status, "desktop %s, %v", desktop, e)
	case e.outcome == events.Succeeded:
		require.NotEmpty(a.t, e.image)
		require.Equal(a.t, "SUCCESS", sub.Status, "desktop %s, %v", desktop, e)
	case e.outcome == events.Failed:
		require.Equal(a.t, "FAILED", sub.Status, "desktop %s, %v", desktop, e)
	}
}

// once holds every command of the chains to exactly one end, and every write's end to one wording. Reads keep no record:
// one that was answered by a worker that died of it, time and again, is also given up; it gives how many were.
func once(t *testing.T, said []events.Envelope, roots []string) (twice int) {
	t.Helper()
	ends := endsOf(said)
	for _, root := range roots {
		require.NotEmpty(t, ends[root], "command %s has no end", root)
	}
	for id, list := range ends {
		var told []string
		for _, e := range list {
			told = append(told, fmt.Sprintf("%s %s %s", e.Type, e.ID, e.Data))
		}
		if len(list) == 2 && (ofRead(t, list[0]) || ofRead(t, list[1])) {
			twice++
			continue
		}
		require.Len(t, list, 1, "command %s ends more than once:\n%s", id, strings.Join(told, "\n"))
	}
	first := map[string]events.Envelope{}
	for _, e := range said {
		before, again := first[e.Identity()]
		if !again {
			first[e.Identity()] = e
			continue
		}
		require.Equal(t, before.Type, e.Type)
		if e.Type != events.TypeDesktopDescribed && e.Type != events.TypeImagesChecked { // a read is as true as its time
			require.JSONEq(t, string(before.Data), string(e.Data), "event %s is said in two ways", e.ID)
		}
	}
	return twice
}

// ofRead reports whether an event is the failure of a read after all its attempts.
func ofRead(t *testing.T, e events.Envelope) bool {
	t.Helper()
	if e.Type != events.TypeCommandFailed {
		return false
	}
	f := read[events.CommandFailed](t, e)
	return f.Effect == events.EffectNone && (f.Command.Type == events.TypeCheckImages || f.Command.Type == events.TypeGetDesktop)
}

// tally counts the ends of desktops by what they say.
func (a *account) tally() string {
	counts := map[string]int{}
	for _, by := range []map[string][]ending{a.rebuilt, a.captured} {
		for _, ends := range by {
			for _, e := range ends {
				counts[strings.TrimSpace(e.outcome+" "+e.kind+" "+e.effect)]++
			}
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(parts, ", ")
}
