package main

import (
	"bufio"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
)

// remote is a service at https://example.com that only a proxy knows the way to.
type remote struct {
	env      []string // of a program that works on it
	world    *emulator.Server
	connects atomic.Int32 // CONNECT requests of the proxy
	down     atomic.Bool  // then the proxy refuses them
}

func newRemote(t *testing.T) *remote {
	t.Helper()
	world, err := emulator.New(emulator.Options{Desktops: 2, Hosts: []string{"example.com"}})
	require.NoError(t, err)
	service := httptest.NewTLSServer(world)
	s := &remote{world: world}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.connects.Add(1)
		if r.Method != http.MethodConnect || r.Header.Get("Proxy-Authorization") == "" || r.Host != "example.com:443" || s.down.Load() {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		tunnel(w, service.Listener.Addr().String())
	}))
	t.Cleanup(func() { proxy.Close(); service.Close(); require.NoError(t, world.Close()) })
	roots := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: service.Certificate().Raw}), 0o600))
	at := strings.Replace(proxy.URL, "//", "//me:hunter2@", 1)
	s.env = []string{
		"SSL_CERT_FILE=" + roots, "RECOMPOSE_WORKSPACE_ENDPOINT=https://example.com", "HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey,
		"HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey, "HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID,
		"HTTPS_PROXY=" + at, "HTTP_PROXY=" + at,
	}
	return s
}

// tunnel joins the connection of a request with one to an address.
func tunnel(w http.ResponseWriter, to string) {
	there, err := net.Dial("tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	here, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		_ = there.Close()
		return
	}
	_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(there, bufio.NewReader(buffered))
		_ = there.Close()
	}()
	_, _ = io.Copy(here, there)
	_ = here.Close()
}

func TestTheProxyOfTheEnvironmentIsUsed(t *testing.T) {
	t.Parallel()
	r := newRemote(t)
	here := httptest.NewServer(r.world)
	t.Cleanup(here.Close)

	const unknown = "RECOMPOSE_WORKSPACE_ENDPOINT=https://workspace.invalid"
	for _, test := range []struct {
		name    string
		env     []string
		through bool
		reached bool
		want    string // in what is logged
	}{
		{"a service behind the proxy", nil, true, true, ""},
		{"an unknown host", []string{unknown}, true, false, "the proxy 127.0.0.1:"},
		{"switched off", []string{unknown, "RECOMPOSE_PROXY=off"}, false, false, "lookup workspace.invalid"},
		{"an exception", []string{unknown, "NO_PROXY=.org,workspace.invalid"}, false, false, "lookup workspace.invalid"},
		{"this machine", []string{"RECOMPOSE_WORKSPACE_ENDPOINT=" + here.URL}, false, true, ""},
	} {
		r.connects.Store(0)
		up := start(t, append(slices.Clone(r.env), test.env...), binary(t, "recompose"), "up", "--data", t.TempDir(), "--nats-listen", "127.0.0.1:0")
		up.prints(t, "Ctrl-C ends it")
		send := []string{"send", "getdesktop", "--desktop-id", r.world.DesktopIDs()[0], "--json"}
		nats := []string{"NATS_URL=" + up.field(t, "NATS")}
		if test.reached {
			sent := finish(t, nats, append(send, "--wait")...)
			require.Equal(t, exitDone, sent.code, test.name+sent.errOut)
		} else {
			require.Equal(t, exitDone, finish(t, nats, send...).code, test.name)
		}
		eventually(t, func() bool { return strings.Contains(up.out.String()+up.err.String(), test.want) }, test.name)
		require.Equal(t, exitDone, up.interrupt(t), test.name)
		require.NotContains(t, up.out.String()+up.err.String(), "hunter2")
		require.Equal(t, test.through, r.connects.Load() > 0, test.name)
	}
}

func TestAServiceThatCannotBeReachedIsLogged(t *testing.T) {
	t.Parallel()
	s := newRemote(t)
	s.down.Store(true)
	p := start(t, append(s.env, "RECOMPOSE_HTTP_LISTEN=127.0.0.1:0"), binary(t, "recompose"), "up", "--data", t.TempDir(), "--nats-listen", "127.0.0.1:0")
	p.prints(t, "Ctrl-C ends it")
	at := p.field(t, "health")
	_, text := page(t, at)
	require.Contains(t, text, `"name": "service"`)
	require.NotContains(t, text, "HTTPS_PROXY")
	env := []string{"NATS_URL=" + p.field(t, "NATS")}
	require.Equal(t, exitDone, finish(t, env, "send", "getdesktop", "--desktop-id", s.world.DesktopIDs()[0], "--id", "c1").code)
	eventually(t, func() bool { return strings.Contains(p.err.String(), "cannot be reached") }, "nothing is logged")
	require.Contains(t, p.err.String(), "502 Bad Gateway")
	status, text := page(t, at)
	require.Equal(t, http.StatusOK, status, "not for a minute")
	require.Contains(t, text, "HTTPS_PROXY")

	s.down.Store(false)
	require.Equal(t, exitDone, finish(t, env, "wait", "c1").code)
	eventually(t, func() bool { return strings.Contains(p.err.String(), "the Workspace service answers") }, "the end is not logged")
}
