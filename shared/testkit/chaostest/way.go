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

// Way is what stands between a worker and the service.
type Way struct {
	URL  string
	Held atomic.Int64 // writes that arrived here and were held
	// Hold is called with each write before it goes on; it may block. Nil: none is held.
	Hold func(ctx context.Context)
	Turn atomic.Pointer[func(path string, body []byte) []byte] // changes answers
}

// Until holds calls back until a channel is closed.
func Until(open <-chan struct{}) func(context.Context) {
	return func(ctx context.Context) {
		select {
		case <-open:
		case <-ctx.Done():
		}
	}
}

// NewWay makes a way to the service on which calls take their time. What is on it arrives, whether or not somebody still
// waits for the answer.
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
			// Not WithoutCancel alone: the proxy would watch by itself whether the client has gone, and call the write back.
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

// Late holds one write in eight on its way, for up to the time given: longer than its signature is good for.
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
