package chain

import (
	"encoding/json"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// splitRebuild returns the events of an image, of a rebuild in two parts, of which one fails, and of the checks.
func splitRebuild(t *testing.T) []events.Envelope {
	t.Helper()
	then := &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: []string{"d1", "d2", "d3"}}}
	made := event(t, events.FnWatchJob, events.TypeJobCompleted, "made", "accepted", events.JobCompleted{
		Function: events.FnDesktopToImage, JobID: "j1", Outcome: events.Succeeded, Image: &events.Image{ImageID: "i",
			ImageName: "n", ImageType: "private"}, Then: then,
	})
	rebuild := events.ReactionID(made, events.FnRebuild)
	rebuilt := event(t, events.FnWatchJob, events.TypeJobCompleted, "rebuilt", "accepted2", events.JobCompleted{
		Function: events.FnRebuild, JobID: "j2", Outcome: events.Partial, ImageID: "i", Desktops: []events.DesktopResult{
			{DesktopID: "d1", Outcome: events.Succeeded}, {DesktopID: "d2", Outcome: events.Failed, ErrorCode: "WKS.1",
				FailReason: "why"},
		},
	})
	command := events.CommandRef{Type: events.TypeRebuild, ID: rebuild}
	es := []events.Envelope{
		event(t, events.FnDesktopToImage, events.TypeJobAccepted, "accepted", "root", events.JobAccepted{
			Function: events.FnDesktopToImage, Command: events.CommandRef{Type: events.TypeDesktopToImage,
				ID: "root"}, JobID: "j1", DesktopIDs: []string{"golden"}, ImageName: "n", Then: then, RequestID: "req-1",
		}),
		made,
		event(t, events.FnRebuild, events.TypeCommandSplit, "split", rebuild,
			events.CommandSplit{Command: command, Parts: []events.Part{{ID: "p1", DesktopIDs: []string{"d1", "d2"}}, {ID: "p2",
				DesktopIDs: []string{"d3"}}}}),
		event(t, events.FnRebuild, events.TypeJobAccepted, "accepted2", "p1", events.JobAccepted{
			Function: events.FnRebuild, JobID: "j2", DesktopIDs: []string{"d1",
				"d2"}, ImageID: "i", Previous: []events.ImageInfo{{DesktopID: "d1"}}, RequestID: "req-2",
		}),
		rebuilt,
		event(t, events.FnCheckImages, events.TypeImagesChecked, "checked", events.ReactionID(rebuilt, events.FnCheckImages),
			events.ImagesChecked{Expected: &events.Expected{ImageID: "i"}, Matched: []string{"d1"}}),
		event(t, events.FnRebuild, events.TypeCommandFailed, "failed", "p2", events.CommandFailed{
			Command: events.CommandRef{Type: events.TypeRebuild,
				ID: "p2"}, Attempts: 3, DesktopIDs: []string{"d3"}, Effect: events.EffectNone,
			Error: events.Failure{Kind: events.KindConflict, HTTPStatus: 409, ErrorCode: "WKS.2", ErrorMsg: "busy",
				RequestID: "req-3"},
		}),
	}
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	for i := range es {
		es[i].Time = at.Add(time.Duration(i*i) * time.Second)
	}
	return es
}

// walk visits all nodes.
func walk(nodes []*Node, visit func(*Node)) {
	for _, n := range nodes {
		visit(n)
		walk(n.Children, visit)
	}
}

func treeOf(root string, es ...events.Envelope) Tree {
	c := New("c", events.Root{ID: root})
	for _, e := range es {
		c.Add(e)
	}
	return c.Tree()
}

// The tree holds for every subset of the events, in any order, with duplicates and gaps.
func TestEveryEventHasOnePlace(t *testing.T) {
	t.Parallel()
	all := append(splitRebuild(t), event(t, events.FnRebuild, events.TypeCommandUnclear, "unclear", "", events.CommandUnclear{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "p2"},
	}))
	for subset := range 1 << len(all) {
		var es []events.Envelope
		for i, e := range all {
			if subset>>i&1 == 1 {
				es = append(es, e)
			}
		}
		for _, root := range []string{"", "root"} {
			whole := treeOf(root, es...)
			var places []string
			open := 0
			walk(whole.Roots, func(n *Node) {
				if n.Kind == nodeEvent {
					places = append(places, n.ID)
				}
				if n.Open {
					open++
				}
			})
			var ids []string
			for _, e := range es {
				ids = append(ids, e.ID)
			}
			require.ElementsMatch(t, ids, places, "%b", subset)
			require.Equal(t, len(whole.Open), open, "%b: each open node is marked", subset)
			require.Equal(t, len(es), whole.Events)

			twice := append(slices.Clone(es), es...)
			rand.Shuffle(len(twice), func(i, j int) { twice[i], twice[j] = twice[j], twice[i] })
			require.Equal(t, toJSON(t, whole), toJSON(t, treeOf(root, twice...)), "%b: in any order", subset)
		}
	}
}

var clockTime = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d`)

func drawn(tree Tree) string {
	return clockTime.ReplaceAllString(strings.Join(tree.Lines(), "\n"), "TIME") + "\n"
}

func TestTreeAsDrawn(t *testing.T) {
	t.Parallel()
	es := splitRebuild(t)
	rebuild, check := events.ReactionID(es[1], events.FnRebuild), events.ReactionID(es[4], events.FnCheckImages)
	require.Equal(t, `desktoptoimage command root
└─ TIME  desktoptoimage  job j1 accepted: image n from desktop golden  [POST desktop-to-image, request req-1]
   └─ TIME +1s  watchjob  job j1: succeeded, image n has id i (private)  [GET workspace-sub-jobs]  [GET images]
      └─ rebuild command `+rebuild+`, 3 desktops
         └─ TIME +3s  rebuild  3 desktops are split into 2 commands of at most 100
            ├─ rebuild command p1, 2 desktops
            │  └─ TIME +5s  rebuild  job j2 accepted: 2 desktops from image i  [POST check-images]  [POST rebuild, request req-2]
            │     └─ TIME +7s  watchjob  job j2: partial, 1 of 2 desktops rebuilt, 1 failed  [GET workspace-sub-jobs]
            │        │     desktop d2: failed, WKS.1, why
            │        └─ checkimages command `+check+`, 1 desktop
            │           └─ TIME +9s  checkimages  1 of 1 desktop run image i  [POST check-images]
            └─ rebuild command p2, 1 desktop
               └─ TIME +32s  rebuild  rebuild failed (conflict, status 409, WKS.2): busy [request req-3]. Nothing was done at the service, attempt 3  [POST rebuild → 409 WKS.2, request req-3]

chain     c: 7 events within 36s
open      nothing: it has ended
`, drawn(treeOf("", es...)))

	short := drawn(treeOf("", es[:4]...))
	require.Contains(t, short,
		"job j2 accepted: 2 desktops from image i  [POST check-images]  [POST rebuild, request req-2]  … still open\n")
	require.Contains(t, short, "rebuild command p2, 1 desktop  … still open\n")
	require.Contains(t, short, "open      job j2 of rebuild\nopen      rebuild command p2\n")
	require.Contains(t, drawn(treeOf("other", es[3])), "command other  … still open\n")
}

func TestTreeOfTwoEndsAndManyDesktops(t *testing.T) {
	t.Parallel()
	var results []events.DesktopResult
	for _, id := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		results = append(results, events.DesktopResult{DesktopID: id, Outcome: events.Missing})
	}
	text := drawn(treeOf("",
		event(t, events.FnGetDesktop, events.TypeCommandFailed, "1", "x", events.CommandFailed{}),
		event(t, events.FnGetDesktop, events.TypeDesktopDescribed, "2", "x", events.DesktopDescribed{}),
		event(t, events.FnWatchJob, events.TypeJobCompleted, "3", "y",
			events.JobCompleted{Function: events.FnRebuild, JobID: "j", Outcome: events.Lost, Desktops: results}),
	))
	require.Contains(t, text, "getdesktop command x, ended 2 times\n")
	require.Contains(t, text, "desktop e: missing\n")
	require.NotContains(t, text, "desktop f: missing\n")
	require.Contains(t, text, "and 2 more: 7 missing\n")
}

// Reports of progress are not drawn one by one, and the counts show that.
func TestTreeCountsWhatItDoesNotDraw(t *testing.T) {
	t.Parallel()
	ref := events.CommandRef{Type: events.TypeRebuild, ID: "root"}
	accepted := event(t, events.FnRebuild, events.TypeJobAccepted, "a", "root",
		events.JobAccepted{Function: events.FnRebuild, Command: ref, JobID: "j", DesktopIDs: []string{"d1"}, ImageID: "i"})
	passed := func(percent int) events.Envelope {
		return event(t, events.FnWatchJob, events.TypeJobProgress, "p"+strconv.Itoa(percent), "",
			events.JobProgress{Function: events.FnRebuild, Command: ref, JobID: "j", Percent: percent})
	}
	tree := treeOf("", accepted, passed(25), passed(50))
	require.Equal(t, "rebuild command root\n"+
		"└─ TIME  rebuild  job j accepted: 1 desktop from image i  [POST rebuild]  … still open, 50 %\n\n"+
		"chain     c: 3 events within 0s; not drawn: 2 reports of progress\nopen      job j of rebuild\n", drawn(tree))
	require.Equal(t, []int{3, 2}, []int{tree.Events, tree.Progress})
}

func toJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	return string(raw)
}
