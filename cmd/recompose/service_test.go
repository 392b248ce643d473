package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/emulator"
)

func TestOnlyAnEmulatorOnThisMachineIsOne(t *testing.T) {
	t.Parallel()
	world, err := emulator.New(emulator.Config{})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		handler http.Handler
		want    bool
	}{
		"the emulator":   {world, true},
		"not found":      {http.NotFoundHandler(), false},
		"another answer": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error_code":"APIGW.0101"}`)) }), false},
		"a redirect":     {http.RedirectHandler("/elsewhere", http.StatusFound), false},
		"silence":        {http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.handler)
			defer server.Close()
			require.Equal(t, test.want, isEmulator(t.Context(), server.URL))
		})
	}
	require.False(t, isEmulator(t.Context(), "http://127.0.0.1:1"))
	require.False(t, isEmulator(t.Context(), "https://workspace.ap-southeast-1.myhuaweicloud.com"))
}

func TestServiceBehindANATSServer(t *testing.T) {
	t.Parallel()
	here := service{Emulator: true}
	real := service{Endpoint: "https://workspace.example.org", Project: "p"}
	require.Equal(t, here, serviceBehind(t.Context(), here.serverName(), &config.Config{}))
	require.Equal(t, real, serviceBehind(t.Context(), real.serverName(), &config.Config{}))
	require.Equal(t, service{}, serviceBehind(t.Context(), "nats-1", &config.Config{}))
	set := &config.Config{WorkspaceEndpoint: "https://workspace.example.org", ProjectID: "p"}
	require.Equal(t, real, serviceBehind(t.Context(), "nats-1", set))
	require.Equal(t, here, serviceBehind(t.Context(), here.serverName(), set), "the server knows better than the settings here")

	require.Equal(t, "EMULATOR", here.String())
	require.Equal(t, "REAL https://workspace.example.org p", real.String())
	require.Regexp(t, "^REAL ", service{}.String())
	require.NotContains(t, real.serverName(), " ", "a NATS server's name may have none")
	require.Equal(t, "workspace.example.org_p", folderOf(real))
	require.Equal(t, "127.0.0.1_80_.._x", folderOf(service{Endpoint: "http://127.0.0.1:80", Project: "../x"}))
}

func TestAShortSignatureWindowNeedsAnEmulator(t *testing.T) {
	t.Parallel()
	_, err := configured(t.Context(), &config.Config{WorkspaceEndpoint: "http://127.0.0.1:1", SignatureWindow: 1})
	require.ErrorContains(t, err, "RECOMPOSE_SIGNATURE_WINDOW")
	_, err = configured(t.Context(), &config.Config{WorkspaceEndpoint: "http://127.0.0.1:1", SignatureWindow: config.SignatureWindow})
	require.NoError(t, err)
}

func TestQuotedIsOneArgumentOfAShell(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain", "a b", "it's", `"$(echo no)" \ ; & |`, "日本", "-", "a\nb"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quoted(text)).Output()
		require.NoError(t, err)
		require.Equal(t, text, string(out))
	}
}

func TestDemoStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	out := &output{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, []string{"demo", "--desktops", "2"}, nil, out, out) }()
	eventually(t, func() bool { return out.has("accepted: image") }, "it does not begin")
	cancel()
	require.Equal(t, exitUnknown, <-code)
	require.True(t, out.has("still open: job "), out.String())
}

func TestDemoInThisProcess(t *testing.T) {
	t.Parallel() // under the race detector it shows what runs side by side
	r := program(t, "", "demo", "--desktops", "4", "--fail", "1")
	require.Equal(t, exitFailed, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "desktops  3 rebuilt, 3 verified, 1 failed, 0 skipped")
}
