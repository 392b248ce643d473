package chaostest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/testkit/chaostest"
)

func TestAHeldWriteIsForwardedAfterItsSenderDisconnected(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{})
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(arrived) }))
	t.Cleanup(service.Close)
	open := make(chan struct{})
	way := chaostest.NewWay(t, service.URL, chaostest.Until(open))

	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, way.URL+"/rebuild", strings.NewReader("{}"))
	require.NoError(t, err)
	gone := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(request)
		gone <- err
	}()
	require.Eventually(t, func() bool { return way.Held.Load() == 1 }, 10*time.Second, time.Millisecond)
	leave()
	require.Error(t, <-gone)
	<-time.After(100 * time.Millisecond) // long enough for the proxy to notice the disconnect
	close(open)
	select {
	case <-arrived:
	case <-time.After(10 * time.Second):
		require.Fail(t, "the write was cancelled")
	}
}
