package main

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
	"recompose/shared/telemetry/health"
	"recompose/shared/testkit/chaostest"
)

// page reads one of the pages of a worker.
func page(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

func TestHealthAndMetricsOfWorkers(t *testing.T) {
	t.Parallel()
	p := start(t, []string{"RECOMPOSE_HTTP_LISTEN=127.0.0.1:0"}, binary(t, "recompose"), "up", "--data", t.TempDir(),
		"--nats-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0", "--desktops", "2", "--speed", "400")
	p.prints(t, "Ctrl-C ends it")
	at := strings.TrimSuffix(p.field(t, "health"), "/readyz")
	eventually(t, func() bool { status, _ := page(t, at+"/readyz"); return status == http.StatusOK }, "it does not become ready")
	status, text := page(t, at+"/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"alive"`)

	env := []string{"NATS_URL=" + p.field(t, "NATS")}
	id := strings.Fields(p.field(t, "desktops"))[0]
	sent := finish(t, env, "send", "getdesktop", "--desktop-id", id, "--wait")
	require.Equal(t, exitDone, sent.code, sent.errOut)
	eventually(t, func() bool {
		_, text := page(t, at+"/metrics")
		return strings.Contains(text, `recompose_messages_total{end="desktop.described",function="getdesktop"} 1`)
	}, "the message is not counted")
	_, text = page(t, at+"/metrics")
	for _, line := range []string{
		`recompose_api_calls_total{operation="get-desktop",status="200"} 1`, `recompose_nats_connected 1`, `recompose_queue_readable 1`,
		`recompose_worker_stopped 0`, `recompose_check_passed{check="ledger"} 1`, `recompose_queue_messages{consumer="getdesktop",state="pending",stream="RECOMPOSE_COMMANDS"} 0`,
	} {
		require.Contains(t, text, line+"\n")
	}
	require.NotContains(t, text, id, "no label is an id")

	require.Equal(t, exitDone, finish(t, env, "freeze", "--reason", "storm").code)
	status, text = page(t, at+"/readyz")
	require.Equal(t, http.StatusOK, status, "frozen is ready, and reported")
	require.Contains(t, text, "storm")
	_, text = page(t, at+"/metrics")
	require.Contains(t, text, "recompose_writes_frozen 1\n")
	require.NotContains(t, text, "recompose_writes_frozen_seconds 0\n")

	second := finish(t, []string{health.Variable + "=" + strings.TrimPrefix(at, "http://")}, "up", "--data", t.TempDir(),
		"--nats-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0")
	require.Equal(t, exitUsage, second.code)
	require.Contains(t, second.errOut, "RECOMPOSE_HTTP_LISTEN")
	require.Contains(t, second.errOut, "off")
	require.Equal(t, exitDone, p.interrupt(t))
}

// If the usual port is in use, another one is used and printed.
func TestEveryUpHasAHealthPage(t *testing.T) {
	t.Parallel()
	pages := map[string]bool{}
	for range 2 {
		p := start(t, []string{health.Variable + "="}, binary(t, "recompose"), "up", "--data", t.TempDir(),
			"--nats-listen", "127.0.0.1:0", "--emulator-listen", "127.0.0.1:0")
		p.prints(t, "Ctrl-C ends it")
		at := p.field(t, "health")
		status, text := page(t, at)
		require.Contains(t, text, `"checks"`, "%d", status)
		pages[at] = true
	}
	require.Len(t, pages, 2)
}

func TestAWorkerWithoutNATSIsAliveAndNotReady(t *testing.T) {
	t.Parallel()
	p := start(t, []string{
		"RECOMPOSE_HTTP_LISTEN=" + freePort(t), "NATS_URL=nats://" + freePort(t), "RECOMPOSE_WORKSPACE_ENDPOINT=https://workspace.example.com",
		"HUAWEICLOUD_SDK_PROJECT_ID=p1", "HUAWEICLOUD_SDK_AK=ak", "HUAWEICLOUD_SDK_SK=sk", "GOGC=",
	}, binary(t, "recompose"), "run")
	p.prints(t, "REAL")
	var at string
	for _, e := range p.cmd.Env {
		if rest, ok := strings.CutPrefix(e, "RECOMPOSE_HTTP_LISTEN="); ok {
			at = "http://" + rest
		}
	}
	status, _ := page(t, at+"/healthz")
	require.Equal(t, http.StatusOK, status, "a restart would not help")
	status, text := page(t, at+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "not connected")
	_, text = page(t, at+"/metrics")
	require.Contains(t, text, "recompose_nats_connected 0\n")
	require.Contains(t, text, `recompose_check_passed{check="nats"} 0`+"\n")
	require.Contains(t, text, "recompose_queue_readable 0\n")
	require.Contains(t, text, "go_gc_gogc_percent 100\n")
}

// TestClocksOfTheServiceThatAreOff runs a rebuild on a service whose clock is off by far more than a job takes.
func TestClocksOfTheServiceThatAreOff(t *testing.T) {
	t.Parallel()
	for _, skew := range []string{"-50m", "-20m", "20m"} {
		t.Run(skew, func(t *testing.T) {
			t.Parallel()
			at := freePort(t)
			e := start(t, nil, binary(t, "recompose"), "emulator", "--listen", at, "--desktops", "3", "--speed", "600", "--clock-skew", skew)
			e.prints(t, "Ctrl-C ends it")
			p := start(t, []string{
				"RECOMPOSE_HTTP_LISTEN=127.0.0.1:0", "HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey,
				"HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID,
			}, binary(t, "recompose"), "up", "--data", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--workspace-endpoint", "http://"+at)
			p.prints(t, "Ctrl-C ends it")
			status, text := page(t, p.field(t, "health"))
			require.Equal(t, http.StatusOK, status)
			require.Contains(t, text, "the clock of the Workspace service is not known before its first answer")
			var state emulator.State
			getJSON(t, "http://"+at+"/_emulator/state", &state)
			image, kind := chaostest.OtherImage(t, state)
			sent := finish(t, []string{"NATS_URL=" + p.field(t, "NATS")}, "send", "rebuild", "--desktop-ids", state.Desktops[0].DesktopID+","+state.Desktops[1].DesktopID,
				"--image-id", image, "--image-type", kind, "--wait", "--yes")
			require.Equal(t, exitDone, sent.code, sent.out+sent.errOut)
			status, text = page(t, p.field(t, "health"))
			require.Contains(t, text, "the clock of the Workspace service is "+strings.TrimPrefix(skew, "-"))
			require.Equal(t, http.StatusServiceUnavailable, status, "the rebuild went well, and a clock is wrong")
			ahead, err := time.ParseDuration(skew)
			require.NoError(t, err)
			_, text = page(t, strings.TrimSuffix(p.field(t, "health"), "/readyz")+"/metrics")
			_, value, _ := strings.Cut(text, `recompose_clock_skew_seconds{clock="service"} `)
			shown, err := strconv.ParseFloat(strings.SplitN(value, "\n", 2)[0], 64)
			require.NoError(t, err)
			require.InDelta(t, ahead.Seconds(), shown, 30)
			require.Contains(t, p.err.String(), "clocks differ")
		})
	}
}
