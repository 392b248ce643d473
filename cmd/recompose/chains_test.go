package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
)

// A command without an event is listed: at the entrance, and while it is delayed.
func TestChainsListCommandsWithoutAnEvent(t *testing.T) {
	t.Parallel()
	t.Run("at the entrance", func(t *testing.T) {
		t.Parallel()
		w := library(t)
		send := func(args ...string) {
			require.Equal(t, exitDone, w.run(t, append([]string{"send", "checkimages"}, args...)...).code)
		}
		send("--id", "lonely", "--desktop-ids", "d1,d2,d3")
		send("--id", "beside", "--desktop-ids", "d1", "--correlation", "nightly-1") // of a chain that has ended
		r := w.run(t, "chains", "--open")
		require.Equal(t, exitDone, r.code, r.errOut)
		require.Regexp(t, `(?m)^\S+ \S+  lonely  checkimages, 3 desktops +by recompose/send  open: checkimages command lonely has no event yet$`, r.out)
		require.Regexp(t, `(?m)^\S+ \S+  nightly-1  rebuild, 2 desktops .* open: checkimages command beside has no event yet$`, r.out)
		require.Contains(t, r.out, "\n3 chains\n", "and the one that has an open job")
		rows := lines[chainRow](t, w.run(t, "chains", "--open", "--json").out)
		require.Len(t, rows, 3)
		require.Equal(t, []string{"checkimages command lonely"}, rows[2].Open)
		require.WithinDuration(t, time.Now(), rows[2].First, time.Minute)
	})
	t.Run("delayed", func(t *testing.T) {
		t.Parallel()
		h := newHome(t, "400")
		require.Equal(t, exitDone, h.run(t, "freeze", "--reason", "ticket 4711").code)
		require.Equal(t, exitUnknown, h.rebuild(t, "--id", "frozen", "--timeout", "3s").code)
		listed := regexp.MustCompile(`  frozen  rebuild, 1 desktop .* open: rebuild command frozen has no event yet, and is tried next at \d\d:\d\d\n1 chain\n`)
		eventually(t, func() bool { return listed.MatchString(h.run(t, "chains", "--open").out) }, "it is not listed as delayed")
		require.Equal(t, exitDone, h.run(t, "thaw").code)
		require.Equal(t, exitDone, h.run(t, "wait", "frozen").code)
		require.Equal(t, "0 chains\n", h.run(t, "chains", "--open").out)
	})
}

// The desktops of a command whose id was used before for other data are not those of the chain.
func TestChainsCountNoDesktopsOfReusedIDs(t *testing.T) {
	t.Parallel()
	ref := events.CommandRef{Type: events.TypeCheckImages, ID: "nightly", Source: "ci", Digest: "1"}
	checked := said(t, events.FnCheckImages, events.TypeImagesChecked, "checked", "nightly", events.ImagesChecked{
		Command: ref, Expected: &events.Expected{ImageID: "i"}, Matched: []string{"d1"}, ImageInfos: nil,
	})
	other := ref
	other.Digest = "2"
	reused := said(t, events.FnCheckImages, events.TypeCommandFailed, "reused", "nightly", events.CommandFailed{
		Command: other, DesktopIDs: []string{"d2", "d3", "d4"}, Error: events.Failure{Kind: events.KindIDReused},
	})
	row := chainRowOf("c", []events.Envelope{checked, reused}, nil)
	require.Equal(t, "succeeded", row.State)
	require.Less(t, row.Desktops, 3)
	require.Zero(t, row.Failed)
	require.Equal(t, 1, row.IDReused)
	require.Equal(t, "succeeded; 1 command with its id refused: other data", row.how)

	row = chainRowOf("c", []events.Envelope{reused}, nil) // what came before is no longer kept
	require.Equal(t, "failed: 3 desktops", row.how)

	stored := natsqueue.StoredCommand{Envelope: events.Envelope{ID: "nightly", Source: "ci", Type: events.TypeCheckImages, Data: []byte(`{}`)}}
	require.Equal(t, "succeeded", chainRowOf("c", []events.Envelope{checked}, []natsqueue.StoredCommand{stored}).State, "it has its answer")
}

// Of a chain that has nothing but a notice, what the notice names is listed.
func TestChainsListWhatANoticeNames(t *testing.T) {
	t.Parallel()
	unclear := said(t, events.FnRebuild, events.TypeCommandUnclear, "u", "", events.CommandUnclear{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "c", Source: "ci"}, DesktopIDs: []string{"d1", "d2"}, Reason: "no answer",
	})
	row := chainRowOf("c", []events.Envelope{unclear}, nil)
	var out strings.Builder
	require.NoError(t, printChains(&out, []chainRow{row}, false))
	require.Regexp(t, `  c  rebuild, 2 desktops +by ci  open: a lost call of rebuild is looked for since .*: no answer\n`, out.String())
}

func TestALostJobIsCalledLost(t *testing.T) {
	t.Parallel()
	ended := func(desktops ...events.DesktopResult) events.Envelope {
		return said(t, events.FnWatchJob, events.TypeJobCompleted, "e", "a", events.JobCompleted{
			Command:  events.CommandRef{Type: events.TypeRebuild, ID: "nightly", Source: "ci"},
			Function: events.FnRebuild, JobID: "j", Outcome: events.Lost, Desktops: desktops,
		})
	}
	d1 := events.DesktopResult{DesktopID: "d1", Outcome: events.Missing}
	require.Equal(t, []string{"job j is lost: the service does not show how it ended; whether 1 desktop was rebuilt is not known", "desktop d1: missing"},
		describe(ended(d1)))
	require.Contains(t, describe(ended(d1, events.DesktopResult{DesktopID: "d2", Outcome: events.Succeeded}))[0],
		"job j is lost: the service does not show how it ended, 1 of 2 desktops rebuilt, 1 missing")
	accepted := said(t, events.FnRebuild, events.TypeJobAccepted, "a", "nightly", events.JobAccepted{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "nightly", Source: "ci"}, Function: events.FnRebuild, JobID: "j", DesktopIDs: []string{"d1"},
	})
	require.Equal(t, "failed: 1 desktop; job j is lost: the service does not show how it ended",
		chainRowOf("c", []events.Envelope{accepted, ended(d1)}, nil).how)
}
