package chain

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// refusedFleet is the chain of a rebuild whose parts were all refused.
func refusedFleet(t *testing.T, desktops int) *Chain {
	t.Helper()
	c := New("c", events.Root{})
	split := events.CommandSplit{Command: events.CommandRef{Type: events.TypeRebuild, ID: "c"}}
	for first := 0; first < desktops; first += 100 {
		part := events.Part{ID: fmt.Sprintf("part-%d", first)}
		for i := range 100 {
			part.DesktopIDs = append(part.DesktopIDs, fmt.Sprintf("d-%04d", first+i))
		}
		split.Parts = append(split.Parts, part)
	}
	require.True(t, c.Add(event(t, "split", events.TypeCommandSplit, "c", "c", split)))
	for _, part := range split.Parts {
		require.True(t, c.Add(event(t, "end-"+part.ID, events.TypeCommandFailed, "c", part.ID, events.CommandFailed{
			Command: events.CommandRef{Type: events.TypeRebuild,
				ID: part.ID}, DesktopIDs: part.DesktopIDs, Effect: events.EffectNone,
			Error: events.Failure{
				Kind: events.KindNotFound, HTTPStatus: 404, ErrorCode: "WKS.00990404",
				ErrorMsg: "The desktop " + part.DesktopIDs[0] + " does not exist.",
			},
		})))
	}
	require.Empty(t, c.Open())
	return c
}

func TestARefusedFleetIsSummedUp(t *testing.T) {
	t.Parallel()
	c := refusedFleet(t, 2000)
	require.Equal(t, []string{
		"2000 desktops: not found, WKS.00990404, The desktop d-0000 does not exist. (one of 20 reasons that differ only " +
			"in ids)",
		"  d-0000, d-0001, d-0002 and 1997 more",
		"  all in a file",
	}, c.Result().FailureLines("all in a file"))

	drawing := strings.Join(c.Tree().Lines(), "\n")
	require.Contains(t, drawing, "└─ and 17 commands of 1700 desktops that failed in the same way; --json shows each\n")
	require.Less(t, len(drawing), 2000)
	require.Len(t, c.Tree().Roots[0].Children[0].Children, 20, "--json has all")

	hidden, shown := Alike{}, 0
	for _, e := range c.events {
		if !hidden.Hides(e) {
			shown++
		}
	}
	require.Equal(t, 1+MaxAlike, shown)
	require.Equal(t, []string{"rebuild failed (not_found WKS.00990404): 17 more, not shown; --json shows each"},
		hidden.Lines())
}

// Different reasons are not mixed, and few desktops are named each.
func TestReasonsAreKeptApart(t *testing.T) {
	t.Parallel()
	r := Result{}
	for i := range 100 {
		r.fail(FailedDesktop{DesktopID: fmt.Sprintf("d%d", i), Outcome: "failed", ErrorCode: fmt.Sprint("WKS.", i%50/49),
			FailReason: "x"})
	}
	r.fail(FailedDesktop{DesktopID: "e", Outcome: "missing"})
	r.Problems = []string{"checkimages failed"}
	lines := r.FailureLines("")
	require.Equal(t, []string{
		"98 desktops: failed, WKS.0, x", "  d0, d1, d2 and 95 more", "d49: failed, WKS.1, x", "d99: failed, WKS.1, x", "e: missing",
		"checkimages failed",
	}, lines)

	r = Result{}
	for i := range 100 {
		r.fail(FailedDesktop{DesktopID: fmt.Sprintf("d%d", i), Outcome: "failed", ErrorCode: fmt.Sprint("WKS.", i)})
	}
	lines = r.FailureLines("all in a file")
	require.Len(t, lines, maxReasons+2)
	require.Equal(t, "and 80 desktops for other reasons", lines[maxReasons])
}
