package chain

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// event is an event of chain "c" that a function publishes because of causation.
func event(t *testing.T, function, typ, id, causation string, data any) events.Envelope {
	t.Helper()
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	return events.Envelope{ID: id, Source: events.Source(function), Type: typ, Correlation: "c", Causation: causation,
		Data: raw}
}

// imageAndRebuild returns the events of an image and of the rebuild of two desktops, of which the second fails.
func imageAndRebuild(t *testing.T) []events.Envelope {
	t.Helper()
	then := &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: []string{"d1", "d2"}}}
	image := &events.Image{ImageID: "i", ImageName: "n", ImageType: "private"}
	made := event(t, events.FnWatchJob, events.TypeJobCompleted, "made", "accepted", events.JobCompleted{
		Function: events.FnDesktopToImage, JobID: "j1", Outcome: events.Succeeded, Image: image, Then: then,
		Desktops: []events.DesktopResult{{DesktopID: "golden", Outcome: events.Succeeded}},
	})
	rebuilt := event(t, events.FnWatchJob, events.TypeJobCompleted, "rebuilt", "accepted2", events.JobCompleted{
		Function: events.FnRebuild, JobID: "j2", Outcome: events.Partial, ImageID: "i", Desktops: []events.DesktopResult{
			{DesktopID: "d1", Outcome: events.Succeeded}, {DesktopID: "d2", Outcome: events.Failed, ErrorCode: "WKS.1",
				FailReason: "why"},
		},
	})
	return []events.Envelope{
		event(t, events.FnDesktopToImage, events.TypeJobAccepted, "accepted", "root",
			events.JobAccepted{Function: events.FnDesktopToImage, JobID: "j1", DesktopIDs: []string{"golden"}, ImageName: "n",
				Then: then}),
		made,
		event(t, events.FnRebuild, events.TypeJobAccepted, "accepted2", events.ReactionID(made, events.FnRebuild),
			events.JobAccepted{Function: events.FnRebuild, JobID: "j2", DesktopIDs: []string{"d1", "d2"}, ImageID: "i"}),
		rebuilt,
		event(t, events.FnCheckImages, events.TypeImagesChecked, "checked", events.ReactionID(rebuilt, events.FnCheckImages),
			events.ImagesChecked{Expected: &events.Expected{ImageID: "i"}, Matched: []string{"d1"}}),
	}
}

func TestChainEndsAndSumsUp(t *testing.T) {
	t.Parallel()
	for _, root := range []string{"root", ""} { // with the first command, and with the correlation id alone
		c := New("c", events.Root{ID: root})
		require.NotEmpty(t, c.Open(), "no event yet")
		for i, e := range imageAndRebuild(t) {
			require.True(t, c.Add(e))
			require.False(t, c.Add(e), "a duplicate")
			require.Equal(t, i == 4, len(c.Open()) == 0, "after %s", e.ID)
		}
		stranger := imageAndRebuild(t)[0]
		stranger.Correlation = "another"
		require.False(t, c.Add(stranger))
		r := c.Result()
		require.False(t, r.OK())
		require.Equal(t, "i", r.Image.ImageID)
		require.Equal(t, []string{"d1"}, r.Rebuilt)
		require.Equal(t, []string{"d1"}, r.Verified)
		require.Equal(t, []FailedDesktop{{"d2", events.Failed, "WKS.1", "why"}}, r.Failed)
		require.Empty(t, r.Problems)
	}
}

// Two data under one id are two chains: with its digest only its own events count, without it all of them.
func TestSeveralDataOfOneID(t *testing.T) {
	t.Parallel()
	failed := func(id, digest string) events.Envelope {
		return event(t, events.FnRebuild, events.TypeCommandFailed, id, "root", events.CommandFailed{
			Command: events.CommandRef{Type: events.TypeRebuild, ID: "root",
				Digest: digest}, DesktopIDs: []string{"d-" + digest},
			Error: events.Failure{Kind: events.KindIDReused},
		})
	}
	ids := func(r Result) (ids []string) {
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
		ch := New("c", c.root)
		require.True(t, ch.Add(failed("e1", "1")))
		require.True(t, ch.Add(failed("e2", "2")))
		require.Equal(t, c.failed, ids(ch.Result()), name)
		require.Len(t, ch.Open(), c.open, name)
	}

	// The copy of an earlier version gives way to the one with a digest.
	ch := New("c", events.Root{})
	require.True(t, ch.Add(failed("e1", "")))
	require.Equal(t, []events.Root{{ID: "root"}}, ch.Roots())
	require.True(t, ch.Add(failed("e1", "1")))
	require.False(t, ch.Add(failed("e1", "")))
	require.False(t, ch.Add(failed("e1", "1")))
	require.Equal(t, []events.Root{{ID: "root", Digest: "1"}}, ch.Roots())
	require.Len(t, ch.events, 1)
}

func TestSeveralCommandsOfOneCorrelation(t *testing.T) {
	t.Parallel()
	c := New("c", events.Root{})
	described := func(id, causation string) events.Envelope {
		return event(t, events.FnGetDesktop, events.TypeDesktopDescribed, id, causation, events.DesktopDescribed{})
	}
	c.Add(described("e1", "one"))
	c.Add(event(t, events.FnRebuild, events.TypeCommandSplit, "e2", "two",
		events.CommandSplit{Parts: []events.Part{{ID: "p1"}, {ID: "p2"}}}))
	require.Equal(t, []events.Root{{ID: "one"}, {ID: "two"}}, c.Roots())
	require.Len(t, c.Open(), 2)
	c.Add(described("e3", "p1"))
	c.Add(described("e4", "p2"))
	require.Empty(t, c.Open())
}

func TestAnAcceptanceWithoutAJobIsNotDescribedAsOne(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"job.accepted without a job id"}, Describe(event(t, events.FnRebuild, events.TypeJobAccepted,
		"e", "root", events.JobAccepted{Function: events.FnRebuild})))
}

// A command whose desktops were rebuilt by no job that is known reports neither that none was needed nor a failure.
func TestARebuildByAnUnknownJobIsDescribed(t *testing.T) {
	t.Parallel()
	done := events.JobCompleted{Function: events.FnRebuild, Outcome: events.Succeeded, Desktops: []events.DesktopResult{
		{DesktopID: "d1", Outcome: events.Skipped}, {DesktopID: "d2", Outcome: events.Succeeded,
			Kind: events.KindUnknownOutcome},
	}}
	require.Equal(t, []string{
		"no job was found: succeeded, 1 of 2 desktops rebuilt, 1 skipped",
		"1 desktop rebuilt since an earlier attempt of this command, by a job that is not known",
	}, Describe(event(t, events.FnRebuild, events.TypeJobCompleted, "e", "root", done)))
	c := New("c", events.Root{ID: "root"})
	c.Add(event(t, events.FnRebuild, events.TypeJobCompleted, "e", "root", done))
	r := c.Result()
	require.True(t, r.OK())
	require.Equal(t, []string{"d2"}, r.Rebuilt)
	require.Len(t, c.Open(), 1, "the check of its image")
}

func TestResults(t *testing.T) {
	t.Parallel()
	fleet := []string{"d1", "d2"}
	then := &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: fleet}}
	notStarted := []FailedDesktop{{DesktopID: "d1", Outcome: NotStarted,
		FailReason: "the chain ended before its rebuild began"}, {DesktopID: "d2", Outcome: NotStarted,
		FailReason: "the chain ended before its rebuild began"}}
	for name, test := range map[string]struct {
		typ      string
		data     any
		fleet    []string
		failed   []FailedDesktop
		problems []string // parts of them
	}{
		"all skipped": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnRebuild,
			Outcome: events.Succeeded, Desktops: []events.DesktopResult{{DesktopID: "d1", Outcome: events.Skipped}}}},
		"nothing wrong": {typ: events.TypeImagesChecked,
			data: events.ImagesChecked{ImageInfos: []json.RawMessage{[]byte(`{"desktop_id":"d1","image_id":"i"}`)}}},
		"requested and missing": {typ: events.TypeImagesChecked, data: events.ImagesChecked{Missing: []string{"d1"}},
			failed: []FailedDesktop{{"d1", events.Missing, "", "the service reports no image for it"}}},
		"mismatched": {typ: events.TypeImagesChecked, data: events.ImagesChecked{Expected: &events.Expected{ImageID: "i"},
			Matched: []string{"d1"}, Mismatched: []string{"d2"}, Missing: []string{"d2"}},
			failed: []FailedDesktop{{"d2", Mismatched, "", "does not run image i"}}},
		"the image job failed": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnDesktopToImage,
			JobID: "j", Outcome: events.Failed, Then: then,
			Desktops: []events.DesktopResult{{DesktopID: "golden", Outcome: events.Failed, ErrorCode: "IMG.1",
				FailReason: "no space"}}},
			failed: notStarted, problems: []string{"desktoptoimage: job j ended as failed; desktop golden: failed, IMG.1, no " +
				"space"}},
		"several images have the name": {typ: events.TypeJobCompleted,
			data: events.JobCompleted{Function: events.FnDesktopToImage, JobID: "j", Outcome: events.Failed,
				Error: &events.Failure{Kind: events.KindAmbiguousImage, ErrorMsg: "two"}},
			problems: []string{"(ambiguous_image): two"}},
		"lost": {typ: events.TypeJobCompleted, data: events.JobCompleted{Function: events.FnRebuild, JobID: "j",
			Outcome: events.Lost, Desktops: []events.DesktopResult{{DesktopID: "d1", Outcome: events.Missing}}},
			failed: []FailedDesktop{{"d1", events.Missing, "", ""}}},
		"rebuilt, by no job that is known": {typ: events.TypeJobCompleted,
			data: events.JobCompleted{Function: events.FnRebuild, Outcome: events.Partial,
				Error: &events.Failure{Kind: events.KindUnknownOutcome, ErrorMsg: "why"}, Desktops: []events.DesktopResult{
					{DesktopID: "d1", Outcome: events.Succeeded, Kind: events.KindUnknownOutcome}, {DesktopID: "d2",
						Outcome: events.Missing, Kind: events.KindUnknownOutcome},
				}},
			failed: []FailedDesktop{{"d2", events.Missing, "",
				"it runs the image; whether it was rebuilt is not known: check at the service before you repeat it"}},
			problems: []string{"rebuild: no job was found, ended as partial (unknown_outcome): why"}},
		"the capture was refused": {typ: events.TypeCommandFailed, fleet: fleet,
			data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeDesktopToImage},
				DesktopIDs: []string{"golden"}, Effect: events.EffectNone,
				Error: events.Failure{Kind: events.KindConflict, HTTPStatus: 409, ErrorCode: "WKS.2", ErrorMsg: "busy",
					RequestID: "r"}},
			failed: notStarted, problems: []string{"desktoptoimage failed (conflict, status 409, WKS.2): busy [request r]. " +
				"Nothing was done at the service"}},
		"the outcome of a rebuild is unknown": {typ: events.TypeCommandFailed,
			data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild}, DesktopIDs: []string{"d1"},
				Effect: events.EffectUnknown, Error: events.Failure{Kind: events.KindUnknownOutcome}},
			failed: []FailedDesktop{{"d1", events.KindUnknownOutcome, "",
				" (whether the service did it is unknown: check at the service before you repeat it)"}}},
		"the lists allow none of them": {typ: events.TypeCommandFailed,
			data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild}, DesktopIDs: fleet,
				Error: events.Failure{Kind: events.KindNotAllowed, ErrorMsg: events.NotAllowedMsg + "d1, d2"}},
			failed: []FailedDesktop{{"d1", events.KindNotAllowed, "", "the lists of desktops exclude it"},
				{"d2", events.KindNotAllowed, "", "the lists of desktops exclude it"}}},
		"the lists do not allow one of them": {typ: events.TypeCommandFailed,
			data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild}, DesktopIDs: fleet,
				Error: events.Failure{Kind: events.KindNotAllowed, ErrorDetail: events.NotAllowedDetail + "d2",
					ErrorMsg: events.NotAllowedMsg + "d2; none of the command was done"}},
			failed: []FailedDesktop{
				{"d1", events.KindNotAllowed, "", "the lists of desktops do not allow d2; none of the command was done"},
				{"d2", events.KindNotAllowed, "", "the lists of desktops exclude it"}}},
		"a command that names no desktop": {typ: events.TypeCommandFailed,
			data: events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild},
				Error: events.Failure{Kind: events.KindInvalid, ErrorMsg: "bad"}},
			problems: []string{"rebuild failed (invalid): bad"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := New("c", events.Root{ID: "root"})
			c.Fleet = test.fleet
			c.Add(event(t, events.FnRebuild, test.typ, "e", "root", test.data))
			r := c.Result()
			require.Equal(t, test.failed, r.Failed)
			require.Len(t, r.Problems, len(test.problems))
			for i, part := range test.problems {
				require.Contains(t, r.Problems[i], part)
			}
			require.Equal(t, len(test.failed)+len(test.problems) == 0, r.OK())
		})
	}
}

// An event that arrives before the event that it follows from is returned with it.
func TestJoinReturnsOwnEventsInAnyOrder(t *testing.T) {
	t.Parallel()
	es := imageAndRebuild(t)
	stranger := event(t, events.FnGetDesktop, events.TypeDesktopDescribed, "stranger", "other", events.DesktopDescribed{})
	c := New("c", events.Root{ID: "root"})
	for _, e := range []events.Envelope{stranger, es[1], es[4], es[3], es[2]} {
		require.Empty(t, c.Join(e), e.ID)
	}
	var joined []string
	for _, e := range c.Join(es[0]) {
		joined = append(joined, e.ID)
	}
	require.ElementsMatch(t, []string{"accepted", "made", "accepted2", "rebuilt", "checked"}, joined)
	require.Empty(t, c.Join(es[0]), "a duplicate")
}
