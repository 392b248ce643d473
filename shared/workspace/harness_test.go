package workspace

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/testkit/testclock"
)

const (
	testProject = "0bec5db98280d2d02fd6c00c2de791ce"
	testDesktop = "f77db5cd-c020-47d4-bbbe-9b979a38d18c"
	testSecret  = "example-secret-key-not-real-0001"
)

// testTime is the time of the tests' clocks.
var testTime = testclock.Start

// testWindow is the greatest age of a signature.
const testWindow = 15 * time.Minute

// seen is a request as the server received it.
type seen struct {
	method, path, query, body string
	header                    http.Header
}

// bundle is a client, a server with fixed answers, and the requests that the server received.
type bundle struct {
	*Client
	server *httptest.Server
	clock  *testclock.Clock // ours

	mu       sync.Mutex
	requests []seen
}

// setup starts a server with the handler, and a client for it. Answers have the test's time as their Date unless the
// handler sets another.
func setup(t *testing.T, handler http.HandlerFunc, options ...func(*Options)) *bundle {
	t.Helper()
	b := &bundle{clock: testclock.New()}
	b.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		b.mu.Lock()
		b.requests = append(b.requests, seen{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, string(body), r.Header.Clone()})
		b.mu.Unlock()
		w.Header().Set("Date", testTime.Format(http.TimeFormat))
		handler(w, r)
	}))
	t.Cleanup(b.server.Close)
	b.Client = newClient(t, b.server.URL, append([]func(*Options){func(c *Options) { c.Now = b.clock.Now }}, options...)...)
	return b
}

func newClient(t *testing.T, endpoint string, options ...func(*Options)) *Client {
	t.Helper()
	cfg := Options{
		Endpoint: endpoint, ProjectID: testProject, Auth: AKSK{AccessKey: "EXAMPLEACCESSKEY0001", SecretKey: testSecret},
		ReadsPerMinute: -1, WritesPerMinute: -1, SignatureWindow: testWindow, Now: func() time.Time { return testTime },
	}
	for _, option := range options {
		option(&cfg)
	}
	c, err := New(cfg)
	require.NoError(t, err)
	return c
}

func (b *bundle) seen() []seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]seen(nil), b.requests...)
}

// responds answers every request with a status and a body.
func responds(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// answers gives one answer after the other, and repeats the last one.
func answers(handlers ...http.HandlerFunc) http.HandlerFunc {
	var mu sync.Mutex
	var n int
	return func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		handler := handlers[min(n, len(handlers)-1)]
		n++
		mu.Unlock()
		handler(w, r)
	}
}

func vendor(t testing.TB, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "vendor", name+".json"))
	require.NoError(t, err)
	return string(content)
}

func asError(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	return e
}

func rebuildRequest() RebuildRequest {
	return RebuildRequest{DesktopIDs: []string{testDesktop}, ImageType: "private", ImageID: "39efed30-a0db-4520-8134-19a086e14c7e"}
}

func imageRequest() DesktopToImageRequest {
	return DesktopToImageRequest{ImageName: "golden-1", DesktopID: testDesktop}
}

// quietLog keeps the TLS errors that a test provokes out of its output.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
