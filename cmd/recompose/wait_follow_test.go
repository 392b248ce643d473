package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
)

// published is an event of chain "c" that a function publishes because of causation.
func published(t *testing.T, function, typ, id, causation string, data any) events.Envelope {
	t.Helper()
	return events.Envelope{ID: id, Source: events.Source(function), Type: typ, Correlation: "c", Causation: causation, Data: mustJSON(t, data)}
}

func TestFailedDesktopsMakeAnIDFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "failed.txt")
	require.NoError(t, writeIDFile(file, "why \x1b", []chain.FailedDesktop{{DesktopID: "d1", Outcome: "failed", ErrorCode: "WKS.1", FailReason: "line\nbreak # and more\u202e"}, {DesktopID: "d2"}}))
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "# why \\x1b\nd1  # failed, WKS.1, line\\nbreak # and more\\u202e\nd2\n", string(content))
	ids, err := safety.ReadIDs(strings.NewReader(string(content)))
	require.NoError(t, err)
	require.Equal(t, []string{"d1", "d2"}, ids)
}

func TestPrintedEventsHaveNoControlCharacters(t *testing.T) {
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
		e := published(t, evil, typ, evil, "root", data)
		printEvent(&out, e, "12:00:00")
		c := chain.New("c", events.Root{ID: "root"})
		c.Add(e)
		printResult(&out, c.Result(), "")
		for line := range strings.SplitSeq(out.String(), "\n") {
			require.Equal(t, escape(line), line)
		}
	}
}

// Counts of rebuilds do not fit a chain that only reads.
func TestASummaryCountsRebuildsOfWritesOnly(t *testing.T) {
	t.Parallel()
	for function, want := range map[string]string{
		events.FnRebuild:    "desktops  0 rebuilt, 0 verified, 1 failed, 0 skipped\n",
		events.FnGetDesktop: "desktops  1 failed\n",
	} {
		c := chain.New("c", events.Root{ID: "root"})
		c.Add(published(t, function, events.TypeCommandFailed, "e", "root", events.CommandFailed{
			Command: events.CommandRef{Type: "recompose.command." + function + ".v1", ID: "root"}, DesktopIDs: []string{"d1"},
			Error: events.Failure{Kind: events.KindNotFound}}))
		var out strings.Builder
		printResult(&out, c.Result(), "")
		require.Contains(t, out.String(), want)
	}
}

func TestTreeHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	evil := "x\x1b[2J\r\n\u009b\u202e"
	c := chain.New("c", events.Root{})
	c.Add(published(t, evil, events.TypeJobAccepted, evil, evil, events.JobAccepted{Function: evil, JobID: evil, RequestID: evil, Command: events.CommandRef{Type: "recompose.command." + evil}}))
	c.Add(published(t, evil, "recompose.event."+evil, "2", evil+"2", evil))
	c.Correlation = evil
	var b strings.Builder
	printTree(&b, c.Tree())
	for line := range strings.SplitSeq(b.String(), "\n") {
		require.Equal(t, escape(line), line)
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	accepted := published(t, events.FnDesktopToImage, events.TypeJobAccepted, "accepted", "root", events.JobAccepted{
		Function: events.FnDesktopToImage, Command: events.CommandRef{Type: events.TypeDesktopToImage, ID: "root"}, JobID: "j", RequestID: "req-1",
	})
	made := published(t, events.FnWatchJob, events.TypeJobCompleted, "made", "accepted", events.JobCompleted{
		Function: events.FnDesktopToImage, JobID: "j", Outcome: events.Succeeded,
	})
	accepted.Time, made.Time = at, at.Add(time.Second)
	for _, e := range []events.Envelope{accepted, made} {
		_, err := w.nc.Request(e.Type, mustJSON(t, e), within)
		require.NoError(t, err)
	}
	eventually(t, func() bool {
		n := 0
		require.NoError(t, w.q.Read(t.Context(), natsqueue.Since{}, false, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
			n++
			return true, nil
		}))
		return n == 2
	}, "the events are not stored")
	r := w.run(t, "trace", "c")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "desktoptoimage command root\n└─ ")
	r = w.run(t, "trace", "c", "--json")
	var got chain.Tree
	require.NoError(t, json.Unmarshal([]byte(r.out), &got))
	require.Len(t, got.Roots, 1)
	require.Equal(t, "req-1", got.Roots[0].Children[0].Calls[0].RequestID)
	require.Equal(t, int64(1000), *got.Roots[0].Children[0].Children[0].AfterMS)
	r = w.run(t, "trace", "nosuch")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.errOut, "has no events")
}

func TestAFileForFailuresThatCannotBeWrittenNamesItsFlag(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, (&followFlags{failedTo: "/nonexistent/x"}).begin(), "--failed-to: open /nonexistent/x")
}
