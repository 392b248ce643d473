package main

import (
	"regexp"
	"testing"
	"time"

	"recompose/shared/chain"

	"github.com/stretchr/testify/require"
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
		require.Regexp(t, `(?m)^\S+ \S+  lonely +checkimages, 3 desktops +by recompose/send  open: checkimages command lonely has no event yet$`, r.out)
		require.Regexp(t, `(?m)^\S+ \S+  nightly-1 +rebuild, 2 desktops .* open: checkimages command beside has no event yet$`, r.out)
		require.Contains(t, r.out, "\n3 chains\n", "and the one that has an open job")
		rows := lines[chain.Row](t, w.run(t, "chains", "--open", "--json").out)
		require.Len(t, rows, 3)
		require.Equal(t, []string{"checkimages command lonely"}, rows[2].Open)
		require.WithinDuration(t, time.Now(), rows[2].First, time.Minute)
	})
	t.Run("delayed", func(t *testing.T) {
		t.Parallel()
		h := newHome(t, 3)
		require.Equal(t, exitDone, h.run(t, "freeze", "--reason", "ticket 4711").code)
		require.Equal(t, exitUnknown, h.rebuild(t, "--id", "frozen", "--timeout", "3s").code)
		listed := regexp.MustCompile(`  frozen +rebuild, 1 desktop .* open: rebuild command frozen has no event yet, next attempt at \d\d:\d\d\n1 chain\n`)
		eventually(t, func() bool { return listed.MatchString(h.run(t, "chains", "--open").out) }, "it is not listed as delayed")
		require.Equal(t, exitDone, h.run(t, "thaw").code)
		require.Equal(t, exitDone, h.run(t, "wait", "frozen").code)
		require.Equal(t, "0 chains\n", h.run(t, "chains", "--open").out)
	})
}
