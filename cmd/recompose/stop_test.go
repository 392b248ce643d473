//go:build unix

package main

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
)

// The first Ctrl-C lets the call in flight end, the second does not.
func TestCtrlCReportsWhatItDoes(t *testing.T) {
	t.Parallel()
	natsAt, emulatorAt := freePort(t), freePort(t)
	worker := up(t, t.TempDir(), natsAt, emulatorAt, "400")
	require.Contains(t, worker.out.String(), howToStop)
	url := "http://" + emulatorAt
	(&home{emulator: url}).faults(t, emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Delay: 40 * time.Second}})
	ids := rebuilds(t, url)
	for id := range ids {
		r := finish(t, nil, "send", "getdesktop", "--desktop-id", id, "--nats-url", "nats://"+natsAt)
		require.Equal(t, exitDone, r.code, r.errOut)
		break
	}
	eventually(t, func() bool {
		var requests []emulator.Request
		getJSON(t, url+"/_emulator/requests", &requests)
		return slices.ContainsFunc(requests, func(r emulator.Request) bool { return r.Call == emulator.CallGetDesktop })
	}, "the call is not made")
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGINT))
	worker.prints(t, "stopping: no more messages are taken, and calls in flight are finished")
	require.False(t, worker.ended())
	worker.interrupt(t)
	status, ok := worker.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGINT, status.Signal(), "the second one ends it at once")
}

// A port that is taken is an error that names the flag.
func TestATakenPortNamesItsFlag(t *testing.T) {
	t.Parallel()
	natsAt, emulatorAt := freePort(t), freePort(t)
	up(t, t.TempDir(), natsAt, emulatorAt, "400")
	for flag, args := range map[string][]string{
		"--nats-listen":     {"up", "--data", t.TempDir(), "--nats-listen", natsAt, "--emulator-listen", "127.0.0.1:0"},
		"--emulator-listen": {"up", "--data", t.TempDir(), "--nats-listen", "127.0.0.1:0", "--emulator-listen", emulatorAt},
		"--listen":          {"emulator", "--listen", emulatorAt},
	} {
		r := finish(t, nil, args...)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.errOut, "with "+flag)
	}
}

// A demo of which all desktops fail has its summary, and fits 50 columns.
func TestDemoInANarrowTerminal(t *testing.T) {
	t.Parallel()
	r := finish(t, []string{"COLUMNS=50"}, "demo", "--desktops", "8", "--fail", "8")
	require.Equal(t, exitFailed, r.code, r.errOut)
	for line := range strings.SplitSeq(r.out, "\n") {
		require.LessOrEqual(t, utf8.RuneCountInString(line), 50, line)
	}
	all := strings.Join(strings.Fields(r.out), " ")
	require.Contains(t, all, "desktops 0 rebuilt, 0 verified, 8 failed, 0 skipped FAILED 8 desktops: failed, WKS.00010050, The system disk")
	require.Contains(t, all, "Not every desktop runs the new image.")
}
