package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/embednats"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/testkit/natstest"
)

// ward is a NATS server with a worker whose functions crash until they are cured.
type ward struct {
	url   string
	nc    *nats.Conn
	q     *natsqueue.Queue
	store *natsledger.Store
	cured atomic.Bool
	done  chan queue.Command // what cured functions carried out
}

// onEmulator is what workers on an emulator record.
var onEmulator = events.Service{Kind: events.ServiceEmulator, Project: "p1"}

// newWard starts one whose workers have recorded this service; the zero one: none.
func newWard(t *testing.T, on events.Service) *ward {
	t.Helper()
	server := natstest.Start(t, embednats.Options{Listen: "127.0.0.1:0"})
	w := &ward{url: server.Server.ClientURL(), nc: server.Conn, done: make(chan queue.Command, 100)}
	var err error
	w.q, err = natsqueue.New(w.nc, natsqueue.Options{Redeliver: []time.Duration{time.Millisecond}})
	require.NoError(t, err)
	w.store, err = natsledger.New(t.Context(), w.nc, natsledger.Options{})
	require.NoError(t, err)
	if on.Kind != "" {
		worksOn(t, w.store, on)
	}
	fns := functions.Routes()
	for i := range fns {
		fns[i].GiveUp = nil
		fns[i].Handle = func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
			if !w.cured.Load() {
				panic("ill")
			}
			w.done <- c
			return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"done"}, Data: map[string]any{"desktop": map[string]any{}}}}, nil
		}
	}
	require.NoError(t, w.q.Setup(t.Context(), fns))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.q.Run(ctx, fns) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return w
}

func (w *ward) run(t *testing.T, args ...string) ran {
	t.Helper()
	return program(t, "", append(args, "--nats-url", w.url)...)
}

// publish puts a message in and waits until it has become the n-th dead letter.
func (w *ward) publish(t *testing.T, n int, subject, id, body string) queue.Letter {
	t.Helper()
	m := &nats.Msg{Subject: subject, Header: nats.Header{}, Data: []byte(body)}
	if id != "" {
		m.Header.Set("Nats-Msg-Id", id)
	}
	ack, err := w.nc.RequestMsg(m, within)
	require.NoError(t, err)
	require.NotContains(t, string(ack.Data), "error")
	return w.letters(t, n)[n-1]
}

func (w *ward) letters(t *testing.T, n int) []queue.Letter {
	t.Helper()
	var letters []queue.Letter
	eventually(t, func() bool {
		var err error
		letters, err = w.q.DeadLetters(t.Context(), queue.LetterFilter{})
		require.NoError(t, err)
		return len(letters) == n
	}, fmt.Sprintf("there are not %d dead letters", n))
	return letters
}

func (w *ward) handled(t *testing.T) queue.Command {
	t.Helper()
	select {
	case c := <-w.done:
		return c
	case <-time.After(within):
		require.FailNow(t, "nothing was carried out")
		return queue.Command{}
	}
}

func lines[T any](t *testing.T, out string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(out) {
		var v T
		require.NoError(t, json.Unmarshal([]byte(line), &v), line)
		all = append(all, v)
	}
	return all
}

const rebuildData = `{"desktop_ids":["d1","d2"],"image_id":"i1","image_type":"private"}`

func TestDeadLettersFromBeginningToEnd(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	require.Equal(t, "0 dead letters\n", w.run(t, "dead", "list").out)
	bad := w.publish(t, 1, events.TypeGetDesktop, "", `{"specversion":"1.0","id":"","source":"\u001b[31m"}`)
	sick := w.publish(t, 2, events.TypeGetDesktop, "my-id", "{\"desktop_id\":\"d1\"}")
	require.Equal(t, queue.ClassUnreadable, bad.Class)
	require.Equal(t, queue.ClassUsedUp, sick.Class)
	require.Equal(t, queue.MaxDeliveries+1, sick.Attempts)

	r := w.run(t, "dead", "list")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `(?s)^`+bad.ID[:12]+`  \d{4}-\S+ \S+  getdesktop +unreadable .*\n`+sick.ID[:12]+`.* attempts_used_up .*\n2 dead letters\n$`, r.out)
	require.Contains(t, w.run(t, "dead", "list", "--class", "unreadable").out, "1 dead letter\n")
	require.Contains(t, w.run(t, "dead", "list", "--function", "rebuild").out, "0 dead letters\n")
	require.Contains(t, w.run(t, "dead", "list", "--since", "1h").out, "2 dead letters\n")
	listed := lines[deadJSON](t, w.run(t, "dead", "list", "--json").out)
	require.Len(t, listed, 2)
	require.Equal(t, sick.ID, listed[1].ID)
	require.Equal(t, &events.CommandRef{ID: "my-id", Type: events.TypeGetDesktop, Source: "nats/RECOMPOSE_COMMANDS"}, listed[1].Command)
	require.Empty(t, listed[1].Body)

	r = w.run(t, "dead", "show", sick.ID[:10])
	require.Equal(t, exitDone, r.code, r.errOut)
	for _, want := range []string{"attempts     6", "command      " + events.TypeGetDesktop + " my-id", "header       Nats-Msg-Id: my-id", "  \"desktop_id\": \"d1\"", "crash"} {
		require.Contains(t, r.out, want)
	}
	r = w.run(t, "dead", "show", bad.ID)
	require.Contains(t, r.out, `"source": "\u001b[31m"`)
	require.Contains(t, r.out, "most likely be given up a second time")
	require.NotContains(t, r.out, "\x1b")
	require.Equal(t, `{"desktop_id":"d1"}`, lines[deadJSON](t, w.run(t, "dead", "show", sick.ID, "--json").out)[0].Body)

	r = w.run(t, "dead", "redrive", "--all", "--dry-run")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "getdesktop command my-id: would be redriven")
	require.Contains(t, r.out, "nothing was done")
	r = w.run(t, "dead", "drop", "--class", "unreadable", "--dry-run")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `^`+bad.ID[:12]+`  getdesktop .*: would be dropped\n1 dead letter, nothing was done\n$`, r.out)
	require.Equal(t, "would_drop", lines[changed](t, w.run(t, "dead", "drop", bad.ID, "--dry-run", "--json").out)[0].Did)
	require.Len(t, w.letters(t, 2), 2)

	w.cured.Store(true)
	r = w.run(t, "dead", "redrive", sick.ID[:8])
	require.Equal(t, exitDone, r.code, r.errOut)
	require.True(t, strings.HasPrefix(r.out, "EMULATOR\n"), r.out)
	require.Contains(t, r.out, "my-id: redriven")
	c := w.handled(t)
	require.Equal(t, "my-id", c.Envelope.ID)
	require.Equal(t, events.Identity("nats/RECOMPOSE_COMMANDS", "my-id"), c.Identity())
	require.Len(t, w.letters(t, 1), 1)

	r = w.run(t, "dead", "redrive", sick.ID)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.errOut, "no such dead letter")
	did := lines[changed](t, w.run(t, "dead", "redrive", "--class", "unreadable", "--json").out)
	require.Len(t, did, 1)
	require.Equal(t, didRedrive, did[0].Did)
	require.Len(t, did[0].Notes, 1)
	second := w.letters(t, 1)[0]
	require.Greater(t, second.Number, bad.Number, "unreadable, and so given up once more")
	r = w.run(t, "dead", "drop", "--class", "unreadable")
	require.Contains(t, r.out, "1 dead letter dropped")
	require.Empty(t, w.letters(t, 0))
	require.Empty(t, w.done)
}

func TestRedriveOfWritesOnARealServiceNeedsConfirmation(t *testing.T) {
	t.Parallel()
	w := newWard(t, events.Service{}) // no worker recorded its service
	l := w.publish(t, 1, events.TypeRebuild, "r1", rebuildData)
	for _, args := range [][]string{{l.ID}, {"--all"}, {"--function", "rebuild"}, {"--class", "attempts_used_up", "--function", "rebuild"}} {
		r := w.run(t, append([]string{"dead", "redrive"}, args...)...)
		require.Equal(t, exitUsage, r.code)
		require.True(t, strings.HasPrefix(r.out, "REAL "), r.out)
		require.Contains(t, r.errOut, "This rebuilds 2 desktops from image i1")
		require.Contains(t, r.errOut, "--yes")
	}
	r := w.run(t, "dead", "drop", l.ID)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "drops 1 dead letter for good")
	require.Len(t, w.letters(t, 1), 1)

	require.Equal(t, exitDone, w.run(t, "freeze", "--reason", "wait a bit").code)
	w.cured.Store(true)
	r = w.run(t, "dead", "redrive", l.ID, "--yes")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "wait a bit. They wait until recompose thaw")
	c := w.handled(t)
	require.Equal(t, events.Identity("nats/RECOMPOSE_COMMANDS", "r1"), c.Identity(), "the ledger still holds")

	w.cured.Store(false)
	l = w.publish(t, 1, events.TypeGetDesktop, "g1", `{"desktop_id":"d1"}`)
	require.Equal(t, exitDone, w.run(t, "dead", "drop", l.ID).code, "a read needs no confirmation")
	require.Empty(t, w.letters(t, 0))
}

// TestRedriveReportsTheLedgerRecord covers what keeps a redriven write from doing anything.
func TestRedriveReportsTheLedgerRecord(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	end := func(effect string) *ledger.End {
		data, err := json.Marshal(events.CommandFailed{Command: events.CommandRef{Type: events.TypeRebuild}, Effect: effect, Error: events.Failure{Kind: events.KindAttemptsUsedUp, ErrorMsg: "the \x1b end"}})
		require.NoError(t, err)
		return &ledger.End{Type: events.TypeCommandFailed, Data: data}
	}
	old := time.Now().Add(-7 * time.Hour).UTC()
	for i, c := range []struct {
		name   string
		record *ledger.Record
		more   string // attributes of the envelope
		note   string
		acts   bool
		may    string // what --as-new reports
	}{
		{"nothing known", nil, "", "", true, ""},
		{"ended", &ledger.Record{End: end(events.EffectNone)}, "", `the ledger has its end event, which will be republished without other effect: rebuild failed`, false, ""},
		{"ended with unknown effect", &ledger.Record{End: end(events.EffectUnknown)}, "", "will be republished", false, "whether the service has carried it out is not known"},
		{"accepted", &ledger.Record{JobID: "j1"}, "", "accepted it as job j1", false, "accepted it as job j1"},
		{"accepted for other data", &ledger.Record{JobID: "j1", Digest: "other"}, "", "it will end as id_reused", false, ""},
		{"under way", &ledger.Record{SignedAt: old}, "", "may have reached the service", true, "may have reached the service"},
		{"refused, and an earlier call may have been accepted", &ledger.Record{Earlier: old, Refused: &ledger.Refusal{}}, "", "an earlier call of it may have been accepted", true, "an earlier call of it may have been accepted"},
		{"free, and an earlier call may have been accepted", &ledger.Record{Earlier: old}, "", "an earlier call of it may have been accepted", true, "an earlier call of it may have been accepted"},
		{"old", nil, `,"time":"` + old.Format(time.RFC3339) + `"`, "RECOMPOSE_COMMAND_MAX_AGE", false, ""},
		{"expired", nil, `,"expirytime":"` + old.Format(time.RFC3339) + `"`, "will end as expired", false, ""},
	} {
		id := fmt.Sprint("r", i)
		l := w.publish(t, 1, events.TypeRebuild, "", `{"specversion":"1.0","id":"`+id+`","source":"test","type":"`+events.TypeRebuild+`"`+c.more+`,"data":`+rebuildData+`}`)
		if c.record != nil {
			_, err := w.store.Put(t.Context(), events.Identity("test", id), *c.record, 0)
			require.NoError(t, err)
		}
		r := w.run(t, "dead", "redrive", l.ID, "--dry-run")
		require.Equal(t, exitDone, r.code, c.name, r.errOut)
		require.Contains(t, r.out, c.note, c.name)
		require.Equal(t, c.acts, strings.Contains(r.out, "This rebuilds 2 desktops"), "%s: %s", c.name, r.out)
		require.Contains(t, w.run(t, "dead", "show", l.ID).out, c.note, c.name)
		require.NotContains(t, r.out, "\x1b")

		dry := lines[events.Envelope](t, w.run(t, "dead", "redrive", l.ID, "--as-new", "--dry-run").out)[0]
		w.cured.Store(true)
		r = w.run(t, "dead", "redrive", l.ID, "--as-new", "--json")
		require.Equal(t, exitDone, r.code, c.name, r.errOut)
		if c.may != "" {
			require.Contains(t, r.errOut, c.may, c.name)
			require.Contains(t, r.errOut, "Check the desktops")
		}
		did := lines[changed](t, r.out)[0]
		require.Equal(t, didAsNew, did.Did)
		got := w.handled(t)
		require.Equal(t, did.NewID, got.Envelope.ID)
		require.Equal(t, dry.ID, got.Envelope.ID, "the id follows from the letter, so that it is sent once")
		require.Equal(t, events.TypeRebuild, got.Envelope.Type)
		require.Equal(t, id, got.Envelope.Causation)
		require.JSONEq(t, rebuildData, string(got.Envelope.Data))
		require.Zero(t, got.Envelope.Expiry)
		require.WithinDuration(t, time.Now(), got.Envelope.Time, time.Minute)
		require.Empty(t, w.letters(t, 0))
		w.cured.Store(false)
	}
}

func TestReactionsAreRedrivenAndMadeNew(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	data, err := json.Marshal(events.JobCompleted{
		Function: events.FnDesktopToImage, Outcome: events.Succeeded, Image: &events.Image{ImageID: "i9", ImageType: "private"},
		Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: []string{"d1", "d2", "d3"}}},
	})
	require.NoError(t, err)
	e := events.Envelope{ID: "e1", Source: "recompose/watchjob", Type: events.TypeJobCompleted, Time: time.Now().UTC(), Correlation: "k", Data: data}
	body, err := json.Marshal(e)
	require.NoError(t, err)
	l := w.publish(t, 1, events.TypeJobCompleted, "e1", string(body))
	require.Equal(t, events.FnRebuild, l.Function)
	r := w.run(t, "dead", "redrive", "--all", "--dry-run")
	require.Contains(t, r.out, "This rebuilds 3 desktops from image i9")
	implied := lines[events.Envelope](t, w.run(t, "dead", "redrive", l.ID, "--as-new", "--dry-run").out)[0]
	require.Equal(t, events.TypeRebuild, implied.Type)
	require.Contains(t, string(implied.Data), `"i9"`)
	w.cured.Store(true)
	require.Equal(t, exitDone, w.run(t, "dead", "redrive", l.ID).code)
	got := w.handled(t)
	require.Equal(t, e, got.Event)
	require.Equal(t, events.ReactionID(e, events.FnRebuild), got.Envelope.ID)

	w.cured.Store(false)
	data, err = json.Marshal(events.JobAccepted{Function: events.FnRebuild, JobID: "j1", DesktopIDs: []string{"d1"}})
	require.NoError(t, err)
	body, err = json.Marshal(events.Envelope{ID: "e2", Source: "recompose/rebuild", Type: events.TypeJobAccepted, Time: time.Now(), Data: data})
	require.NoError(t, err)
	l = w.publish(t, 1, events.TypeJobAccepted, "e2", string(body))
	r = w.run(t, "dead", "redrive", l.ID, "--as-new")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "watchjob takes no commands")
}

// An event that its function cannot read would be given up in the same way each time.
func TestAnInvalidEventIsNotRedriven(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	body := mustJSON(t, events.Envelope{
		ID: "e1", Source: "recompose/rebuild", Type: events.TypeJobAccepted, Time: time.Now(), Data: mustJSON(t, events.JobAccepted{Function: events.FnRebuild}),
	})
	l := w.publish(t, 1, events.TypeJobAccepted, "e1", string(body))
	for _, args := range [][]string{{l.ID}, {"--all"}} {
		r := w.run(t, append([]string{"dead", "redrive"}, args...)...)
		require.Equal(t, exitFailed, r.code, r.out)
		require.Contains(t, r.out, "not possible")
		require.Contains(t, r.out, "it would be given up for the same reason: read recompose.event.job.accepted.v1 e1: job_id, command and function must be given; recompose dead drop removes it")
		require.Contains(t, r.out, "0 dead letters redriven")
		require.Contains(t, r.errOut, "1 dead letter cannot be redriven")
	}
	require.Contains(t, w.run(t, "dead", "redrive", l.ID, "--dry-run").out, "not possible")
	require.Equal(t, l.Number, w.letters(t, 1)[0].Number, "it is still the same letter")
	require.Equal(t, exitDone, w.run(t, "dead", "drop", l.ID).code)
}

func TestAsNewOfAnUnknownCommand(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	l := w.publish(t, 1, events.TypeGetDesktop, "", `{"specversion":"1.0"}`)
	r := w.run(t, "dead", "redrive", l.ID, "--as-new")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.errOut, "no new command can be made of it")
	require.Len(t, w.letters(t, 1), 1)
	err := w.q.Redrive(t.Context(), queue.Letter{ID: "x", Number: 99})
	require.True(t, errors.Is(err, queue.ErrNoLetter))
}

func TestUsageErrorsOfDeadLetters(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"nothing":           {[]string{"dead"}, "list, show, redrive or drop"},
		"unknown":           {[]string{"dead", "letters"}, "unknown command"},
		"show nothing":      {[]string{"dead", "show"}, "needs one id"},
		"class":             {[]string{"dead", "list", "--class", "bad"}, `--class: unknown class "bad"; there are unreadable, permanent, attempts_used_up`},
		"function":          {[]string{"dead", "drop", "--function", "x"}, `--function: unknown function "x"`},
		"since":             {[]string{"dead", "list", "--since", "x"}, "--since"},
		"redrive nothing":   {[]string{"dead", "redrive"}, "select dead letters"},
		"redrive two ways":  {[]string{"dead", "redrive", "a", "--all"}, "select dead letters"},
		"all of a class":    {[]string{"dead", "drop", "--all", "--class", "permanent"}, "select dead letters"},
		"as new, many":      {[]string{"dead", "redrive", "--all", "--as-new"}, "one dead letter at a time"},
		"drop without id":   {[]string{"dead", "drop", ""}, "select dead letters"},
		"freeze, no reason": {[]string{"freeze"}, "--reason"},
		"freeze, empty":     {[]string{"freeze", "--reason", " \n"}, "--reason"},
		"freeze, too long":  {[]string{"freeze", "--reason", strings.Repeat("x", 501)}, "at most 500"},
		"trace nothing":     {[]string{"trace"}, "one correlation id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := program(t, "", test.args...)
			require.Equal(t, exitUsage, r.code, r.errOut)
			require.Contains(t, r.errOut, test.want)
		})
	}
}

// operators is what people have set.
func (w *ward) operators() *safety.Operators { return &safety.Operators{Store: w.store.Values()} }
