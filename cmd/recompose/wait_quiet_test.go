package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/embednats"
	"recompose/shared/emulator"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/natstest"
)

// home is a `recompose up` within this process.
type home struct {
	nats, emulator string
	world          emulator.State
}

func newHome(t *testing.T, desktops int) *home {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, log := &output{}, &output{}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"up", "--data", filepath.Join(t.TempDir(), "data"), "--nats-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0",
			"--desktops", strconv.Itoa(desktops), "--speed", "400"}, nil, out, log)
	}()
	t.Cleanup(func() { cancel(); require.Equal(t, exitDone, <-ended, log.String()) })
	eventually(t, func() bool { return out.has("Ctrl-C ends it") }, "it does not begin")
	p := ran{out: out.String()}
	h := &home{nats: p.field(t, "NATS"), emulator: p.field(t, "emulator")}
	getJSON(t, h.emulator+"/_emulator/state", &h.world)
	return h
}

func (h *home) run(t *testing.T, args ...string) ran {
	t.Helper()
	return program(t, "", append(args, "--nats-url", h.nats)...)
}

func (h *home) rebuild(t *testing.T, args ...string) ran {
	t.Helper()
	image := h.world.Images[0]
	return h.run(t, append([]string{"send", "rebuild", "--desktop-ids", h.world.Desktops[1].DesktopID, "--image-id", image.ID,
		"--image-type", image.ImageType, "--rebuild-current", "--wait"}, args...)...)
}

func (h *home) faults(t *testing.T, faults ...emulator.Fault) {
	t.Helper()
	putJSON(t, h.emulator+"/_emulator/faults", faults)
}

// pasted runs a command line that the program printed.
func pasted(t *testing.T, text, before string) ran {
	t.Helper()
	_, line, found := strings.Cut(text, before)
	require.True(t, found, text)
	line, _, _ = strings.Cut(line, "\n")
	line, found = strings.CutPrefix(line, programName()+" ")
	require.True(t, found, line)
	return program(t, "", strings.Fields(line)...)
}

func TestAFrozenWriteIsExplainedAndItsHintContinues(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	failed := filepath.Join(t.TempDir(), "failed.txt")
	require.Equal(t, exitDone, h.run(t, "freeze", "--reason", "ticket 4711").code)
	r := h.rebuild(t, "--timeout", "4s", "--failed-to", failed)
	require.Equal(t, exitUnknown, r.code)
	const frozen = `writes are frozen since \d\d:\d\d by \S+@\S+: ticket 4711`
	require.Regexp(t, `\n +waiting: `+frozen+`\n`, r.out, "it is shown while it waits")
	require.Regexp(t, `no event after 4s \(`+frozen+`\)\n`, r.errOut)

	reads := h.run(t, "send", "getdesktop", "--desktop-id", h.world.Desktops[1].DesktopID, "--wait")
	require.Equal(t, exitDone, reads.code, reads.errOut)
	require.NotContains(t, reads.out, "frozen")

	require.Equal(t, exitDone, h.run(t, "thaw").code)
	require.NoError(t, os.Remove(failed))
	resumed := pasted(t, r.errOut, "To continue waiting: ")
	require.Equal(t, exitDone, resumed.code, resumed.out+resumed.errOut)
	require.Regexp(t, `: (25|50|75) %`, resumed.out, "progress is shown")
	require.FileExists(t, failed, "the hint keeps --failed-to")
}

func TestARefusedKeyIsExplained(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	h.faults(t, emulator.Fault{Call: "*", Do: emulator.Do{Status: 401, ErrorCode: "APIGW.0301", ErrorMsg: "Incorrect IAM authentication information"}})
	get := []string{"send", "getdesktop", "--desktop-id", h.world.Desktops[1].DesktopID, "--wait", "--timeout"}
	require.Equal(t, exitUnknown, h.run(t, append(get, "3s")...).code)
	r := h.run(t, append(get, "3s")...)
	require.Equal(t, exitUnknown, r.code)
	require.Regexp(t, `no event after 3s \(worker \S+: the service refuses its credentials, and it takes no messages since \d\d:\d\d: .*APIGW\.0301`, r.errOut)
}

func TestThrottlingIsExplained(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	h.faults(t, emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Status: 429, RetryAfter: "60"}})
	r := h.run(t, "send", "getdesktop", "--desktop-id", h.world.Desktops[1].DesktopID, "--wait", "--timeout", "3s")
	require.Equal(t, exitUnknown, r.code)
	require.Regexp(t, `no event after 3s \(the service throttles: worker \S+ makes no reads until \d\d:\d\d:\d\d\)`, r.errOut)
}

// deserted is a NATS server where everything is set up, workers on an emulator were there, and none is now.
func deserted(t *testing.T) *ward {
	t.Helper()
	server := natstest.Start(t, embednats.Options{Listen: "127.0.0.1:0"})
	w := &ward{url: server.Server.ClientURL(), nc: server.Conn}
	r := finish(t, []string{"NATS_URL=" + w.url}, "setup")
	require.Equal(t, exitDone, r.code, r.errOut)
	var err error
	w.store, err = natsledger.New(t.Context(), w.nc, natsledger.Options{Options: natsstore.Options{Verify: true}})
	require.NoError(t, err)
	worksOn(t, w.store, onEmulator)
	return w
}

func TestNoWorkerHasTakenTheCommand(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	rebuild := []string{"send", "rebuild", "--desktop-ids", "d1", "--image-id", "i", "--image-type", "private", "--wait", "--timeout", "3s"}
	r := w.run(t, rebuild...)
	require.Equal(t, exitUnknown, r.code)
	require.Contains(t, r.errOut, "no event after 3s (no worker has taken the command: none takes rebuild commands now; start one with recompose run)\n")
	require.Equal(t, exitDone, w.run(t, "freeze", "--reason", "r").code)
	r = w.run(t, rebuild...)
	require.Regexp(t, `no event after 3s \(writes are frozen since .*: r; no worker has taken the command: `, r.errOut)
}

func TestWaitOfAnUnknownIDEnds(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	begun := time.Now()
	r := w.run(t, "wait", "nosuch", "--failed-to", filepath.Join(t.TempDir(), "f"))
	require.Equal(t, exitUnknown, r.code)
	require.GreaterOrEqual(t, time.Since(begun), unknownAfter)
	require.Regexp(t, `how chain nosuch ended is not known: no event of it within 5s.*\nIts command may still wait.*\nStill open: command nosuch\n`+
		`To continue waiting: .* wait nosuch --for-ever --failed-to \S+ --nats-url \S+\n$`, r.errOut)
	r = w.run(t, "wait", "nosuch", "--for-ever", "--timeout", "7s")
	require.Equal(t, exitUnknown, r.code)
	require.Regexp(t, `no event after 7s.*\nIts command may still wait`, r.errOut, "a reason does not prove that there is a command")

	// Nothing is known of a chain whose server is not there, or has no streams.
	r = program(t, "", "wait", "nosuch", "--nats-url", "nats://127.0.0.1:1")
	require.Equal(t, exitUnknown, r.code)
	require.Contains(t, r.errOut, "how chain nosuch ended is not known: connect to NATS")
}

// Of a chain without an event, nothing proves that it continues.
func TestAnInterruptedWaitShowsWhatIsKnown(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cmd := waitCommand()
	cmd.SetContext(ctx)
	w := &waiting{cmd: cmd, f: &followFlags{}, target: target{chain: chain.New("c", events.Root{}), resume: func(bool) string { return "" }}}
	require.ErrorContains(t, w.unknown(w.chain.Open(), ctx.Err()), "interrupted\nIts command may still wait, ")
	w.function = events.FnRebuild // sent by this process
	require.ErrorContains(t, w.unknown(w.chain.Open(), ctx.Err()), "The chain continues without this program. To stop further writes: ")
}

func TestNotSentIsExitCode2(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, embednats.Options{Listen: "127.0.0.1:0"}).Server
	for name, where := range map[string][]string{
		"no server": {"--nats-url", "nats://127.0.0.1:1"}, "no stream": {"--nats-url", server.ClientURL()},
		"no stream to follow": {"--nats-url", server.ClientURL(), "--wait"}, "no region": {"--aws", "recompose"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := []string{"AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=s", "AWS_EC2_METADATA_DISABLED=true"}
			r := finish(t, env, append([]string{"send", "getdesktop", "--desktop-id", "d1"}, where...)...)
			require.Equal(t, exitUsage, r.code, r.errOut)
			require.Contains(t, r.errOut, "the command was not sent")
		})
	}
}

// TestAMissingRightIsNamed waits as a user who may send and read events and nothing else.
func TestAMissingRightIsNamed(t *testing.T) {
	t.Parallel()
	at := freePort(t)
	_, port, _ := strings.Cut(at, ":")
	conf := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(conf, []byte(`
		listen: "`+at+`"
		jetstream {store_dir: "`+t.TempDir()+`"}
		authorization {users: [
			{user: setup, password: p}
			{user: sender, password: p, permissions: {
				publish: ["recompose.command.>", "$JS.API.STREAM.INFO.RECOMPOSE_EVENTS", "$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.>", "$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_EVENTS.*"]
				subscribe: ["_INBOX.>"]
			}}
			{user: nothing, password: p, permissions: {publish: ["recompose.command.>"], subscribe: ["_INBOX.>"]}}
		]}`), 0o600))
	start(t, nil, binary(t, "nats-server"), "-c", conf, "-p", port)
	env := func(user string) []string {
		return []string{"NATS_URL=nats://" + at, "NATS_USER=" + user, "NATS_PASSWORD=p"}
	}
	eventually(t, func() bool {
		nc, err := nats.Connect("nats://"+at, nats.UserInfo("setup", "p"))
		if err == nil {
			nc.Close()
		}
		return err == nil
	}, "the server does not begin")
	require.Equal(t, exitDone, finish(t, env("setup"), "setup").code)

	r := finish(t, env("sender"), "send", "rebuild", "--desktop-ids", "d1", "--image-id", "i", "--image-type", "private", "--yes", "--wait", "--timeout", "8s")
	require.Equal(t, exitUnknown, r.code, r.out+r.errOut)
	for _, right := range []string{"recompose.status", "$JS.API.DIRECT.GET.KV_RECOMPOSE_LEDGER.$KV.RECOMPOSE_LEDGER.freeze", "$JS.API.CONSUMER.INFO.RECOMPOSE_COMMANDS.rebuild"} {
		require.Regexp(t, `waiting: whether .* is not known: this NATS user lacks the right to publish on `+strings.NewReplacer("$", `\$`, ".", `\.`).Replace(right)+`\n`, r.out)
		require.Equal(t, 1, strings.Count(r.out, right), "it is called and reported once")
		require.Contains(t, r.errOut, "no event after 8s (")
	}
	r = finish(t, env("nothing"), "wait", "c1")
	require.Equal(t, exitUnknown, r.code)
	require.Contains(t, r.errOut, "this NATS user lacks the right to publish on $JS.API.STREAM.INFO.RECOMPOSE_EVENTS")
}

const (
	chainA = "0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f"
	chainB = "0b6d1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f"
)

// library is a server with chains: two that the same letters begin, and some whose senders chose the ids.
func library(t *testing.T) *ward {
	t.Helper()
	w := deserted(t)
	var err error
	w.q, err = natsqueue.New(w.nc, natsqueue.Options{})
	require.NoError(t, err)
	require.NoError(t, w.q.Setup(t.Context(), functions.Routes()))
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	for i, id := range []string{chainA, chainB, "nightly-1", "nightly-2", "weekly-2"} {
		ref := events.CommandRef{Type: events.TypeRebuild, ID: id, Source: "https://ci.example.com"}
		accepted := published(t, events.FnRebuild, events.TypeJobAccepted, "accepted-"+id, id, events.JobAccepted{
			Function: events.FnRebuild, Command: ref, JobID: "j-" + id, DesktopIDs: []string{"d1", "d2"}, ImageID: "i",
		})
		es := []events.Envelope{accepted, {
			ID: "progress-" + id, Source: "recompose/watchjob", Type: events.TypeJobProgress,
			Data: mustJSON(t, events.JobProgress{Function: events.FnRebuild, Command: ref, JobID: "j-" + id, Percent: 50}),
		}}
		if id != chainB {
			es = append(es, published(t, events.FnWatchJob, events.TypeJobCompleted, "completed-"+id, accepted.ID, events.JobCompleted{
				Function: events.FnRebuild, Command: ref, JobID: "j-" + id, Outcome: events.Failed,
				Desktops: []events.DesktopResult{{DesktopID: "d1", Outcome: events.Failed}, {DesktopID: "d2", Outcome: events.Failed}},
			}))
		}
		for n, e := range es {
			e.Correlation, e.Time = id, at.Add(time.Duration(i)*time.Hour-time.Duration(n)*time.Millisecond)
			_, err := w.nc.Request(e.Type, mustJSON(t, e), within)
			require.NoError(t, err)
		}
	}
	return w
}

func TestChains(t *testing.T) {
	t.Parallel()
	w := library(t)
	r := w.run(t, "chains")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `^2026-\S+ \S+  `+chainA+`  rebuild, 2 desktops +by https://ci\.example\.com  failed: 2 desktops\n`+
		`2026-\S+ \S+  `+chainB+`  rebuild, 2 desktops +by https://ci\.example\.com  open: job j-`+chainB+` of rebuild: 50 %\n`+
		`2026-\S+ \S+  nightly-1  .*\n2026-\S+ \S+  nightly-2  .*\n2026-\S+ \S+  weekly-2  .*\n5 chains\n$`, r.out)
	rows := lines[chain.Row](t, w.run(t, "chains", "--open", "--json").out)
	require.Len(t, rows, 1)
	require.Equal(t, chainB, rows[0].Correlation)
	require.Equal(t, "open", rows[0].State)
	require.Equal(t, []string{"job j-" + chainB + " of rebuild"}, rows[0].Open)
	require.Equal(t, "0 chains\n", w.run(t, "chains", "--since", "2027-01-01T00:00:00Z").out)

	e := events.Envelope{ID: "s1", Source: "recompose/setup", Type: events.TypeServiceAccepted, Correlation: "s1", Time: time.Now(),
		Data: mustJSON(t, events.ServiceAccepted{Service: onEmulator, By: "ada@host"})}
	_, err := w.nc.Request(e.Type, mustJSON(t, e), within)
	require.NoError(t, err)
	require.Contains(t, w.run(t, "chains").out, "\n5 chains\n", "another service is no chain")
	require.Contains(t, w.run(t, "events").out, "ada@host")

	require.Regexp(t, `(?m)^2026-\S+ \S+  nightly-2  watchjob +job j-nightly-2: 50 %$`, w.run(t, "events").out)
}

func TestPrefixesOfIDs(t *testing.T) {
	t.Parallel()
	w := library(t)
	r := w.run(t, "trace", "0b6c")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "chain     "+chainA+":")
	require.NotContains(t, r.out, "+-", "no time is negative")
	require.Contains(t, w.run(t, "trace", "0b6d").out, "… still open, 50 %")
	require.Contains(t, w.run(t, "trace", "nightly-1").out, "chain     nightly-1:")
	r = w.run(t, "trace", "nightly")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, `"nightly" is not unique: nightly-1, nightly-2 begin with it`)
	require.Equal(t, exitFailed, w.run(t, "trace", "nosuch").code)

	r = w.run(t, "events", "--correlation", "0b6c")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Equal(t, 3, strings.Count(r.out, "  "+chainA+"  "), r.out)
	require.NotContains(t, r.out, chainB)
	require.Equal(t, 3, strings.Count(w.run(t, "events", "--correlation", "nightly-1").out, "  nightly-1  "))
	none := w.run(t, "events", "--correlation", "nosuch")
	require.Equal(t, ran{exitDone, "", "0 events\n"}, none)
	r = w.run(t, "events", "--correlation", "0b6")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, `--correlation: the id "0b6" is not unique: `+chainA+", "+chainB+" begin with it")
	r = w.run(t, "events", "--correlation", "weekly", "--follow")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, `no chain has the id "weekly"`)
	require.Empty(t, w.run(t, "events", "--correlation", "nosuch").out)

	r = w.run(t, "wait", "0b6c")
	require.Equal(t, exitFailed, r.code, r.errOut)
	require.Contains(t, r.out, "  FAILED  d2: failed\n")
	r = w.run(t, "wait", "0b6")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, chainA+", "+chainB+" begin with it")
	r = w.run(t, "wait", "nightly-1")
	require.Equal(t, exitFailed, r.code)
	// The sender of weekly, which has no event yet, must not get the result of weekly-2.
	r = w.run(t, "wait", "weekly")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, `no chain has the id "weekly". There is "weekly-2"`)
	require.Contains(t, w.run(t, "trace", "weekly").out, "chain     weekly-2:")
	r = w.run(t, "wait", "0b6d", "--timeout", "2s", "--json")
	require.Equal(t, exitUnknown, r.code)
	require.Contains(t, r.errOut, "still running after 2s (")
	require.Contains(t, r.errOut, " wait "+chainB+" --json --nats-url")
}

func TestHintsKeepFlagsAndNoCredentials(t *testing.T) {
	t.Parallel()
	var hint, repeat string
	root := newRoot()
	send, _, err := root.Find([]string{"send", "rebuild"})
	require.NoError(t, err)
	send.RunE = nil
	e := events.Envelope{ID: "my id", Correlation: "my id"}
	require.NoError(t, send.ParseFlags([]string{"--nats-url", "nats://u:hunter2@n:4222", "--failed-to", "a b", "--desktop-ids", "a,b", "--desktop-ids", "c",
		"--rebuild-current=false", "--yes", "--timeout", "3s", "--message", "it's", "--wait"}))
	hint, repeat = waitLine(send, waitArguments(e, false))(true), repeatLine(send, e)
	require.Equal(t, programName()+` wait 'my id' --for-ever --failed-to 'a b' --nats-url 'nats://***@n:4222'`, hint)
	require.Equal(t, programName()+` send rebuild --nats-url 'nats://***@n:4222' --failed-to 'a b' --desktop-ids a,b,c --rebuild-current=false --yes --message 'it'\''s' --id 'my id' --wait`, repeat)
	e.Type, e.Data = events.TypeGetDesktop, mustJSON(t, events.GetDesktop{DesktopID: "a"})
	require.Equal(t, programName()+` wait 'my id' --digest `+e.Digest()+` --for-ever --failed-to 'a b' --nats-url 'nats://***@n:4222'`,
		waitLine(send, waitArguments(e, true))(true), "a chosen id")
	require.NoError(t, send.ParseFlags([]string{"-f", "-"}))
	require.Empty(t, repeatLine(send, e), "standard input is gone")
}
