package main

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/service"
	"recompose/shared/store"
)

// worksOn records the service of a deployment, as its first worker does.
func worksOn(t *testing.T, l lossyLedger, on events.Service) {
	t.Helper()
	require.NoError(t, service.Claim{Store: l.Values(), Service: on, Ledger: l, By: "test", Now: time.Now}.Check(t.Context()))
}

func TestTheRecordedServiceIsPrinted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value string
		err   error
		want  string
	}{
		"an emulator":      {`{"kind":"emulator","project":"p","by":"w","at":"2026-01-15T08:30:00Z"}`, nil, "EMULATOR"},
		"a real one":       {`{"kind":"real","host":"w.example.org","project":"p","by":"w","at":"2026-01-15T08:30:00Z"}`, nil, "REAL https://w.example.org p"},
		"a way to one":     {`{"kind":"real","host":"127.0.0.1:8443","project":"p","by":"w","at":"2026-01-15T08:30:00Z"}`, nil, "REAL 127.0.0.1:8443 p"},
		"nothing":          {"", store.ErrNotFound, "REAL (no worker has recorded yet which service it works on, so it counts as a real service)"},
		"no answer":        {"", errors.New("no\nanswer"), `REAL (read which service the deployment works on: no\nanswer, so it counts as a real service)`},
		"something else":   {`{"type":"io.nats.jetstream.api.v1.stream_info_response","kind":"emulator","project":"p"}`, nil, "REAL (the record of the deployment's service is damaged"},
		"no kind":          {`{"project":"p"}`, nil, "REAL ("},
		"another kind":     {`{"kind":"Emulator","project":"p"}`, nil, "REAL ("},
		"no project":       {`{"kind":"emulator"}`, nil, "REAL ("},
		"no JSON":          {`{`, nil, "REAL ("},
		"an escape inside": {`{"kind":"real","host":"\u001b[31m","project":"p"}`, nil, `REAL https://\x1b[31m p`},
	} {
		b := serviceOf(service.Read(t.Context(), answering{value: test.value, err: test.err}))
		require.True(t, strings.HasPrefix(b.String(), test.want), "%s: %s", name, b)
		require.Equal(t, test.want == "EMULATOR", b.Emulator(), name)
	}
}

// answering is a store that gives one answer.
type answering struct {
	store.Store
	value string
	err   error
}

func (a answering) Get(context.Context, string) ([]byte, store.Revision, error) {
	return []byte(a.value), 1, a.err
}

func TestQuotedIsOneArgumentOfAShell(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain", "a b", "it's", `"$(echo no)" \ ; & |`, "日本", "-", "a\nb"} {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+quoted(text)).Output()
		require.NoError(t, err)
		require.Equal(t, text, string(out))
	}
}

func TestDemoStopsOnInterrupt(t *testing.T) {
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
