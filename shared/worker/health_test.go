package worker

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/workspace"
)

// After a minute without an answer a worker is not ready. It finds out by itself when the service is back.
func TestAWorkerIsNotReadyWithoutTheService(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, `{"images":[],"total_count":0}`)
	}))
	t.Cleanup(service.Close)
	now := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	var log strings.Builder
	w := &Worker{o: Options{Log: slog.New(slog.NewTextHandler(&log, nil))}}
	api, err := workspace.New(workspace.Options{
		Endpoint: service.URL, ProjectID: "p1", Auth: workspace.Token("t"), ReadsPerMinute: 200, WritesPerMinute: 100,
		SignatureWindow: config.SignatureWindow, Now: func() time.Time { return now }, OnReach: w.reached,
	})
	require.NoError(t, err)
	require.True(t, w.service(t.Context(), api).OK)

	down.Store(true)
	require.Error(t, api.Probe(t.Context()))
	require.Contains(t, log.String(), "cannot be reached")
	now = now.Add(59 * time.Second)
	check := w.service(t.Context(), api)
	require.True(t, check.OK)
	require.Contains(t, check.Detail, "since 2026-01-15T08:30:00Z")
	now = now.Add(time.Second)
	check = w.service(t.Context(), api)
	require.False(t, check.OK)
	require.Contains(t, check.Detail, "since 2026-01-15T08:30:00Z", "its own call does not begin it anew")

	down.Store(false)
	now = now.Add(30 * time.Second)
	require.False(t, w.service(t.Context(), api).OK, "called once a minute at most")
	now = now.Add(30 * time.Second)
	require.True(t, w.service(t.Context(), api).OK)
	require.Contains(t, log.String(), "the Workspace service answers")
}
