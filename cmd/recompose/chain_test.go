package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/safety"
)

// said is an event of chain "c" that function says because of causation.
func said(t *testing.T, function, typ, id, causation string, data any) events.Envelope {
	t.Helper()
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	return events.Envelope{ID: id, Source: events.Source(function), Type: typ, Correlation: "c", Causation: causation, Data: raw}
}

// story is what is said when an image is made and two desktops are rebuilt from it, of which the second fails.
func story(t *testing.T) []events.Envelope {
	t.Helper()
	then := &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: []string{"d1", "d2"}}}
	image := &events.Image{ImageID: "i", ImageName: "n", ImageType: "private"}
	made := said(t, events.FnWatchJob, events.TypeJobCompleted, "made", "accepted", events.JobCompleted{
		Function: events.FnDesktopToImage, JobID: "j1", Outcome: events.Succeeded, Image: image, Then: then,
		Desktops: []events.DesktopResult{{DesktopID: "golden", Outcome: events.Succeeded}},
	})
	rebuilt := said(t, events.FnWatchJob, events.TypeJobCompleted, "rebuilt", "accepted2", events.JobCompleted{
		Function: events.FnRebuild, JobID: "j2", Outcome: events.Partial, ImageID: "i", Desktops: []events.DesktopResult{
			{DesktopID: "d1", Outcome: events.Succeeded}, {DesktopID: "d2", Outcome: events.Failed, ErrorCode: "WKS.1", FailReason: "why"},
		},
	})
	return []events.Envelope{
		said(t, events.FnDesktopToImage, events.TypeJobAccepted, "accepted", "root", events.JobAccepted{Function: events.FnDesktopToImage, JobID: "j1", DesktopIDs: []string{"golden"}, ImageName: "n", Then: then}),
		made,
		said(t, events.FnRebuild, events.TypeJobAccepted, "accepted2", events.ReactionID(made, events.FnRebuild), events.JobAccepted{Function: events.FnRebuild, JobID: "j2", DesktopIDs: []string{"d1", "d2"}, ImageID: "i"}),
		rebuilt,
		said(t, events.FnCheckImages, events.TypeImagesChecked, "checked", events.ReactionID(rebuilt, events.FnCheckImages), events.ImagesChecked{Expected: &events.Expected{ImageID: "i"}, Matched: []string{"d1"}}),
	}
}

func TestChainEndsAndSumsUp(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"root", ""} { // with the first command, and with the correlation id alone
		c := newChain("c", events.Root{ID: root})
		require.NotEmpty(t, c.open(), "nothing is said yet")
		for i, e := range story(t) {
			require.True(t, c.add(e))
			require.False(t, c.add(e), "twice")
			require.Equal(t, i == 4, len(c.open()) == 0, "after %s", e.ID)
		}
		stranger := story(t)[0]
		stranger.Correlation = "another"
		require.False(t, c.add(stranger))
		r := c.result()
		require.False(t, r.ok())
		require.Equal(t, "i", r.Image.ImageID)
		require.Equal(t, []string{"d1"}, r.Rebuilt)
		require.Equal(t, []string{"d1"}, r.Verified)
		require.Equal(t, []failedDesktop{{"d2", events.Failed, "WKS.1", "why"}}, r.Failed)
		require.Empty(t, r.Problems)
	}
}

// Two data under one id are two chains: with its digest only its own events count, without it all of them.
func TestSeveralDataOfOneID(t *testing.T) {
	t.Parallel()
	failed := func(id, digest string) events.Envelope {
		return said(t, events.FnRebuild, events.TypeCommandFailed, id, "root", events.CommandFailed{
			Command: events.CommandRef{Type: events.TypeRebuild, ID: "root", Digest: digest}, DesktopIDs: []string{"d-" + digest},
			Error: events.Failure{Kind: events.KindIDReused},
		})
	}
	ids := func(r result) (ids []string) {
		for _, d := range r.Failed {
			ids = append(ids, d.DesktopID)
		}
		return ids
	}
	for name, c := range map[string]struct {
		root   events.Root
		failed []string
		open   int
	}{
		"one":     {events.Root{ID: "root", Digest: "1"}, []string{"d-1"}, 0},
		"another": {events.Root{ID: "root", Digest: "2"}, []string{"d-2"}, 0},
		"a third": {events.Root{ID: "root", Digest: "3"}, nil, 1},
		"any":     {events.Root{ID: "root"}, []string{"d-1", "d-2"}, 0},
		"all":     {events.Root{}, []string{"d-1", "d-2"}, 0},
	} {
		ch := newChain("c", c.root)
		require.True(t, ch.add(failed("e1", "1")))
		require.True(t, ch.add(failed("e2", "2")))
		require.Equal(t, c.failed, ids(ch.result()), name)
		require.Len(t, ch.open(), c.open, name)
	}

	// The copy of an earlier version gives way to the one with a digest.
	ch := newChain("c", events.Root{})
	require.True(t, ch.add(failed("e1", "")))
	require.Equal(t, []events.Root{{ID: "root"}}, ch.roots())
	require.True(t, ch.add(failed("e1", "1")))
	require.False(t, ch.add(failed("e1", "")))
	require.False(t, ch.add(failed("e1", "1")))
	require.Equal(t, []events.Root{{ID: "root", Digest: "1"}}, ch.roots())
	require.Len(t, ch.said, 1)
}

// What comes before the event that it follows from is shown with it.
func TestFollowShowsWhatIsItsOwnInAnyOrder(t *testing.T) {
	t.Parallel()
	es := story(t)
	stranger := said(t, events.FnGetDesktop, events.TypeDesktopDescribed, "stranger", "other", events.DesktopDescribed{})
	order := []events.Envelope{stranger, es[1], es[4], es[3], es[2], es[0]}
	read := func(_ context.Context, each func(events.Envelope) (bool, error)) error {
		for _, e := range order {
			if more, err := each(e); err != nil || !more {
				return err
			}
		}
		return nil
	}
	cmd := &cobra.Command{}
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetContext(t.Context())
	f := followFlags{json: true}
	w := &waiting{f: &f, cmd: cmd, c: newChain("c", events.Root{ID: "root"}), begun: time.Now(), last: time.Now()}
	require.NoError(t, f.read(t.Context(), read, w))
	var shown []string
	for _, e := range lines[events.Envelope](t, out.String()) {
		shown = append(shown, e.ID)
	}
	require.ElementsMatch(t, []string{"accepted", "made", "accepted2", "rebuilt", "checked"}, shown)
}

func TestSeveralCommandsOfOneCorrelation(t *testing.T) {
	t.Parallel()
	c := newChain("c", events.Root{})
	described := func(id, causation string) events.Envelope {
		return said(t, events.FnGetDesktop, events.TypeDesktopDescribed, id, causation, events.DesktopDescribed{})
	}
	c.add(described("e1", "one"))
	c.add(said(t, events.FnRebuild, events.TypeCommandSplit, "e2", "two", events.CommandSplit{Parts: []events.Part{{ID: "p1"}, {ID: "p2"}}}))
	require.Equal(t, []events.Root{{ID: "one"}, {ID: "two"}}, c.roots())
	require.Len(t, c.open(), 2)
	c.add(described("e3", "p1"))
	c.add(described("e4", "p2"))
	require.Empty(t, c.open())
}

func TestAnAcceptanceWithoutAJobIsNotDescribedAsOne(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"job.accepted without a job: it proves nothing"}, describeAccepted(events.JobAccepted{Function: events.FnRebuild}))
}

// A command whose desktops were rebuilt by no job that is known reports neither that none was needed nor a failure.
func TestARebuildByAnUnknownJobIsDescribed(t *testing.T) {
	t.Parallel()
	done := events.JobCompleted{Function: events.FnRebuild, Outcome: events.Succeeded, Desktops: []events.DesktopResult{
		{DesktopID: "d1", Outcome: events.Skipped}, {DesktopID: "d2", Outcome: events.Succeeded, Kind: events.KindUnknownOutcome},
	}}
	require.Equal(t, []string{
		"no job was found: succeeded, 1 of 2 desktops rebuilt, 1 skipped",
		"1 desktop rebuilt since an earlier attempt of this command, by a job that is not known",
	}, describeCompleted(done))
	c := newChain("c", events.Root{ID: "root"})
	c.add(said(t, events.FnRebuild, events.TypeJobCompleted, "e", "root", done))
	r := c.result()
	require.True(t, r.ok())
	require.Equal(t, []string{"d2"}, r.Rebuilt)
	require.Len(t, c.open(), 1, "the check of its image")
}

func TestResults(t *testing.T) {
	t.Parallel()
	fleet := []string{"d1", "d2"}
	then := &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: fleet}}
	notStarted := []failedDesktop{{DesktopID: "d1", Outcome: outcomeNotStarted, FailReason: "the chain ended before its rebuild began"}, {DesktopID: "d2", Outcome: outcomeNotStarted, FailReason: "the chain ended before its rebuild began"}}
	for name, test := range map[string]struct {
		typ      string
		data     any
		fleet    []string
		failed   []failedDesktop
		problems []string // parts of them
	}{
		"all skipped":   {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnRebuild, Outcome: events.Succeeded, Desktops: []events.DesktopResult{{DesktopID: "d1", Outcome: events.Skipped}}}},
		"nothing wrong": {typ: events.TypeImagesChecked, data: events.ImagesChecked{ImageInfos: []json.RawMessage{[]byte(`{"desktop_id":"d1","image_id":"i"}`)}}},
		"asked for and missing": {typ: events.TypeImagesChecked, data: events.ImagesChecked{Missing: []string{"d1"}},
			failed: []failedDesktop{{"d1", events.Missing, "", "the service tells no image for it"}}},
		"mismatched": {typ: events.TypeImagesChecked, data: events.ImagesChecked{Expected: &events.Expected{ImageID: "i"}, Matched: []string{"d1"}, Mismatched: []string{"d2"}, Missing: []string{"d2"}},
			failed: []failedDesktop{{"d2", outcomeMismatched, "", "does not run image i"}}},
		"the image job failed": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnDesktopToImage, JobID: "j", Outcome: events.Failed, Then: then,
			Desktops: []events.DesktopResult{{DesktopID: "golden", Outcome: events.Failed, ErrorCode: "IMG.1", FailReason: "no space"}}},
			failed: notStarted, problems: []string{"desktoptoimage: job j ended as failed; desktop golden: failed, IMG.1, no space"}},
		"several images have the name": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnDesktopToImage, JobID: "j", Outcome: events.Failed, Error: &events.Failure{Kind: events.KindAmbiguousImage, ErrorMsg: "two"}},
			problems: []string{"(ambiguous_image): two"}},
		"lost": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnRebuild, JobID: "j", Outcome: events.Lost, Desktops: []events.DesktopResult{{DesktopID: "d1", Outcome: events.Missing}}},
			failed: []failedDesktop{{"d1", events.Missing, "", ""}}},
		"rebuilt, by no job that is known": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnRebuild, Outcome: events.Partial,
			Error: &events.Failure{Kind: events.KindUnknownOutcome, ErrorMsg: "why"}, Desktops: []events.DesktopResult{
				{DesktopID: "d1", Outcome: events.Succeeded, Kind: events.KindUnknownOutcome}, {DesktopID: "d2", Outcome: events.Missing, Kind: events.KindUnknownOutcome},
			}},
			failed:   []failedDesktop{{"d2", events.Missing, "", "it runs the image; whether it was rebuilt is not known: look before you send it again"}},
			problems: []string{"rebuild: no job was found, ended as partial (unknown_outcome): why"}},
		"the capture was refused": {typ: events.TypeCommandFailed, fleet: fleet, data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeDesktopToImage}, DesktopIDs: []string{"golden"}, Effect: events.EffectNone,
			Error: events.Failure{Kind: events.KindConflict, HTTPStatus: 409, ErrorCode: "WKS.2", ErrorMsg: "busy", RequestID: "r"}},
			failed: notStarted, problems: []string{"desktoptoimage failed (conflict, status 409, WKS.2): busy [request r]. Nothing was done at the service"}},
		"the outcome of a rebuild is unknown": {typ: events.TypeCommandFailed, data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild}, DesktopIDs: []string{"d1"}, Effect: events.EffectUnknown, Error: events.Failure{Kind: events.KindUnknownOutcome}},
			failed: []failedDesktop{{"d1", events.KindUnknownOutcome, "", " (whether the service did it is unknown: look before you send it again)"}}},
		"a command that names no desktop": {typ: events.TypeCommandFailed, data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild}, Error: events.Failure{Kind: events.KindInvalid, ErrorMsg: "bad"}},
			problems: []string{"rebuild failed (invalid): bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChain("c", events.Root{ID: "root"})
			c.fleet = test.fleet
			c.add(said(t, events.FnRebuild, test.typ, "e", "root", test.data))
			r := c.result()
			require.Equal(t, test.failed, r.Failed)
			require.Len(t, r.Problems, len(test.problems))
			for i, part := range test.problems {
				require.Contains(t, r.Problems[i], part)
			}
			require.Equal(t, len(test.failed)+len(test.problems) == 0, r.ok())
		})
	}
}

func TestFailedDesktopsMakeAnIDFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "failed.txt")
	require.NoError(t, writeIDFile(file, "why \x1b", []failedDesktop{{"d1", "failed", "WKS.1", "line\nbreak # and more\u202e"}, {DesktopID: "d2"}}))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "# why \\x1b\nd1  # failed, WKS.1, line\\nbreak # and more\\u202e\nd2\n", string(content))
	ids, err := safety.ReadIDs(strings.NewReader(string(content)))
	require.NoError(t, err)
	require.Equal(t, []string{"d1", "d2"}, ids)
}

func TestWhatIsToldHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	evil := "x\x1b[2J\r\n\u009b\u202e"
	failure := &events.Failure{Kind: evil, ErrorCode: evil, ErrorMsg: evil, RequestID: evil}
	for typ, data := range map[string]any{
		events.TypeJobAccepted:      events.JobAccepted{Function: events.FnDesktopToImage, JobID: evil, ImageName: evil, DesktopIDs: []string{evil}, Warning: failure, DelayTime: 1, Skipped: []string{"a"}},
		events.TypeJobCompleted:     events.JobCompleted{Function: events.FnRebuild, JobID: evil, Outcome: evil, Image: &events.Image{ImageName: evil}, Error: failure, Desktops: []events.DesktopResult{{DesktopID: evil, Outcome: events.Failed, FailReason: evil, ErrorCode: evil}}},
		events.TypeImagesChecked:    events.ImagesChecked{Missing: []string{evil}, ImageInfos: []json.RawMessage{mustJSON(t, events.ImageInfo{DesktopID: evil, ImageName: evil})}},
		events.TypeDesktopDescribed: events.DesktopDescribed{Desktop: mustJSON(t, map[string]string{"computer_name": evil, "status": evil, "task_status": evil})},
		events.TypeCommandFailed:    events.CommandFailed{Command: events.CommandRef{Type: "recompose.command." + evil}, Error: *failure, Effect: events.EffectAccepted},
		"recompose.event." + evil:   evil,
	} {
		var out strings.Builder
		e := said(t, evil, typ, evil, "root", data)
		tell(&out, e, "12:00:00")
		c := newChain("c", events.Root{ID: "root"})
		c.add(e)
		sumUp(&out, c.result(), "")
		for line := range strings.SplitSeq(out.String(), "\n") {
			require.True(t, isPrintable(line), "%q", line)
		}
	}
}
