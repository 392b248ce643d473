package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/chain/reasons"
	"recompose/shared/deployment"
	"recompose/shared/rollout"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

const smallSpec = `name: november
image: {image_id: i-1, image_type: private}
targets: {desktop_ids: [d-1, d-2, d-3]}
strategy: {canary: 1, waves: ["100%"], max_unavailable: 10, max_failed: 1}
`

func specOf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spec.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestWrongUseOfRollout(t *testing.T) {
	t.Parallel()
	faulty := specOf(t, "name: November\nimage: {image_id: i-1}\ntargets:\n  desktop_ids: []\nstrategie: {canary: 1}\nstrategy:\n  waves: [\"50%\"]\n")
	ids := filepath.Join(filepath.Dir(faulty), "ids.csv")
	require.NoError(t, os.WriteFile(ids, []byte("name,desktop_id\nx,d-1\ny,D-1\n"), 0o600))
	doubled := specOf(t, strings.Replace(smallSpec, "desktop_ids: [d-1, d-2, d-3]", "file: "+ids, 1))
	nowhere := specOf(t, strings.Replace(smallSpec, "desktop_ids: [d-1, d-2, d-3]", "file: /nonexistent/ids", 1))
	for name, test := range map[string]struct {
		args []string
		want []string
	}{
		"nothing":               {nil, []string{"missing command"}},
		"misspelt":              {[]string{"aprove", "x"}, []string{`did you mean "approve"`}},
		"plan without a spec":   {[]string{"plan"}, []string{"-f is missing"}},
		"no such file":          {[]string{"start", "-f", "/nonexistent/spec"}, []string{"-f: open /nonexistent/spec"}},
		"every fault of a spec": {[]string{"plan", "-f", faulty}, []string{"line 1: name", "line 5: strategie: is not a field here; did you mean strategy?", "strategy.waves", "image.image_type"}},
		"an empty spec":         {[]string{"start", "-f", specOf(t, "")}, []string{"spec.yaml: must be given: the spec is empty"}},
		"no file of targets":    {[]string{"start", "-f", nowhere}, []string{"targets.file: open /nonexistent/ids"}},
		"a desktop twice":       {[]string{"start", "-f", doubled}, []string{"targets.file: " + ids, "line 3: desktop D-1 is on line 2 already"}},
		"no name":               {[]string{"status"}, []string{"needs the name of one rollout"}},
		"no possible name":      {[]string{"pause", "Novem\x1bber"}, []string{`"Novem\x1bber" is not the name of a rollout`}},
		"exclude without why":   {[]string{"exclude", "x", "--desktop-ids", "d-1"}, []string{"--reason"}},
		"exclude without whom":  {[]string{"exclude", "x", "--reason", "r"}, []string{"--desktop-ids"}},
		"set nothing":           {[]string{"set", "x"}, []string{"give --max-unavailable, --max-failed or a window"}},
		"set a limit of none":   {[]string{"set", "x", "--max-unavailable", "0"}, []string{"--max-unavailable: must be 1 or more; got 0"}},
		"set an odd amount":     {[]string{"set", "x", "--max-failed", "2.555%"}, []string{"--max-failed: must be a whole number"}},
		"set half a window":     {[]string{"set", "x", "--window-from", "20:00"}, []string{"--window-to: ", "--window-timezone: "}},
		"an odd digest":         {[]string{"approve", "x", "--plan-sha256", "abc"}, []string{"--plan-sha256: must be a SHA-256"}},
		"an odd id":             {[]string{"exclude", "x", "--reason", "r", "--desktop-ids", "a b"}, []string{"--desktop-ids[0]: must be"}},
		"two forms":             {[]string{"plan", "-f", faulty, "--csv", "--json"}, []string{"--csv and --json"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := program(t, "", append([]string{"rollout"}, test.args...)...)
			require.Equal(t, exitUsage, r.code, r.out+r.errOut)
			for _, want := range test.want {
				require.Contains(t, r.errOut, want)
			}
		})
	}
}

func TestTheSchemaOfASpecIsPrinted(t *testing.T) {
	t.Parallel()
	r := program(t, "", "rollout", "schema")
	require.Equal(t, exitDone, r.code)
	require.Contains(t, r.out, `"title": "recompose rollout"`)
	one := program(t, "", "rollout", "schema", "--json")
	require.Equal(t, 1, strings.Count(one.out, "\n"))
	require.JSONEq(t, r.out, one.out)
}

// sessionOn is a session on records in memory, with functions that answer as answer does.
func sessionOn(t *testing.T, answer func(e events.Envelope) []events.Envelope, heads ...*rollout.Head) (s *rolloutSession, out *bytes.Buffer) {
	t.Helper()
	out = &bytes.Buffer{}
	root := newRoot()
	root.SetOut(out)
	root.SetErr(out)
	root.SetIn(strings.NewReader(""))
	cmd, _, err := root.Find([]string{"rollout", "start"})
	require.NoError(t, err)
	cmd.SetContext(t.Context())
	records := memstore.New()
	var names rollout.Index
	for _, h := range heads {
		put(t, records, rollout.HeadKey(h.Name), h)
		names.Names = append(names.Names, h.Name)
	}
	put(t, records, rollout.IndexKey, names)
	conn := &connection{cmd: cmd, Client: &answeringDeployment{answer: answer}}
	s = &rolloutSession{cmd: cmd, ctx: t.Context(), f: &rolloutFlags{}, conn: conn, store: records, cancel: func() {}, service: deployment.Service{Service: onEmulator}}
	return s, out
}

// answeringDeployment publishes the events that answer a command.
type answeringDeployment struct {
	deployment.Client
	answer    func(events.Envelope) []events.Envelope
	published []events.Envelope
	down      bool
	lost      bool // the acknowledgement
}

func (d *answeringDeployment) Send(_ context.Context, e events.Envelope) (deployment.Receipt, error) {
	if d.down {
		return deployment.Receipt{}, deployment.ErrNotSent
	}
	if d.lost {
		return deployment.Receipt{}, errors.New("no acknowledgement")
	}
	d.published = append(d.published, d.answer(e)...)
	return deployment.Receipt{}, nil
}

func (d *answeringDeployment) Follow(context.Context, time.Time) (deployment.Follower, error) {
	return d, nil
}

func (d *answeringDeployment) Read(ctx context.Context, each func(events.Envelope) (bool, error)) error {
	for _, e := range d.published {
		if more, err := each(e); err != nil || !more {
			return err
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

func (*answeringDeployment) Reasons() reasons.Finder { return nil }

func (*answeringDeployment) Close(context.Context) error { return nil }

func put(t *testing.T, records store.Store, key string, v any) {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	_, err = records.Put(t.Context(), key, raw, 0)
	require.NoError(t, err)
}

// answered is an event that answers a command.
func answered(t *testing.T, e events.Envelope, typ string, data events.Rollout) events.Envelope {
	t.Helper()
	data.Command = &events.CommandRef{Type: e.Type, ID: e.ID, Source: e.Source, Digest: e.Digest()}
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	return events.Envelope{ID: e.ID + typ, Source: events.Source(events.FnRollout), Type: typ, Time: e.Time, Correlation: e.Correlation, Causation: e.ID, Data: raw}
}

func exitCode(err error) int {
	exit, ok := errors.AsType[*exitError](err)
	switch {
	case err == nil:
		return exitDone
	case !ok:
		return exitFailed
	}
	return exit.code
}

func TestAVerbEndsWithItsOwnAnswer(t *testing.T) {
	t.Parallel()
	pause := func(s *rolloutSession) (events.Envelope, error) {
		return rolloutMessage(s.cmd, events.TypeRolloutPause, "p-1", events.RolloutCommand{Name: "november", Reason: "r"})
	}
	s, out := sessionOn(t, func(e events.Envelope) []events.Envelope {
		other := answered(t, e, events.TypeRolloutRejected, events.Rollout{Name: "november", Reason: "older data under this id"})
		other.Data = json.RawMessage(strings.Replace(string(other.Data), e.Digest(), strings.Repeat("0", 64), 1))
		return []events.Envelope{
			answered(t, e, events.TypeRolloutHalted, events.Rollout{Name: "november"}), other,
			answered(t, e, events.TypeRolloutPaused, events.Rollout{Name: "november", Reason: "a \x1b[31mred reason", By: "me"}),
		}
	})
	e, err := pause(s)
	require.NoError(t, err)
	require.NoError(t, s.do(e, "november"))
	require.Equal(t, "rollout november: paused: a \\x1b[31mred reason, by me\n", out.String())

	s, _ = sessionOn(t, func(e events.Envelope) []events.Envelope {
		return []events.Envelope{answered(t, e, events.TypeRolloutRejected, events.Rollout{Name: "november", Reason: "a rollout that is completed cannot be paused"})}
	})
	err = s.do(e, "november")
	require.Equal(t, exitFailed, exitCode(err))
	require.ErrorContains(t, err, "a rollout that is completed cannot be paused")

	s, _ = sessionOn(t, func(events.Envelope) []events.Envelope { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.ctx = ctx
	err = s.do(e, "november")
	require.Equal(t, exitUnknown, exitCode(err))
	require.ErrorContains(t, err, "repeat it with --id p-1")
	require.ErrorContains(t, err, "rollout status november")

	s.conn.Client = &answeringDeployment{down: true}
	require.Equal(t, exitUsage, exitCode(s.do(e, "november")))
}

func TestAnExcludeThatCameTooLateFails(t *testing.T) {
	t.Parallel()
	var late []events.RolloutDesktop
	s, out := sessionOn(t, func(e events.Envelope) []events.Envelope {
		return []events.Envelope{answered(t, e, events.TypeRolloutChanged, events.Rollout{Name: "november", Reason: "1 desktop excluded: r", Desktops: late})}
	})
	e, err := rolloutMessage(s.cmd, events.TypeRolloutExclude, "e-1", events.RolloutCommand{Name: "november", Reason: "r", DesktopIDs: []string{"d-1", "d-2"}})
	require.NoError(t, err)
	require.NoError(t, s.do(e, "november"))
	late = []events.RolloutDesktop{{DesktopID: "d-2", State: rollout.Sent, Reason: "its rebuild may run"}}
	s.conn.Client = &answeringDeployment{answer: func(e events.Envelope) []events.Envelope {
		return []events.Envelope{answered(t, e, events.TypeRolloutChanged, events.Rollout{Name: "november", Desktops: late})}
	}}
	err = s.do(e, "november")
	require.Equal(t, exitFailed, exitCode(err))
	require.ErrorContains(t, err, "not every desktop was taken out")
	require.Contains(t, out.String(), "desktop d-2: sent: its rebuild may run")
}

func TestALongListOfTargetsGoesAhead(t *testing.T) {
	t.Parallel()
	var list strings.Builder
	for i := range 2*events.MaxDesktops + 1 {
		fmt.Fprintf(&list, "d-%d\n", i)
	}
	path := specOf(t, strings.Replace(smallSpec, "desktop_ids: [d-1, d-2, d-3]", "file: ids.txt", 1))
	require.NoError(t, os.WriteFile(filepath.Join(filepath.Dir(path), "ids.txt"), []byte(list.String()), 0o600))
	var sent []events.RolloutCommand
	s, _ := sessionOn(t, func(e events.Envelope) []events.Envelope {
		c, err := events.DecodeRollout(e.Type)(e.Data)
		require.NoError(t, err)
		sent = append(sent, c)
		if e.Type == events.TypeRolloutTargets {
			return []events.Envelope{answered(t, e, events.TypeRolloutTargetsKept, events.Rollout{Name: "november"})}
		}
		return []events.Envelope{answered(t, e, events.TypeRolloutPlanned, events.Rollout{Name: "november"})}
	})
	spec, err := readSpec(s.cmd, path)
	require.NoError(t, err)
	require.NoError(t, s.startConfirmed(spec))
	require.Len(t, sent, 4)
	var ids []string
	for i, c := range sent[:3] {
		require.Equal(t, i+1, c.Page)
		ids = append(ids, c.DesktopIDs...)
	}
	require.Equal(t, &events.RolloutPages{Pages: 3, SHA256: rollout.TargetsSHA256(ids)}, sent[3].Targets)
	read, err := rollout.ParseSpec(sent[3].Spec)
	require.NoError(t, err, "the function accepts it")
	require.Empty(t, read.Targets.DesktopIDs)
}

func TestARealServiceIsNotTouchedWithoutConfirmation(t *testing.T) {
	t.Parallel()
	s, _ := sessionOn(t, func(events.Envelope) []events.Envelope {
		t.Error("something was sent")
		return nil
	})
	s.service = deployment.Service{Unknown: "no worker has recorded yet which service it works on"}
	spec, err := readSpec(s.cmd, specOf(t, smallSpec))
	require.NoError(t, err)
	err = s.startConfirmed(spec)
	require.Equal(t, exitUsage, exitCode(err))
	require.ErrorContains(t, err, "--yes")
}

func TestAChangedPlanThatWaitsForApprovalIsReported(t *testing.T) {
	t.Parallel()
	s, _ := sessionOn(t, func(events.Envelope) []events.Envelope {
		t.Error("something was sent")
		return nil
	}, &rollout.Head{Name: "november", Phase: rollout.Planned, Digest: "abc"})
	err := s.pauseChanged("november")
	require.Equal(t, exitPerson, exitCode(err))
	require.ErrorContains(t, err, "the plan differs from the one that you confirmed")
	require.ErrorContains(t, err, "rollout approve november --plan-sha256 abc")
}

func TestDriftReadsEveryPageAndEndsWithoutAWorker(t *testing.T) {
	t.Parallel()
	page := func(e events.Envelope, n int, last bool, ids ...string) events.Envelope {
		listed := events.DesktopsListed{
			Command: events.CommandRef{Type: e.Type, ID: e.ID, Source: e.Source, Digest: e.Digest()}, Page: n, Last: last,
		}
		for _, id := range ids {
			listed.Desktops = append(listed.Desktops, events.DesktopRow{DesktopID: id, ImageID: "i-1", ImageType: "private"})
		}
		raw, err := json.Marshal(listed)
		require.NoError(t, err)
		return events.Envelope{ID: fmt.Sprint(e.ID, n), Source: events.Source(events.FnListDesktops), Type: events.TypeDesktopsListed, Time: e.Time, Correlation: e.Correlation, Causation: e.ID, Data: raw}
	}
	s, _ := sessionOn(t, func(e events.Envelope) []events.Envelope {
		return []events.Envelope{page(e, 2, true, "d-3"), page(e, 1, false, "d-1", "d-2")}
	})
	spec, err := readSpec(s.cmd, specOf(t, smallSpec))
	require.NoError(t, err)
	report, err := s.drift(spec, listFlags{})
	require.NoError(t, err)
	require.Contains(t, report.Lines(20)[1].String(), "3: 3 run it")

	s, _ = sessionOn(t, func(events.Envelope) []events.Envelope { return nil })
	_, err = s.drift(spec, listFlags{timeout: timeLimit(time.Millisecond)})
	require.Equal(t, exitUnknown, exitCode(err))
	require.ErrorContains(t, err, "no event after 1ms")

	s.conn.Client = &answeringDeployment{lost: true}
	_, err = s.drift(spec, listFlags{})
	require.Equal(t, exitUnknown, exitCode(err), "it may have been stored")
	require.ErrorContains(t, err, "Whether it was stored is not known")
	s.conn.Client = &answeringDeployment{down: true}
	_, err = s.drift(spec, listFlags{})
	require.Equal(t, exitUsage, exitCode(err))
}

func TestAwaitEndsWithTheCodeOfTheRollout(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		head rollout.Head
		code int
		want string
	}{
		"completed":   {rollout.Head{Phase: rollout.Completed}, exitDone, "rollout november completed: no desktop"},
		"rolled back": {rollout.Head{Phase: rollout.RolledBack}, exitDone, "rolled back"},
		"aborted":     {rollout.Head{Phase: rollout.Aborted, Reason: "wrong image"}, exitFailed, "aborted: no desktop; wrong image"},
		"halted":      {rollout.Head{Phase: rollout.Halted, Why: "max_failed"}, exitFailed, "rollout resume november --accept-failed 0"},
		"approval":    {rollout.Head{Phase: rollout.Planned, Digest: "abc"}, exitPerson, "rollout approve november --plan-sha256 abc"},
		"an offer":    {rollout.Head{Phase: rollout.Halted, Offer: &rollout.Offer{Digest: "abc", Verb: rollout.Verb{CommandRef: events.CommandRef{Type: events.TypeRolloutRetry}}}}, exitPerson, "rollout approve november --plan-sha256 abc  # approves the retry that waits"},
		"paused":      {rollout.Head{Phase: rollout.Paused}, exitPerson, "rollout resume november  # goes on"},
		"only a plan": {rollout.Head{Phase: rollout.Planned, PlanOnly: true}, exitDone, "rollout start -f FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.head.Name = "november"
			s, out := sessionOn(t, nil, &test.head)
			require.Equal(t, test.code, exitCode(s.await("november", 0)))
			require.Contains(t, out.String(), test.want)
		})
	}
	s, _ := sessionOn(t, nil, &rollout.Head{Name: "november", Phase: rollout.Running})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	s.ctx = ctx
	err := s.await("november", 0)
	require.Equal(t, exitUnknown, exitCode(err))
	require.ErrorContains(t, err, "rollout status november --watch")
}

func TestNothingIsApprovedUnread(t *testing.T) {
	t.Parallel()
	s, _ := sessionOn(t, nil, &rollout.Head{Name: "november", Phase: rollout.Running})
	_, err := s.askForApproval("november")
	require.ErrorContains(t, err, "nothing waits for approval: rollout november is running")

	h := &rollout.Head{Name: "november", Phase: rollout.Planned, Digest: "abc"}
	h.Spec.Approval.Required = true
	s, out := sessionOn(t, nil, h)
	_, err = s.askForApproval("november")
	require.Equal(t, exitUsage, exitCode(err), "standard input is no terminal")
	require.Contains(t, out.String(), "digest    abc")
	s.f.yes = true
	digest, err := s.askForApproval("november")
	require.NoError(t, err)
	require.Equal(t, "abc", digest)
}

func TestTheScreenOfARollout(t *testing.T) {
	t.Parallel()
	h := &rollout.Head{
		Name: "november", Phase: rollout.Running, Slots: 3, Batches: 1, Image: rollout.TargetImage{ID: "i-1"},
		Waves: []rollout.Wave{{Kind: rollout.PlainWave, To: 3, Next: 2, Started: time.Now()}},
	}
	s, _ := sessionOn(t, nil, h)
	records, _ := s.store.(*memstore.Store)
	put(t, records, rollout.BatchKey("november", 0), rollout.Batch{State: rollout.Ended, Rows: []rollout.Row{
		{Slot: rollout.Slot{ID: "d-1"}, State: rollout.Done},
		{Slot: rollout.Slot{ID: "d-2"}, State: rollout.Failed, Code: "WKS.1", Reason: "\x1b]0;title\a"},
	}})
	m := &screen{session: s, reader: rollout.Viewer{Store: s.store, Name: "november"}}
	require.Empty(t, m.content(time.Now()), "the size is not known yet")
	m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
	_, again := m.Update(m.look())
	require.NotNil(t, again, "it is read once more")
	text := m.content(time.Now())
	require.Contains(t, text, "november, running")
	require.Contains(t, text, "\x1b[32m#", "a desktop that is done is green")
	require.Contains(t, text, `\x1b]0;title\a`, "texts of messages cannot act on the terminal")
	require.NotContains(t, text, "\x1b]0")
	require.Contains(t, text, "q ends the watching")
	for line := range strings.Lines(text) {
		require.LessOrEqual(t, len([]rune(stripped(line))), 81)
	}

	_, quit := m.Update(tea.KeyPressMsg{Code: 'q', Text: "q"})
	require.IsType(t, tea.QuitMsg{}, quit())
	h.Phase = rollout.Completed
	raw, err := json.Marshal(h)
	require.NoError(t, err)
	_, revision, err := records.Get(t.Context(), rollout.HeadKey("november"))
	require.NoError(t, err)
	_, err = records.Put(t.Context(), rollout.HeadKey("november"), raw, revision)
	require.NoError(t, err)
	_, quit = m.Update(m.look())
	require.IsType(t, tea.QuitMsg{}, quit(), "it is over")
}

// stripped is a text without colours.
func stripped(text string) string {
	for {
		before, rest, found := strings.Cut(text, "\x1b[")
		if !found {
			return text
		}
		_, after, _ := strings.Cut(rest, "m")
		text = before + after
	}
}
