package chaostest

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

// Ending is the content of an end event for one desktop.
type Ending struct {
	Command string
	Outcome string // of the desktop in a job, or "" of a failed command
	Job     string
	Image   string
	Effect  string // of a failed command
	Kind    string
}

func (e Ending) String() string {
	return fmt.Sprintf("%s: outcome %q job %q effect %q kind %q", e.Command, e.Outcome, e.Job, e.Effect, e.Kind)
}

// Account compares the published events with the emulator's state, by desktop. Each desktop is in only one command of
// each kind, so counting finds what was done twice.
type Account struct {
	tb       testing.TB
	commands map[string][]string // id of a write command → its desktops
	Rebuilt  map[string][]Ending
	Captured map[string][]Ending
	Jobs     map[string]emulator.Job
	jobsOf   map[string][]string // kind and desktop → jobs
	images   map[string]string   // desktop → image that it runs
	rebuilds map[string]int      // desktop → how often its disk was replaced
}

// Read decodes an event's data.
func Read[T any](tb testing.TB, e events.Envelope) T {
	tb.Helper()
	var v T
	require.NoError(tb, json.Unmarshal(e.Data, &v))
	return v
}

// Take makes the account of the published events for the given commands.
func Take(tb testing.TB, published []events.Envelope, state emulator.State, commands map[string][]string) *Account {
	tb.Helper()
	a := &Account{tb: tb, commands: maps.Clone(commands), Rebuilt: map[string][]Ending{}, Captured: map[string][]Ending{},
		Jobs: map[string]emulator.Job{}, jobsOf: map[string][]string{}, images: map[string]string{}, rebuilds: map[string]int{}}
	for _, d := range state.Desktops {
		if d.Notes != nil {
			a.rebuilds[d.DesktopID] = d.Notes.Rebuilds
		}
		a.images[d.DesktopID] = d.Metadata["metering.image_id"]
	}
	for _, j := range state.Jobs {
		a.Jobs[j.ID] = j
		for _, s := range j.SubJobs {
			key := j.JobType + " " + s.Entities.DesktopID
			a.jobsOf[key] = append(a.jobsOf[key], j.ID)
		}
	}
	ends := EndsOf(published)
	for _, list := range ends { // commands that follow from others
		for _, e := range list {
			switch e.Type {
			case events.TypeCommandSplit:
				for _, p := range Read[events.CommandSplit](tb, e).Parts {
					a.commands[p.ID] = p.DesktopIDs
				}
			case events.TypeJobCompleted:
				if c := Read[events.JobCompleted](tb, e); c.ImpliesRebuild() {
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

func (a *Account) enter(id string, e events.Envelope) {
	switch e.Type {
	case events.TypeJobCompleted:
		c := Read[events.JobCompleted](a.tb, e)
		if c.Function == events.FnDesktopToImage {
			golden := a.commands[id][0]
			end := Ending{Command: id, Outcome: c.Outcome, Job: c.JobID}
			if c.Image != nil {
				end.Image = c.Image.ImageID
			}
			a.Captured[golden] = append(a.Captured[golden], end)
			return
		}
		for _, d := range c.Desktops {
			a.Rebuilt[d.DesktopID] = append(a.Rebuilt[d.DesktopID], Ending{Command: id, Outcome: d.Outcome, Kind: d.Kind, Job: c.JobID, Image: c.ImageID})
		}
	case events.TypeCommandFailed:
		f := Read[events.CommandFailed](a.tb, e)
		if f.Error.Kind == events.KindInvalid { // it may name desktops of other commands, or a desktop twice
			return
		}
		ids := f.DesktopIDs
		if len(ids) == 0 {
			ids = a.commands[id]
		}
		end := Ending{Command: id, Effect: f.Effect, Kind: f.Error.Kind}
		for _, d := range ids {
			switch f.Command.Type {
			case events.TypeRebuild:
				a.Rebuilt[d] = append(a.Rebuilt[d], end)
			case events.TypeDesktopToImage:
				a.Captured[d] = append(a.Captured[d], end)
			}
		}
	}
}

// Types of the emulator's jobs.
const (
	RebuildJob = "rebuildDesktops"
	ImageJob   = "desktopToImage"
)

// Honest checks every end against the emulator's state.
func (a *Account) Honest() {
	a.tb.Helper()
	for key, jobs := range a.jobsOf {
		require.Len(a.tb, jobs, 1, "accepted more than once: %s", key)
	}
	for desktop, ends := range a.Rebuilt {
		require.Len(a.tb, ends, 1, "desktop %s ends more than once: %v", desktop, ends)
		a.holds(desktop, RebuildJob, ends[0])
	}
	for desktop, ends := range a.Captured {
		require.Len(a.tb, ends, 1, "the capture of %s ends more than once: %v", desktop, ends)
		a.holds(desktop, ImageJob, ends[0])
	}
	for key := range a.jobsOf { // every accepted job has an end event
		kind, desktop, _ := strings.Cut(key, " ")
		ends := a.Rebuilt[desktop]
		if kind == ImageJob {
			ends = a.Captured[desktop]
		}
		require.Len(a.tb, ends, 1, "a job was accepted, and no end event reports it: %s", key)
	}
}

// Counted checks that the emulator's journal has one accepted write for each desktop and kind, and that their jobs
// exist. It returns the number of accepted writes.
func (a *Account) Counted(journal []emulator.Request) (accepted int) {
	a.tb.Helper()
	accepts := map[string]emulator.Request{}
	for _, r := range journal {
		if r.Effect != emulator.EffectJob {
			continue
		}
		accepted++
		require.Contains(a.tb, a.Jobs, r.JobID)
		for _, d := range r.DesktopIDs {
			before, twice := accepts[r.Call+" "+d]
			require.False(a.tb, twice, "%s of desktop %s was accepted twice: %+v and %+v", r.Call, d, before, r)
			accepts[r.Call+" "+d] = r
		}
	}
	for desktop, n := range a.rebuilds {
		require.LessOrEqual(a.tb, n, 1, "the disk of desktop %s was replaced more than once", desktop)
	}
	return accepted
}

// holds checks one end against the emulator's state.
func (a *Account) holds(desktop, kind string, e Ending) {
	a.tb.Helper()
	accepted := a.jobsOf[kind+" "+desktop]
	switch {
	case e.Effect == events.EffectNone, e.Outcome == events.Skipped:
		require.Empty(a.tb, accepted, "desktop %s, %v: but a job was accepted", desktop, e)
	case e.Effect != "": // unknown or accepted: consistent with either state
	case e.Job == "" && e.Kind == events.KindUnknownOutcome && e.Outcome == events.Succeeded: // no job was listed
		require.Len(a.tb, accepted, 1, "desktop %s, %v: no job was accepted", desktop, e)
		require.Equal(a.tb, e.Image, a.images[desktop], "desktop %s, %v: does not run the image", desktop, e)
	case e.Job == "" && e.Kind == events.KindUnknownOutcome: // the baseline is unknown, too: the end claims nothing
	case e.Job == "":
		require.FailNow(a.tb, "an end without a job", "desktop %s, %v", desktop, e)
	default:
		require.Equal(a.tb, []string{e.Job}, accepted, "desktop %s, %v", desktop, e)
		a.outcome(desktop, kind, e)
	}
}

// outcome checks the outcome of a desktop against its sub-job.
func (a *Account) outcome(desktop, kind string, e Ending) {
	a.tb.Helper()
	job := a.Jobs[e.Job]
	i := slices.IndexFunc(job.SubJobs, func(s emulator.SubJob) bool { return s.Entities.DesktopID == desktop })
	sub := job.SubJobs[i]
	switch {
	case e.Outcome == events.Succeeded && kind == RebuildJob:
		require.Equal(a.tb, e.Image, a.images[desktop], "desktop %s, %v: does not run the image", desktop, e)
		require.Equal(a.tb, "SUCCESS", sub.Status, "desktop %s, %v", desktop, e)
	case e.Outcome == events.Succeeded:
		require.NotEmpty(a.tb, e.Image)
		require.Equal(a.tb, "SUCCESS", sub.Status, "desktop %s, %v", desktop, e)
	case e.Outcome == events.Failed:
		require.Equal(a.tb, "FAILED", sub.Status, "desktop %s, %v", desktop, e)
	}
}

// Once checks that every command of the chains has exactly one end, and that all copies of an event are equal.
func Once(tb testing.TB, published []events.Envelope, roots []string) {
	tb.Helper()
	ends := EndsOf(published)
	for _, root := range roots {
		require.NotEmpty(tb, ends[root], "command %s has no end", root)
	}
	for id, list := range ends {
		var texts []string
		for _, e := range list {
			texts = append(texts, fmt.Sprintf("%s %s %s", e.Type, e.ID, e.Data))
		}
		require.Len(tb, list, 1, "command %s ends more than once:\n%s", id, strings.Join(texts, "\n"))
	}
	first := map[string]events.Envelope{}
	for _, e := range published {
		before, known := first[e.Identity()]
		if !known {
			first[e.Identity()] = e
			continue
		}
		require.Equal(tb, before.Type, e.Type)
		if e.Type == events.TypeDesktopDescribed { // a later copy has no personal data
			continue
		}
		require.JSONEq(tb, string(before.Data), string(e.Data), "event %s was published with different data", e.ID)
	}
}

// Tally counts the ends of desktops by outcome, kind and effect.
func (a *Account) Tally() string {
	counts := map[string]int{}
	for _, by := range []map[string][]Ending{a.Rebuilt, a.Captured} {
		for _, ends := range by {
			for _, e := range ends {
				counts[strings.TrimSpace(e.Outcome+" "+e.Kind+" "+e.Effect)]++
			}
		}
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, counts[k]))
	}
	return strings.Join(parts, ", ")
}
