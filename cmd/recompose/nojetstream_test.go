package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
)

// plainServer is a NATS server with these arguments.
func plainServer(t *testing.T, args ...string) (url string) {
	t.Helper()
	at := freePort(t)
	_, port, _ := strings.Cut(at, ":")
	start(t, nil, binary(t, "nats-server"), append([]string{"-a", "127.0.0.1", "-p", port}, args...)...)
	url = "nats://" + at
	eventually(t, func() bool {
		nc, err := nats.Connect(url)
		if err == nil {
			nc.Close()
		}
		return err == nil
	}, "the server does not begin")
	return url
}

func TestAServerWithoutJetStreamIsNamed(t *testing.T) {
	t.Parallel()
	url := plainServer(t)
	want := "JetStream is not enabled on " + url + ": start nats-server with -js, or set jetstream in its configuration"
	for _, line := range []string{
		"setup", "setup --verify", "send getdesktop --desktop-id a", "send getdesktop --desktop-id a --wait", "wait x", "events", "trace x",
		"chains", "freeze --reason x", "freeze --status", "thaw", "dead list", "lists show",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := finish(t, []string{"NATS_URL=" + url}, strings.Fields(line)...)
			require.NotEqual(t, exitDone, r.code)
			require.Contains(t, r.errOut, want)
			require.Equal(t, 1, strings.Count(r.errOut, "JetStream"), "once is enough: %s", r.errOut)
		})
	}
	t.Run("run", func(t *testing.T) { // it waits for it
		t.Parallel()
		world := start(t, nil, binary(t, "recompose"), "emulator", "--listen", "127.0.0.1:0", "--desktops", "1")
		world.prints(t, "Ctrl-C ends it")
		worker := start(t, []string{
			"NATS_URL=" + url, "RECOMPOSE_WORKSPACE_ENDPOINT=" + world.field(t, "EMULATOR"),
			"HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID, "HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey,
			"HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey,
		}, binary(t, "recompose"), "run")
		eventually(t, func() bool { return strings.Contains(worker.err.String(), want) }, "the worker does not name it")
		require.Equal(t, exitDone, worker.interrupt(t))
	})
}

func TestAnAccountWithoutJetStreamIsNamed(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(conf, []byte(`
		jetstream {store_dir: "`+t.TempDir()+`"}
		accounts {
			WITH {jetstream: enabled, users: [{user: with, password: p}]}
			WITHOUT {users: [{user: without, password: p}]}
		}
		no_auth_user: without`), 0o600))
	url := plainServer(t, "-c", conf)
	for _, line := range []string{"setup", "events", "send getdesktop --desktop-id a"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := finish(t, []string{"NATS_URL=" + url}, strings.Fields(line)...)
			require.NotEqual(t, exitDone, r.code)
			require.Contains(t, r.errOut, "the NATS account of this user has no JetStream: set jetstream: enabled in the account")
		})
	}
}

// A user of permissions whose inbox is another.
func TestAWrongInboxIsNamed(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(conf, []byte(`
		jetstream {store_dir: "`+t.TempDir()+`"}
		authorization {users: [{user: u, password: p, permissions: {publish: [">"], subscribe: ["_INBOX_u.>"]}}]}
		no_auth_user: u`), 0o600))
	url := plainServer(t, "-c", conf)
	right := finish(t, []string{"NATS_URL=" + url, "NATS_INBOX_PREFIX=_INBOX_u"}, "setup")
	require.Equal(t, exitDone, right.code, right.errOut)
	for _, line := range []string{"setup", "events", "freeze --status", "wait x", "send getdesktop --desktop-id a"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := finish(t, []string{"NATS_URL=" + url, "NATS_INBOX_PREFIX=_INBOX_v"}, strings.Fields(line)...)
			require.NotEqual(t, exitDone, r.code)
			require.Regexp(t, `this NATS user lacks the right to subscribe to _INBOX_v\.\S+, where answers come in: `+
				`set NATS_INBOX_PREFIX to the inbox that its permissions name`, r.errOut)
			require.NotContains(t, r.errOut, "is NATS_URL right")
		})
	}
}
