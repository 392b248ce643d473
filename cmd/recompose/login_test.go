//go:build unix

package main

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

// statuses are those of all requests of a kind that the emulator has got.
func (a *arena) statuses(call string) []int {
	a.t.Helper()
	all := []int{}
	for _, r := range a.calls(call) {
		all = append(all, r.Status)
	}
	return all
}

// A chain outlives several tokens, or sets of keys. None is refused, and none is used beyond its end.
func TestAChainOutlivesItsTokensAndKeys(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags       []string
		credentials func(*arena) []string
		call        string // that gives them
	}{
		"login":  {[]string{"--token-lifetime", "5s"}, (*arena).login, emulator.CallToken},
		"agency": {[]string{"--key-lifetime", "9s"}, (*arena).agency, emulator.CallSecurityKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newArena(t, settings{desktops: 3, window: 2 * time.Second, speed: "40", pace: "40", flags: test.flags})
			a.working(test.credentials(a)...)
			state := a.state()
			cmd := events.Rebuild{}
			cmd.ImageID, cmd.ImageType = chaostest.OtherImage(t, state)
			for _, d := range state.Desktops {
				cmd.DesktopIDs = append(cmd.DesktopIDs, d.DesktopID)
			}
			a.rebuild(cmd)
			a.honest(cmd)
			require.Equal(t, events.Succeeded, a.completed("c").Outcome)
			require.Greater(t, len(a.calls(test.call)), 1, "it was renewed under way")
			var journal []emulator.Request
			getJSON(t, a.url+"/_emulator/requests", &journal)
			for _, r := range journal {
				require.NotEqual(t, http.StatusUnauthorized, r.Status, "%+v", r)
			}
		})
	}
}

// A wrong password is sent once. The worker stops, reports it and spends no message; with the right one commands continue.
func TestAWorkerWhoseLoginIsRefusedStops(t *testing.T) {
	t.Parallel()
	a, _ := stage(t, 1, "300")
	desktop := a.state().Desktops[0].DesktopID
	wrong := append(a.login(), "RECOMPOSE_IAM_PASSWORD=hunter2hunter2")
	stopped := a.working(wrong...)
	at, _, _ := strings.Cut(stopped.field(t, "health at"), ",")
	for _, id := range []string{"r1", "r2", "r3"} {
		a.send(id, events.TypeGetDesktop, events.GetDesktop{DesktopID: desktop})
	}
	eventually(t, func() bool { return strings.Contains(stopped.err.String(), "takes no more messages") }, "it does not stop")
	status, text := page(t, at)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "The username or password is wrong")
	require.Contains(t, text, "restart it with the right login")
	require.Equal(t, []int{401}, a.statuses(emulator.CallToken))
	require.Empty(t, a.calls(emulator.CallGetDesktop))
	require.Empty(t, a.events(), "nothing has come to an end")
	require.NotContains(t, stopped.out.String()+stopped.err.String()+text, "hunter2")
	require.Equal(t, exitDone, stopped.interrupt(t))

	a.working(a.login()...)
	a.send("r4", events.TypeGetDesktop, events.GetDesktop{DesktopID: desktop})
	eventually(t, func() bool { return len(a.open("r4")) == 0 }, "commands do not continue")
	require.Equal(t, []int{401, 201}, a.statuses(emulator.CallToken))
	for _, id := range []string{"r1", "r2", "r3"} { // what has stopped a worker comes back after a minute
		eventually(t, func() bool { return strings.Contains(a.waiting(), `"id":"`+id+`"`) || len(a.open(id)) == 0 }, id+" is lost")
	}
	for _, c := range a.consumers("RECOMPOSE_COMMANDS") {
		require.Zero(t, c.NumRedelivered)
	}
}

// While IAM cannot be used, commands wait as they do while the service cannot.
func TestALoginThatFailsIsRetried(t *testing.T) {
	t.Parallel()
	a, cmd := stage(t, 2, "300")
	a.faults(
		emulator.Fault{Call: emulator.CallToken, Times: 1, Do: emulator.Do{Drop: emulator.DropBefore}},
		emulator.Fault{Call: emulator.CallToken, Times: 1, Do: emulator.Do{Status: 503}},
		emulator.Fault{Call: emulator.CallToken, Times: 1, Do: emulator.Do{Quirk: "html-502"}},
	)
	worker := a.working(append(a.login(), "RECOMPOSE_LOG_LEVEL=debug")...)
	a.rebuild(cmd)
	a.honest(cmd)
	require.Equal(t, events.Succeeded, a.completed("c").Outcome)
	require.Equal(t, []int{0, 503, 502, 201}, a.statuses(emulator.CallToken))
	require.NotContains(t, worker.err.String(), emulator.DefaultIAMPassword)
}

func TestUpAndInvokeWithEachKindOfCredentials(t *testing.T) {
	t.Parallel()
	world := start(t, nil, binary(t, "recompose"), "emulator", "--listen", "127.0.0.1:0", "--agency", "--iam-user", "ada", "--iam-password", "hunter2hunter2",
		"--iam-domain", "analytical")
	world.prints(t, "Ctrl-C ends it")
	url := world.field(t, "EMULATOR")
	require.Contains(t, world.out.String(), "RECOMPOSE_METADATA_ENDPOINT=")
	place := []string{"RECOMPOSE_WORKSPACE_ENDPOINT=" + url, "HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID}
	a := &arena{t: t, url: url}
	desktop := a.state().Desktops[0].DesktopID
	for name, credentials := range map[string][]string{
		"login":  {"RECOMPOSE_IAM_ENDPOINT=" + url, "RECOMPOSE_IAM_USER=ada", "RECOMPOSE_IAM_PASSWORD=hunter2hunter2", "RECOMPOSE_IAM_DOMAIN=analytical"},
		"agency": a.agency(),
	} {
		env := append(slices.Clone(place), credentials...)
		up := start(t, env, binary(t, "recompose"), "up", "--data", t.TempDir(), "--nats-listen", "127.0.0.1:0")
		up.prints(t, "Ctrl-C ends it")
		sent := finish(t, []string{"NATS_URL=" + up.field(t, "NATS")}, "send", "getdesktop", "--desktop-id", desktop, "--wait")
		require.Equal(t, exitDone, sent.code, name+sent.out+sent.errOut)

		shown := finish(t, append(env, "NATS_URL="+up.field(t, "NATS")), "config", "--json")
		require.Equal(t, exitDone, shown.code, shown.out)
		var c configJSON
		require.NoError(t, json.Unmarshal([]byte(shown.out), &c))
		require.Contains(t, c.Credentials, url)
		require.NotContains(t, shown.out+up.out.String()+up.err.String(), "hunter2")
		require.Equal(t, exitDone, up.interrupt(t))

		invoked := finish(t, env, "invoke", "getdesktop", "-e", eventFile(t, `{"desktop_id": "`+desktop+`"}`))
		require.Equal(t, exitDone, invoked.code, invoked.errOut)
		require.Contains(t, invoked.out, "desktop.described")
	}
}
