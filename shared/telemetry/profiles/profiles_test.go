package profiles_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/telemetry/profiles"
)

func TestPprofOnLoopbackOnly(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", "[::1]:0", "127.9.9.9:0"} {
		require.NoError(t, profiles.Check(addr), addr)
	}
	for _, addr := range []string{":6060", "0.0.0.0:6060", "[::]:6060", "192.0.2.1:6060", "example.org:6060", "6060", "127.0.0.1"} {
		err := profiles.Check(addr)
		require.ErrorContains(t, err, addr)
	}
}

func TestPprofServesProfiles(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	stop, err := profiles.Serve(t.Context(), "127.0.0.1:0", slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	_, url, found := strings.Cut(log.String(), "url=")
	require.True(t, found, log.String())
	url = strings.TrimSpace(url)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"goroutine?debug=1", nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	stop()
	_, err = http.DefaultClient.Do(request)
	require.Error(t, err)
	nothing, err := profiles.Serve(t.Context(), "", nil)
	require.NoError(t, err)
	nothing()
}
