//go:build unix

package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
	"recompose/shared/telemetry/health"
)

// TestAWorkerWaitsForAClusterWithoutAQuorum starts a worker when one server of three is there: it waits, shows why, and
// works once the others have come.
func TestAWorkerWaitsForAClusterWithoutAQuorum(t *testing.T) {
	t.Parallel()
	var clients, routes []string
	for range 3 {
		clients, routes = append(clients, freePort(t)), append(routes, freePort(t))
	}
	server := func(i int) {
		dir := t.TempDir()
		config := fmt.Sprintf("server_name: n%d\nlisten: %q\njetstream { store_dir: %q }\ncluster { name: test, listen: %q, routes: [%s] }\n",
			i, clients[i], dir, routes[i], `"nats-route://`+strings.Join(routes, `", "nats-route://`)+`"`)
		file := filepath.Join(dir, "nats.conf")
		require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
		start(t, nil, binary(t, "nats-server"), "-c", file)
	}
	world := start(t, nil, binary(t, "recompose"), "emulator", "--listen", "127.0.0.1:0", "--desktops", "1")
	world.prints(t, "Ctrl-C ends it")
	env := func(listen string) []string {
		return []string{
			"NATS_URL=nats://" + clients[0], "RECOMPOSE_WORKSPACE_ENDPOINT=" + world.field(t, "EMULATOR"), "HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID,
			"HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey, health.Variable + "=" + listen,
		}
	}
	server(0)
	at := freePort(t)
	worker := start(t, env(at), binary(t, "recompose"), "run")
	other := start(t, env("off"), binary(t, "recompose"), "run")
	ready := func() (int, string) { return page(t, "http://"+at+"/readyz") }
	eventually(t, func() bool {
		return strings.Contains(worker.err.String(), "waiting for it") && strings.Contains(other.err.String(), "waiting for it")
	},
		"it does not wait")
	require.False(t, worker.ended())
	status, text := ready()
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "waiting for it")
	require.Equal(t, exitDone, other.interrupt(t), "it can be ended while it waits")

	server(1)
	server(2)
	for deadline := time.Now().Add(2 * within); ; {
		if status, text = ready(); status == http.StatusOK {
			break
		}
		require.False(t, worker.ended(), worker.err.String())
		require.True(t, time.Now().Before(deadline), text)
		<-time.After(50 * time.Millisecond) // between two looks
	}
	require.Contains(t, worker.out.String(), "working on")
	require.Equal(t, exitDone, worker.interrupt(t))
}
