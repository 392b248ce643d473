package chain

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// The desktops of a command whose id was used before for other data are not those of the chain.
func TestChainsCountNoDesktopsOfReusedIDs(t *testing.T) {
	t.Parallel()
	ref := events.CommandRef{Type: events.TypeCheckImages, ID: "nightly", Source: "ci", Digest: "1"}
	checked := event(t, events.FnCheckImages, events.TypeImagesChecked, "checked", "nightly", events.ImagesChecked{
		Command: ref, Expected: &events.Expected{ImageID: "i"}, Matched: []string{"d1"}, ImageInfos: nil,
	})
	other := ref
	other.Digest = "2"
	reused := event(t, events.FnCheckImages, events.TypeCommandFailed, "reused", "nightly", events.CommandFailed{
		Command: other, DesktopIDs: []string{"d2", "d3", "d4"}, Error: events.Failure{Kind: events.KindIDReused},
	})
	row := NewRow("c", []events.Envelope{checked, reused}, nil)
	require.Equal(t, "succeeded", row.State)
	require.Less(t, row.Desktops, 3)
	require.Zero(t, row.Failed)
	require.Equal(t, 1, row.IDReused)
	require.Equal(t, "succeeded; 1 command with its id refused: other data", row.Text)

	row = NewRow("c", []events.Envelope{reused}, nil) // earlier events are no longer stored
	require.Equal(t, "failed: 3 desktops", row.Text)

	stored := Command{Envelope: events.Envelope{ID: "nightly", Source: "ci", Type: events.TypeCheckImages,
		Data: []byte(`{}`)}}
	require.Equal(t, "succeeded", NewRow("c", []events.Envelope{checked}, []Command{stored}).State, "it has its answer")
}

// A chain without a desktop that failed shows the kind of the failure.
func TestChainsShowWhyACommandFailed(t *testing.T) {
	t.Parallel()
	failed := event(t, events.FnDesktopToImage, events.TypeCommandFailed, "f", "c", events.CommandFailed{
		Command: events.CommandRef{Type: events.TypeDesktopToImage, ID: "c", Source: "ci"}, DesktopIDs: []string{"golden"},
		Error: events.Failure{Kind: events.KindNotFound},
	})
	require.Equal(t, "failed: not found", NewRow("c", []events.Envelope{failed}, nil).Text)
}

// A chain begins with its command. Its time is known while the command is stored.
func TestChainsBeginWithTheirCommand(t *testing.T) {
	t.Parallel()
	sent := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	delayed := Command{Envelope: events.Envelope{ID: "c", Source: "ci", Type: events.TypeRebuild, Time: sent, Data: []byte(`{}`)},
		Stored: sent.Add(time.Hour)}
	require.Equal(t, sent, NewRow("c", nil, []Command{delayed}).First, "it was stored anew for its next attempt")

	unclear := event(t, events.FnRebuild, events.TypeCommandUnclear, "u", "", events.CommandUnclear{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "c", Source: "ci"}, DesktopIDs: []string{"d1"}, Reason: "no answer",
	})
	unclear.Time = sent.Add(time.Minute)
	require.Equal(t, sent, NewRow("c", []events.Envelope{unclear}, []Command{delayed}).First)
	require.Equal(t, unclear.Time, NewRow("c", []events.Envelope{unclear}, nil).First)

	early := Command{Envelope: events.Envelope{ID: "c", Source: "ci", Type: events.TypeRebuild, Time: sent.Add(time.Hour)}, Stored: sent}
	require.Equal(t, sent, NewRow("c", nil, []Command{early}).First, "the sender's clock is ahead")
}

// Of a chain that has nothing but a notice, what the notice names is listed.
func TestChainsListWhatANoticeNames(t *testing.T) {
	t.Parallel()
	unclear := event(t, events.FnRebuild, events.TypeCommandUnclear, "u", "", events.CommandUnclear{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "c", Source: "ci"}, DesktopIDs: []string{"d1",
			"d2"}, Reason: "no answer",
	})
	row := NewRow("c", []events.Envelope{unclear}, nil)
	require.Equal(t, "rebuild", row.Function)
	require.Equal(t, "ci", row.By)
	require.Equal(t, 2, row.Desktops)
	require.Regexp(t, `^open: a lost call of rebuild is searched for since .*: no answer$`, row.Text)
}

func TestALostJobIsCalledLost(t *testing.T) {
	t.Parallel()
	ended := func(desktops ...events.DesktopResult) events.Envelope {
		return event(t, events.FnWatchJob, events.TypeJobCompleted, "e", "a", events.JobCompleted{
			Command:  events.CommandRef{Type: events.TypeRebuild, ID: "nightly", Source: "ci"},
			Function: events.FnRebuild, JobID: "j", Outcome: events.Lost, Desktops: desktops,
		})
	}
	d1 := events.DesktopResult{DesktopID: "d1", Outcome: events.Missing}
	require.Equal(t, []string{"job j is lost: the service does not show how it ended; whether 1 desktop was rebuilt is " +
		"not known", "desktop d1: missing"},
		Describe(ended(d1)))
	require.Contains(t, Describe(ended(d1, events.DesktopResult{DesktopID: "d2", Outcome: events.Succeeded}))[0],
		"job j is lost: the service does not show how it ended, 1 of 2 desktops rebuilt, 1 missing")
	accepted := event(t, events.FnRebuild, events.TypeJobAccepted, "a", "nightly", events.JobAccepted{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "nightly",
			Source: "ci"}, Function: events.FnRebuild, JobID: "j", DesktopIDs: []string{"d1"},
	})
	require.Equal(t, "failed: 1 desktop; job j is lost: the service does not show how it ended",
		NewRow("c", []events.Envelope{accepted, ended(d1)}, nil).Text)
}

func TestReasonsOfAQuietChain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local)
	ref := events.CommandRef{Type: events.TypeRebuild, ID: "root"}
	unclear := events.Envelope{ID: "u", Source: "recompose/rebuild", Type: events.TypeCommandUnclear, Correlation: "c", Data: []byte(toJSON(t, events.CommandUnclear{
		Command: ref, DesktopIDs: []string{"d1"}, Since: now.Add(-time.Hour), NextLook: now.Add(time.Minute), Reason: "no answer",
	}))}
	c := New("c", events.Root{})
	c.Add(unclear)
	require.Equal(t, []events.Root{{ID: "c"}}, c.Roots(), "a notice begins no chain")
	c = New("c", events.Root{ID: "root"})
	c.Add(unclear)
	reasons, progress := c.Progress(c.Open(), now)
	require.Equal(t, []string{"a lost call of rebuild is searched for since 11:00: no answer"}, reasons)
	require.Empty(t, progress)
	other := New("c", events.Root{ID: "root", Digest: events.Digest(events.CheckImages{DesktopIDs: []string{"d1"}})})
	other.Add(unclear)
	reasons, _ = other.Progress(other.Open(), now)
	require.Empty(t, reasons, "it is about other data under the same id")
	require.Equal(t, "rebuild command root  … still open\n└─ TIME  rebuild  rebuild: it is not known whether the service "+
		"accepted its call; the next check is at 12:01:00: no answer\n\n"+
		"chain     c: 1 event within 0s\nopen      command root\n", drawn(c.Tree()))

	c.Add(event(t, events.FnRebuild, events.TypeJobAccepted, "a", "root", events.JobAccepted{
		Function: events.FnRebuild, Command: ref, JobID: "j", DesktopIDs: []string{"d1"}, AcceptedAt: now, DelayTime: 15,
	}))
	reasons, progress = c.Progress(c.Open(), now)
	require.Empty(t, reasons, "the call was found")
	require.Equal(t, []string{"job j of rebuild begins at 12:15, after its delay_time"}, progress)
}
