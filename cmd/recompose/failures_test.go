package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// refusedFleet is a chain of a rebuild of so many desktops, of which all parts were refused.
func refusedFleet(t *testing.T, desktops int) *chain {
	t.Helper()
	c := newChain("c", events.Root{})
	split := events.CommandSplit{Command: events.CommandRef{Type: events.TypeRebuild, ID: "c"}}
	for first := 0; first < desktops; first += 100 {
		part := events.Part{ID: fmt.Sprintf("part-%d", first)}
		for i := range 100 {
			part.DesktopIDs = append(part.DesktopIDs, fmt.Sprintf("d-%04d", first+i))
		}
		split.Parts = append(split.Parts, part)
	}
	require.True(t, c.add(said(t, "split", events.TypeCommandSplit, "c", "c", split)))
	for _, part := range split.Parts {
		require.True(t, c.add(said(t, "end-"+part.ID, events.TypeCommandFailed, "c", part.ID, events.CommandFailed{
			Command: events.CommandRef{Type: events.TypeRebuild, ID: part.ID}, DesktopIDs: part.DesktopIDs, Effect: events.EffectNone,
			Error: events.Failure{
				Kind: events.KindNotFound, HTTPStatus: 404, ErrorCode: "WKS.00990404",
				ErrorMsg: "The desktop " + part.DesktopIDs[0] + " does not exist.",
			},
		})))
	}
	require.Empty(t, c.open())
	return c
}

func TestARefusedFleetIsSummedUp(t *testing.T) {
	t.Parallel()
	c := refusedFleet(t, 2000)
	var out strings.Builder
	sumUp(&out, c.result(), allFailures)
	require.Contains(t, out.String(), "desktops  0 rebuilt, 0 verified, 2000 failed, 0 skipped\n  FAILED  2000 desktops: not found, ")
	require.Contains(t, out.String(), "WKS.00990404, The desktop d-0000 does not exist. (one of 20 reasons that differ in ids alone)\n")
	require.Contains(t, out.String(), "          d-0000, d-0001, d-0002 and 1997 more\n")
	require.Contains(t, out.String(), "--failed-to FILE")
	require.Equal(t, 5, strings.Count(out.String(), "\n"), out.String())

	out.Reset()
	c.tree().draw(&out)
	require.Contains(t, out.String(), "└─ and 17 commands of 1700 desktops that failed in the same way; --json shows each\n")
	require.Less(t, len(out.String()), 2000)
	require.Len(t, c.tree().Roots[0].Children[0].Children, 20, "--json has all")

	hidden, shown := alike{}, 0
	for _, e := range c.said {
		if !hidden.hides(e) {
			shown++
		}
	}
	out.Reset()
	hidden.print(&out)
	require.Equal(t, 1+maxAlike, shown)
	require.Contains(t, out.String(), "rebuild failed (not_found WKS.00990404): 17 more")
}

// Different reasons are not mixed, and few desktops are named each.
func TestReasonsAreKeptApart(t *testing.T) {
	t.Parallel()
	r := result{}
	for i := range 100 {
		r.fail(failedDesktop{DesktopID: fmt.Sprintf("d%d", i), Outcome: "failed", ErrorCode: fmt.Sprint("WKS.", i%50/49), FailReason: "x"})
	}
	r.fail(failedDesktop{DesktopID: "e", Outcome: "missing"})
	r.Problems = []string{"checkimages failed"}
	lines := failureLines(r, "")
	require.Equal(t, []string{
		"98 desktops: failed, WKS.0, x", "  d0, d1, d2 and 95 more", "d49: failed, WKS.1, x", "d99: failed, WKS.1, x", "e: missing",
		"checkimages failed",
	}, lines)

	r = result{}
	for i := range 100 {
		r.fail(failedDesktop{DesktopID: fmt.Sprintf("d%d", i), Outcome: "failed", ErrorCode: fmt.Sprint("WKS.", i)})
	}
	lines = failureLines(r, allFailures)
	require.Len(t, lines, maxReasons+2)
	require.Equal(t, "and 80 desktops for other reasons", lines[maxReasons])
}

func TestWrapped(t *testing.T) {
	t.Parallel()
	text := "job accepted: image golden from desktop 93ad9993-3048-402c-891f-cbbb48134d6d"
	require.Equal(t, "head  "+text, wrapped("head  ", text, 6, 0))
	for _, width := range []int{42, 50, 60, 100} {
		got := wrapped("head  ", text, 6, width)
		for line := range strings.SplitSeq(got, "\n") {
			require.LessOrEqual(t, utf8.RuneCountInString(line), width)
		}
		require.True(t, slices.Equal(strings.Fields("head "+text), strings.Fields(got)), "no word is broken")
	}
	require.Equal(t, "  1s\n  "+strings.Repeat("x", 9), wrapped("  1s\n  ", strings.Repeat("x", 9), 2, 5), "a word that fits nowhere stays whole")
}
