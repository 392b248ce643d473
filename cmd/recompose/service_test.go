package main

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/deployment"
	"recompose/shared/service"
)

// worksOn records the service of a deployment, as its first worker does.
func worksOn(t *testing.T, l deployment.Book, on events.Service) {
	t.Helper()
	require.NoError(t, service.Claim{Store: l.Values(), Service: on, Ledger: l, By: "test", Now: time.Now}.Check(t.Context()))
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
	require.True(t, out.has("the demo did not end: interrupted; still open: job "), out.String())
}
