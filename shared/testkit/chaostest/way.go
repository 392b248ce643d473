package chaostest

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Way is a proxy between a worker and the service.
type Way struct {
	URL  string
	Held atomic.Int64 // writes that arrived at the proxy and were held
	// Hold is called with each write before it is forwarded; it may block. Nil holds no write.
	Hold func(ctx context.Context)
	Turn atomic.Pointer[func(path string, body []byte) []byte] // changes answers
}

// Until holds calls until a channel is closed.
func Until(open <-chan struct{}) func(context.Context) {
	return func(ctx context.Context) {
		select {
		case <-open:
		case <-ctx.Done():
		}
	}
}

// NewWay makes a proxy to the service that delays calls. A request that has reached the proxy is forwarded even if its
// sender no longer waits for the answer.
func NewWay(tb testing.TB, service string, hold func(context.Context)) *Way {
	tb.Helper()
	w := &Way{Hold: hold}
	target, err := url.Parse(service)
	require.NoError(tb, err)
	proxy := &httputil.ReverseProxy{
		Transport:    &http.Transport{DisableKeepAlives: true},
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host },     // signed with the host
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the connection is cut
		ModifyResponse: func(r *http.Response) error {
			turn := w.Turn.Load()
			if turn == nil {
				return nil
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return err
			}
			body = (*turn)(r.Request.URL.Path, body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Del("Content-Length")
			return nil
		},
	}
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if w.Hold != nil && in.Method == http.MethodPost && !strings.HasSuffix(in.URL.Path, "/check-images") {
			body, err := io.ReadAll(in.Body)
			if err != nil {
				return
			}
			// WithoutCancel is not sufficient: the proxy itself watches whether the client has disconnected, and would
			// cancel the write.
			ctx, cancel := context.WithCancel(context.WithoutCancel(in.Context()))
			defer cancel()
			in = in.WithContext(ctx)
			in.Body = io.NopCloser(bytes.NewReader(body))
			w.Held.Add(1)
			w.Hold(tb.Context())
		}
		proxy.ServeHTTP(out, in)
	}))
	tb.Cleanup(server.Close)
	w.URL = server.URL
	return w
}

// Late holds one write in eight for up to the given time, which should exceed the validity of its signature.
func Late(seed uint64, most time.Duration) func(context.Context) {
	var mu sync.Mutex
	rnd := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // the same seed holds the same writes
	return func(ctx context.Context) {
		mu.Lock()
		held, long := rnd.IntN(8) == 0, time.Duration(rnd.Int64N(int64(most)))
		mu.Unlock()
		if !held {
			return
		}
		timer := time.NewTimer(long)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}
