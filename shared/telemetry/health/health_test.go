package health_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/telemetry/health"
)

type answer struct {
	Status string         `json:"status"`
	Checks []health.Check `json:"checks"`
}

func ask(t *testing.T, url string) (int, answer) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, "application/json", response.Header.Get("Content-Type"))
	var a answer
	require.NoError(t, json.NewDecoder(response.Body).Decode(&a))
	return response.StatusCode, a
}

func TestServe(t *testing.T) {
	t.Parallel()
	wrong := false
	s, err := health.Serve(t.Context(), "127.0.0.1:0", health.Options{
		Alive: func(ctx context.Context) []health.Check {
			_, bounded := ctx.Deadline()
			require.True(t, bounded)
			return []health.Check{{Name: "loops", OK: true}}
		},
		Ready: func(context.Context) []health.Check {
			return []health.Check{{Name: "nats", OK: !wrong, Detail: "no connection"}, {Name: "frozen", OK: true, Detail: "writes are frozen"}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "recompose_x 1\n") }),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })

	status, got := ask(t, s.URL()+"/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, answer{"alive", []health.Check{{Name: "loops", OK: true}}}, got)
	status, got = ask(t, s.URL()+"/readyz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "ready", got.Status)
	require.Equal(t, "writes are frozen", got.Checks[1].Detail)
	wrong = true
	status, got = ask(t, s.URL()+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Equal(t, "not_ready", got.Status)
	require.Equal(t, health.Check{Name: "nats", Detail: "no connection"}, got.Checks[0])

	response, err := http.Get(s.URL() + "/metrics")
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "recompose_x 1\n", string(text))

	for path, want := range map[string]int{"/": 404, "/debug/pprof/": 404} {
		response, err := http.Get(s.URL() + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode, path)
	}
	response, err = http.Post(s.URL()+"/readyz", "text/plain", strings.NewReader("x"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)

	_, err = health.Serve(t.Context(), strings.TrimPrefix(s.URL(), "http://"), health.Options{})
	require.ErrorContains(t, err, "RECOMPOSE_HTTP_LISTEN")
	require.ErrorContains(t, err, "off")
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing may be repeated")
}

func TestOff(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "off", "OFF"} {
		s, err := health.Serve(t.Context(), address, health.Options{})
		require.NoError(t, err)
		require.Nil(t, s)
		require.Empty(t, s.URL())
		require.NoError(t, s.Close())
	}
}

func TestWithoutChecks(t *testing.T) {
	t.Parallel()
	s, err := health.Serve(t.Context(), "127.0.0.1:0", health.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	status, got := ask(t, s.URL()+"/healthz")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, answer{"alive", []health.Check{}}, got)
}

// A web page whose host name resolves to this machine must not read the pages.
func TestHosts(t *testing.T) {
	t.Parallel()
	h := health.Handler(health.Options{
		Ready: func(context.Context) []health.Check {
			return []health.Check{{Name: "writes", OK: true, Detail: "frozen by ops"}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "recompose_x 1\n") }),
		Hosts:   []string{"worker.internal"},
	})
	for host, status := range map[string]int{
		"127.0.0.1:8088": 200, "[::1]:8088": 200, "::1": 200, "localhost:8088": 200, "LOCALHOST.": 200, "a.localhost": 200, "10.1.2.3:8088": 200,
		"worker.internal:8088": 200, "Worker.Internal": 200, "": 200,
		"evil.example.com": 403, "evil.example.com:8088": 403, "127.0.0.1.evil.example.com": 403, "localhost.evil.example.com:80": 403, "notlocalhost": 403,
	} {
		for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, status, w.Code, "%s of %q", path, host)
			if status == http.StatusForbidden {
				require.Contains(t, w.Body.String(), health.HostsVariable)
				require.NotContains(t, w.Body.String(), "ops")
				require.NotContains(t, w.Body.String(), "recompose_x")
			}
		}
	}
}
