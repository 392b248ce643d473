package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
)

// realService is the environment of a worker on a service that no test calls.
func realService(natsURL string) []string {
	return []string{
		natsURL, "RECOMPOSE_WORKSPACE_ENDPOINT=https://Workspace.Example.COM:443/", "HUAWEICLOUD_SDK_PROJECT_ID=p1",
		"HUAWEICLOUD_SDK_AK=ak", "HUAWEICLOUD_SDK_SK=sk",
	}
}

func TestADeploymentWorksOnOneService(t *testing.T) {
	t.Parallel()
	onEmulator, url := cluster(t, 2)
	onReal := realService(onEmulator[0])
	require.Equal(t, exitDone, finish(t, onEmulator[:1], "setup").code)

	// The first worker records its service, though it may create nothing.
	first := start(t, append(onReal, "RECOMPOSE_SETUP=verify", "RECOMPOSE_LOG_LEVEL=debug"), binary(t, "recompose"), "run")
	first.prints(t, "working on")
	require.True(t, strings.HasPrefix(first.out.String(), "REAL https://workspace.example.com p1\n"), first.out.String())
	rebuild := []string{"send", "rebuild", "--desktop-ids", "a", "--image-type", "private", "--image-id", "i"}
	r := finish(t, onEmulator, rebuild...)
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "REAL https://workspace.example.com p1\n", r.out, "what the workers recorded, not the sender's environment")

	for name, env := range map[string][]string{
		"an emulator":     onEmulator,
		"another project": append(realService(onEmulator[0]), "HUAWEICLOUD_SDK_PROJECT_ID=p2"),
		"another host":    append(realService(onEmulator[0]), "RECOMPOSE_WORKSPACE_ENDPOINT=https://other.example.com"),
	} {
		r = finish(t, env, "run")
		require.Equal(t, exitUsage, r.code, name)
		require.Contains(t, r.errOut, "this deployment works on REAL https://workspace.example.com, project p1", name)
		require.NotContains(t, r.out, "working on")
	}
	r = finish(t, onEmulator, "run")
	require.Contains(t, r.errOut, "configured for EMULATOR, project "+emulator.DefaultProjectID)
	require.Contains(t, r.errOut, "setup --accept-service")
	other := start(t, append(onEmulator, "RECOMPOSE_DEPLOYMENT=test"), binary(t, "recompose"), "run")
	other.prints(t, "working on") // another deployment has a record of its own
	require.Equal(t, exitDone, other.interrupt(t))

	// A person changes it, twice for the same: one change, one event.
	for range 2 {
		r = finish(t, []string{onEmulator[0], onEmulator[1], onEmulator[2]}, "setup", "--accept-service") // it needs no credentials
		require.Equal(t, exitDone, r.code, r.errOut)
		require.Contains(t, r.out, "now       EMULATOR, project "+emulator.DefaultProjectID+"\n")
	}
	r = finish(t, onEmulator[:1], "events", "--type", "service.accepted", "--json")
	require.Equal(t, exitDone, r.code, r.errOut)
	var e events.Envelope
	require.NoError(t, json.Unmarshal([]byte(r.out), &e), r.out)
	var accepted events.ServiceAccepted
	require.NoError(t, json.Unmarshal(e.Data, &accepted))
	require.Equal(t, events.Service{Kind: events.ServiceEmulator, Project: emulator.DefaultProjectID}, accepted.Service)
	require.Equal(t, &events.Service{Kind: events.ServiceReal, Host: "workspace.example.com", Project: "p1"}, accepted.Before)
	r = finish(t, onEmulator[:1], "events")
	require.Contains(t, r.out, "the deployment works on EMULATOR, project "+emulator.DefaultProjectID+", before on REAL https://workspace.example.com, project p1")

	// The worker of the service before still runs: it begins no write, and the one of this service carries it out.
	var state emulator.State
	getJSON(t, url+"/_emulator/state", &state)
	sender := start(t, onEmulator, binary(t, "recompose"), "send", "rebuild", "--desktop-ids", state.Desktops[0].DesktopID, "--image-id", state.Images[0].ID,
		"--image-type", state.Images[0].ImageType, "--rebuild-current", "--wait")
	sender.prints(t, "command")
	require.True(t, strings.HasPrefix(sender.out.String(), "EMULATOR\n"), sender.out.String())
	held := "and this worker on REAL https://workspace.example.com, project p1"
	eventually(t, func() bool { return first.err.has(held) }, "the worker of the service before does not hold the write")
	eventually(t, func() bool { return sender.out.has("begins no write: the deployment works on EMULATOR") }, "the reason is not shown")
	require.NotContains(t, sender.out.String(), "whether writes are frozen")
	second := start(t, onEmulator, binary(t, "recompose"), "run")
	second.prints(t, "working on")
	require.Equal(t, exitDone, first.interrupt(t))
	require.Equal(t, exitDone, sender.wait(t), sender.err.String())
	require.Len(t, acceptedWrites(t, url), 1)
	require.Equal(t, exitDone, second.interrupt(t))
}

func TestSetupAcceptServiceOfNoService(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env  []string
		args []string
		want string
	}{
		"nothing named":     {[]string{"NATS_URL=nats://127.0.0.1:1"}, nil, "RECOMPOSE_REGION: is missing"},
		"no project":        {[]string{"NATS_URL=nats://127.0.0.1:1", "RECOMPOSE_REGION=cn-north-4"}, nil, "HUAWEICLOUD_SDK_PROJECT_ID: is missing"},
		"nothing there":     {[]string{"NATS_URL=nats://127.0.0.1:1", "RECOMPOSE_WORKSPACE_ENDPOINT=http://127.0.0.1:1", "HUAWEICLOUD_SDK_PROJECT_ID=p"}, nil, "whether it is an emulator"},
		"to look and to do": {nil, []string{"--verify"}, "--verify"},
	} {
		r := finish(t, test.env, append([]string{"setup", "--accept-service"}, test.args...)...)
		require.Equal(t, exitUsage, r.code, name)
		require.Contains(t, r.errOut, test.want, name)
	}
}

// A worker that is up before the emulator of its machine must not record it as a real service.
func TestAWorkerWaitsForItsEmulator(t *testing.T) {
	t.Parallel()
	env, _ := cluster(t, 1)
	at := freePort(t)
	env = append(env, "RECOMPOSE_WORKSPACE_ENDPOINT=http://"+at)
	p := start(t, env, binary(t, "recompose"), "run")
	eventually(t, func() bool { return p.err.has("waiting for the service") }, "it does not wait")
	require.Empty(t, p.out.String())
	world := start(t, nil, binary(t, "recompose"), "emulator", "--listen", at, "--desktops", "1")
	world.prints(t, "Ctrl-C ends it")
	p.prints(t, "working on")
	require.True(t, strings.HasPrefix(p.out.String(), "EMULATOR\n"), p.out.String())
	require.Equal(t, exitDone, p.interrupt(t))

	p = start(t, append(env, "RECOMPOSE_WORKSPACE_ENDPOINT=http://"+freePort(t)), binary(t, "recompose"), "run")
	eventually(t, func() bool { return p.err.has("waiting for the service") }, "it does not wait")
	require.NotEqual(t, exitDone, p.interrupt(t), "while it waits it can be ended")
}

func TestUpOnARealServiceRequiresTheConfiguredUser(t *testing.T) {
	t.Parallel()
	up := func(env ...string) *process {
		return start(t, append(realService("NATS_URL="), env...), binary(t, "recompose"), "up", "--data", filepath.Join(t.TempDir(), "data"), "--nats-listen", "127.0.0.1:0")
	}
	p := up("NATS_USER=ada", "NATS_PASSWORD=secret")
	p.prints(t, "Ctrl-C ends it")
	require.True(t, strings.HasPrefix(p.out.String(), "REAL https://workspace.example.com p1\n"), p.out.String())
	require.Contains(t, p.out.String(), "senders   everyone with NATS_USER and NATS_PASSWORD\n")
	require.Contains(t, p.out.String(), "In another terminal, with NATS_USER, NATS_PASSWORD:")
	at := "NATS_URL=" + p.field(t, "NATS")
	_, err := nats.Connect(p.field(t, "NATS"), nats.Timeout(10*time.Second))
	require.ErrorIs(t, err, nats.ErrAuthorization)
	wrong := finish(t, []string{at, "NATS_USER=ada", "NATS_PASSWORD=wrong"}, "chains")
	require.Equal(t, exitUsage, wrong.code)
	require.Contains(t, wrong.errOut, "the server refuses the user (nats: Authorization Violation)\nSet NATS_USER and NATS_PASSWORD, or NATS_CREDS")
	rebuild := []string{"send", "rebuild", "--desktop-ids", "a", "--image-type", "private", "--image-id", "i"}
	r := finish(t, []string{at, "NATS_USER=ada", "NATS_PASSWORD=secret"}, rebuild...)
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, "REAL https://workspace.example.com p1\n", r.out)
	require.Equal(t, exitDone, p.interrupt(t))

	p = up()
	p.prints(t, "Ctrl-C ends it")
	require.Contains(t, p.out.String(), "senders   every user and program on this machine, without a password; set NATS_USER and NATS_PASSWORD to require them\n")
	require.Equal(t, exitDone, p.interrupt(t))

	for _, env := range [][]string{{"NATS_CREDS=worker.creds"}, {"NATS_USER=ada"}, {"NATS_PASSWORD=secret"}} {
		p = up(env...)
		require.Equal(t, exitUsage, p.wait(t), env)
		require.Contains(t, p.err.String(), "NATS_USER and NATS_PASSWORD", env)
		require.Empty(t, p.out.String(), env)
	}
}
