package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/safety"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	// Settings of the environment mean nothing to it, be they right or wrong.
	r := finish(t, []string{"NATS_URL=nats://127.0.0.1:1", "RECOMPOSE_CONCURRENCY=many", "HW_REGION_NAME=cn-north-4", "HTTP_PROXY=http://127.0.0.1:1"}, "demo", "--desktops", "3")
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "desktops  3 rebuilt, 3 verified, 0 failed, 0 skipped")
	require.Contains(t, r.out, "Every desktop runs the new image.")
	for _, step := range []string{"EMULATOR", "accepted: image golden-", "capturing", "accepted: 3 desktops from image", "rebuilding", "3 of 3 desktops run image"} {
		require.Contains(t, r.out, step)
	}
	require.Empty(t, r.errOut)
}

func TestDemoReportsFailedDesktops(t *testing.T) {
	t.Parallel()
	r := finish(t, nil, "demo", "--desktops", "250", "--fail", "3")
	require.Equal(t, exitFailed, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "desktops  247 rebuilt, 247 verified, 3 failed, 0 skipped")
	require.Contains(t, r.out, "250 desktops are split into 3 commands of at most 100")
	require.Equal(t, 3, strings.Count(r.out, "  FAILED  "))
	require.Regexp(t, `  FAILED  [0-9a-f-]{36}: failed, WKS\.\S+, \S+`, r.out)
	require.Regexp(t, `rebuild 3\b`, r.field(t, "API"))
}

// field is what stands behind a word at the beginning of a line.
func (r ran) field(t *testing.T, word string) string {
	t.Helper()
	p := process{}
	p.out.b.WriteString(r.out)
	return p.field(t, word)
}

// up starts `recompose up` on these addresses and waits until it can be used.
func up(t *testing.T, dir, natsAt, emulatorAt, speed string) *process {
	t.Helper()
	p := start(t, nil, binary(t, "recompose"), "up", "--data", dir, "--nats-listen", natsAt, "--emulator-listen", emulatorAt, "--desktops", "6", "--speed", speed)
	p.prints(t, "Ctrl-C ends it")
	return p
}

func TestUpContinuesAfterKills(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a folder's data") // a name that a shell would take apart
	natsAt, emulatorAt := freePort(t), freePort(t)
	worker := up(t, dir, natsAt, emulatorAt, "400")
	require.True(t, strings.HasPrefix(worker.out.String(), "EMULATOR\n"))
	require.Equal(t, "http://"+emulatorAt, worker.field(t, "emulator"))
	require.NotEmpty(t, worker.field(t, "NATS"))

	// The line that it prints, pasted in another terminal.
	line := binary(t, "recompose") + " " + worker.field(t, binary(t, "recompose"))
	failed := filepath.Join(t.TempDir(), "failed.txt")
	sender := start(t, nil, "sh", "-c", line+" --failed-to "+failed)
	for _, moment := range []string{"accepted: image", "accepted: 5 desktops"} {
		sender.prints(t, moment)
		worker.kill()
		worker = up(t, dir, natsAt, emulatorAt, "400")
	}
	require.Equal(t, exitDone, sender.wait(t))
	require.True(t, strings.HasPrefix(sender.out.String(), "EMULATOR\n"))
	require.Contains(t, sender.out.String(), "desktops  5 rebuilt, 5 verified, 0 failed, 0 skipped")
	content, err := os.ReadFile(failed)
	require.NoError(t, err)
	require.Regexp(t, `^# 0 desktops .*\n$`, string(content))

	url := "http://" + emulatorAt
	require.Len(t, acceptedWrites(t, url), 2, "one call a command")
	counts := slices.Sorted(maps.Values(rebuilds(t, url)))
	require.Equal(t, []int{0, 1, 1, 1, 1, 1}, counts)

	// wait prints the same events from the beginning.
	id := strings.Fields(sender.field(t, "desktoptoimage command"))[0]
	repeated := finish(t, []string{"NATS_URL=nats://" + natsAt}, "wait", id, "--json")
	require.Equal(t, exitDone, repeated.code, repeated.errOut)
	answers := 0
	for eventLine := range strings.Lines(repeated.out) {
		var e events.Envelope
		require.NoError(t, json.Unmarshal([]byte(eventLine), &e))
		require.Equal(t, id, e.Correlation)
		if !events.IsNotice(e.Type) {
			answers++
		}
	}
	require.Equal(t, 5, answers)

	second := finish(t, nil, "up", "--data", dir, "--nats-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0")
	require.Equal(t, exitFailed, second.code)
	require.Contains(t, second.errOut, "another `recompose up`")

	require.Equal(t, exitDone, worker.interrupt(t), "Ctrl-C")
	lost := finish(t, []string{"NATS_URL=nats://" + natsAt}, "wait", id)
	require.Equal(t, exitUnknown, lost.code, "nothing is known of the chain")
	require.Contains(t, lost.errOut, "Is `recompose up` running")
}

func TestEndUnknown(t *testing.T) {
	t.Parallel()
	dir, natsAt, emulatorAt := t.TempDir(), freePort(t), freePort(t)
	worker := up(t, dir, natsAt, emulatorAt, "1") // nothing ends while the test looks
	golden := strings.Fields(worker.field(t, "desktops"))[0]
	nats := []string{"NATS_URL=nats://" + natsAt}

	r := finish(t, nats, "send", "desktoptoimage", "--desktop-id", golden, "--execute-sysprep=true", "--wait", "--image-name", "late", "--timeout", "300ms")
	require.Equal(t, exitUnknown, r.code, r.out+r.errOut)
	require.Regexp(t, `recompose wait [0-9a-f-]{36}( --for-ever)?\n`, r.errOut)
	require.Regexp(t, `(still running|no event) after 300ms`, r.errOut)

	// A chain that fails ends at once.
	r = finish(t, nats, "send", "desktoptoimage", "--desktop-id", "nosuch", "--execute-sysprep=true", "--wait", "--image-name", "none")
	require.Equal(t, exitFailed, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "(not_found, status 404")

	p := start(t, nats, binary(t, "recompose"), "wait", "nosuch", "--for-ever")
	eventually(t, func() bool { return p.cmd.ProcessState == nil }, "it runs")
	code := -1
	eventually(t, func() bool { // until it has begun to wait, a signal just ends it
		_ = p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-p.done:
			code = p.cmd.ProcessState.ExitCode()
			return true
		default:
			return false
		}
	}, "Ctrl-C does not end it")
	if code == exitUnknown {
		require.Contains(t, p.err.String(), "interrupted")
	}
	require.Equal(t, exitDone, worker.interrupt(t))
}

// cluster is a NATS server and an emulator, each a process of its own, and the environment that leads to them.
func cluster(t *testing.T, desktops int) (env []string, emulatorURL string) {
	t.Helper()
	natsAt := freePort(t)
	_, port, _ := strings.Cut(natsAt, ":")
	start(t, nil, binary(t, "nats-server"), "-js", "-a", "127.0.0.1", "-p", port, "-sd", t.TempDir())
	world := start(t, nil, binary(t, "recompose"), "emulator", "--listen", "127.0.0.1:0", "--desktops", fmt.Sprint(desktops), "--speed", "400")
	world.prints(t, "Ctrl-C ends it")
	emulatorURL = world.field(t, "EMULATOR")
	return []string{
		"NATS_URL=nats://" + natsAt, "RECOMPOSE_WORKSPACE_ENDPOINT=" + emulatorURL, "HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID,
		"HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey,
		"RECOMPOSE_READS_PER_MINUTE=1000000", "RECOMPOSE_WRITES_PER_MINUTE=1000000",
	}, emulatorURL
}

func TestWorkersShareTheWork(t *testing.T) {
	t.Parallel()
	env, url := cluster(t, 31)
	ids := slices.Sorted(maps.Keys(rebuilds(t, url)))
	var workers []*process
	for range 2 {
		w := start(t, append(env, "RECOMPOSE_LOG_LEVEL=debug", "RECOMPOSE_CONCURRENCY=1"), binary(t, "recompose"), "run")
		w.prints(t, "working on")
		require.True(t, strings.HasPrefix(w.out.String(), "EMULATOR\n"))
		workers = append(workers, w)
	}
	fleet := filepath.Join(t.TempDir(), "fleet.txt")
	require.NoError(t, os.WriteFile(fleet, []byte(strings.Join(ids[1:11], "\n")), 0o600))
	senders := []*process{start(t, env, binary(t, "recompose"), "send", "desktoptoimage", "--desktop-id", ids[0], "--image-name", "shared",
		"--execute-sysprep=true", "--then-rebuild", fleet, "--wait")}
	var state emulator.State
	getJSON(t, url+"/_emulator/state", &state)
	for i := 11; i < 31; i += 2 { // each twice, with the same id
		for range 2 {
			senders = append(senders, start(t, env, binary(t, "recompose"), "send", "rebuild", "--desktop-ids", ids[i]+","+ids[i+1],
				"--image-id", state.Images[0].ID, "--image-type", state.Images[0].ImageType, "--rebuild-current", "--wait", "--id", fmt.Sprint("rebuild-", i)))
		}
	}
	for _, s := range senders {
		require.Equal(t, exitDone, s.wait(t), s.out.String()+s.err.String())
		require.True(t, strings.HasPrefix(s.out.String(), "EMULATOR\n"))
	}
	require.Len(t, acceptedWrites(t, url), 1+1+10)
	for id, n := range rebuilds(t, url) {
		require.Equal(t, id != ids[0], n == 1, "%s: %d", id, n)
	}
	for _, w := range workers {
		require.Contains(t, w.err.String(), "msg=handled", "each did some of it")
		require.Equal(t, exitDone, w.interrupt(t))
		require.NotContains(t, w.err.String(), emulator.DefaultSecretKey)
		require.NotContains(t, w.err.String(), "level=ERROR")
	}
}

// listen connects a plain NATS client and collects the events.
func listen(t *testing.T, env []string) (*nats.Conn, chan events.Envelope) {
	t.Helper()
	_, natsURL, _ := strings.Cut(env[0], "=")
	nc, err := nats.Connect(natsURL)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	published := make(chan events.Envelope, 100)
	_, err = nc.Subscribe("recompose.event.>", func(m *nats.Msg) {
		var e events.Envelope
		if json.Unmarshal(m.Data, &e) == nil {
			published <- e
		}
	})
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	return nc, published
}

func next(t *testing.T, published chan events.Envelope) events.Envelope {
	t.Helper()
	select {
	case e := <-published:
		return e
	case <-time.After(within):
		require.FailNow(t, "no event is published")
		return events.Envelope{}
	}
}

func TestAnyClientCanSendAndNoInputStopsTheWorker(t *testing.T) {
	t.Parallel()
	env, url := cluster(t, 2)
	worker := start(t, env, binary(t, "recompose"), "run")
	worker.prints(t, "working on")
	nc, published := listen(t, env)
	publish := func(subject, id, body string) {
		m := nats.NewMsg(subject)
		m.Data = []byte(body)
		if id != "" {
			m.Header.Set("Nats-Msg-Id", id)
		}
		ack, err := nc.RequestMsg(m, within)
		require.NoError(t, err)
		require.NotContains(t, string(ack.Data), "error")
	}
	id := slices.Sorted(maps.Keys(rebuilds(t, url)))[0]

	for i, body := range []string{
		"", "{", "[]", `"text"`, "\xff", `{"desktop_id": 5}`, `{"desktop_id": "../x"}`, `{"desktop_id": ""}`, `{}`, `{"desktop_id": "a", "more": 1}`,
		`{"desktop_id": "a", "desktop_id": "b"}`, strings.Repeat("[", 5000), `{"desktop_id": "` + strings.Repeat("x", 300) + `"}`,
		`{"specversion":"2.0","id":"v2","source":"s","type":"recompose.command.getdesktop.v1","data":{"desktop_id":"a"}}`,
		`{"specversion":"1.0","id":"v9","source":"s","type":"recompose.command.getdesktop.v9","data":{"desktop_id":"a"}}`,
	} {
		publish(events.TypeGetDesktop, fmt.Sprint("bad-", i), body)
		e := next(t, published)
		var failed events.CommandFailed
		require.Equal(t, events.TypeCommandFailed, e.Type, body)
		require.NoError(t, json.Unmarshal(e.Data, &failed))
		require.Equal(t, events.KindInvalid, failed.Error.Kind, body)
		require.Equal(t, events.EffectNone, failed.Effect)
	}
	publish(events.TypeRebuild, "", `{"desktop_ids": ["`+id+`"], "image_id": "i", "image_type": "private"}`)
	require.Contains(t, string(next(t, published).Data), "Nats-Msg-Id", "a write without an id is refused")

	publish(events.TypeGetDesktop, "", `{"desktop_id": "`+id+`"}`)
	e := next(t, published)
	require.Equal(t, events.TypeDesktopDescribed, e.Type)
	var described struct {
		Desktop map[string]json.RawMessage `json:"desktop"`
	}
	require.NoError(t, json.Unmarshal(e.Data, &described))
	var state struct {
		Desktops []map[string]json.RawMessage `json:"desktops"`
	}
	getJSON(t, url+"/_emulator/state", &state)
	for _, d := range state.Desktops {
		if string(d["desktop_id"]) != `"`+id+`"` {
			continue
		}
		for name, value := range d {
			if empty := string(value) == `""` || string(value) == "null"; !empty && name != "_emulator" {
				require.NotEmpty(t, described.Desktop[name], name)
			}
		}
	}
	require.Empty(t, acceptedWrites(t, url))
	require.Equal(t, exitDone, worker.interrupt(t))
}

func TestRunWithNothingConfigured(t *testing.T) {
	t.Parallel()
	r := finish(t, nil, "run")
	require.Equal(t, exitUsage, r.code)
	require.Empty(t, r.out)
	for _, name := range []string{"HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_PROJECT_ID", "RECOMPOSE_REGION", "NATS_URL"} {
		require.Contains(t, r.errOut, name+": is missing")
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	r := finish(t, []string{"HUAWEICLOUD_SDK_SK=hunter2hunter2", "RECOMPOSE_LOGLEVEL=debug", "NATS_URL=nats://u:hunter2@n:4222"}, "config", "--json")
	require.Equal(t, exitUsage, r.code)
	require.NotContains(t, r.out+r.errOut, "hunter2")
	var shown configJSON
	require.NoError(t, json.Unmarshal([]byte(r.out), &shown))
	require.Equal(t, []string{"RECOMPOSE_LOGLEVEL"}, shown.Unknown)
	require.Len(t, shown.Faults, 4)
	require.Equal(t, config.Fault{Variable: "RECOMPOSE_LOGLEVEL", Problem: "is unknown; did you mean RECOMPOSE_LOG_LEVEL?"}, shown.Faults[3])
	require.NotEmpty(t, shown.Settings)
	require.Equal(t, safety.AllAllowed, shown.Desktops)
}

func TestSendToARealServiceNeedsConfirmation(t *testing.T) {
	t.Parallel()
	env, url := cluster(t, 1)
	nats := env[:1] // without the settings of the workers' service
	require.Equal(t, exitDone, finish(t, nats, "setup").code)
	require.Equal(t, exitDone, finish(t, nats, "setup", "--verify").code)
	rebuild := []string{"send", "rebuild", "--desktop-ids", "a,b", "--image-type", "private", "--image-id", "i"}
	r := finish(t, nats, rebuild...)
	require.Equal(t, exitUsage, r.code)
	require.True(t, strings.HasPrefix(r.out, "REAL "), r.out)
	require.Contains(t, r.errOut, "rebuilds 2 desktops from image i")
	require.Contains(t, r.errOut, "--yes")
	r = finish(t, nats, append(rebuild, "--yes")...)
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "rebuild command ")
	require.Equal(t, exitDone, finish(t, nats, "send", "getdesktop", "--desktop-id", "a").code, "a read needs no confirmation")

	r = finish(t, env, rebuild...)
	require.Equal(t, exitUsage, r.code, r.errOut)
	require.True(t, strings.HasPrefix(r.out, "REAL "), "the sender's environment names an emulator and proves nothing: %s", url)
}
