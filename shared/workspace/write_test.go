package workspace

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire is a server below HTTP: it counts the complete requests that it read, and handles the connection as the test
// specifies.
type wire struct {
	listener net.Listener
	whole    atomic.Int32
	conns    atomic.Int32
	group    sync.WaitGroup
}

// newWire serves each connection by serve, which gets the connection's reader and its number, counted from 1.
func newWire(t *testing.T, serve func(w *wire, conn net.Conn, r *bufio.Reader, n int32)) *wire {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{listener: listener}
	w.group.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.group.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(w, conn, bufio.NewReader(conn), w.conns.Add(1))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		w.group.Wait()
	})
	return w
}

func (w *wire) url() string { return "http://" + w.listener.Addr().String() }

// read reads one whole request from the connection.
func (w *wire) read(r *bufio.Reader) bool {
	request, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	if _, err := io.Copy(io.Discard, request.Body); err != nil {
		return false
	}
	w.whole.Add(1)
	return true
}

func answerOn(conn net.Conn, body string) {
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
}

func TestWriteIsSentOnceWhenTheConnectionIsClosedAfterIt(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(w *wire, _ net.Conn, r *bufio.Reader, _ int32) { w.read(r) })
	c := newClient(t, w.url())
	_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
	e := asError(t, err)
	require.Equal(t, Lost, e.Class)
	require.True(t, e.MayHaveExecuted())
	require.Zero(t, e.Status)
	require.Equal(t, int32(1), w.whole.Load())
	require.Equal(t, int32(1), w.conns.Load())
}

func TestWriteGetsAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWire(t, func(w *wire, conn net.Conn, r *bufio.Reader, _ int32) {
		if w.read(r) {
			answerOn(conn, `{"job_id":"j"}`)
		}
	})
	c := newClient(t, w.url())
	for range 3 {
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		require.NoError(t, err)
	}
	require.Equal(t, int32(3), w.conns.Load())
	require.Equal(t, int32(3), w.whole.Load())
}

// With a transport that keeps connections, net/http may find the kept one closed. It then repeats only a request that
// it considers idempotent, which a write of ours never is.
func TestWriteIsNotReplayedOnAKeptConnection(t *testing.T) {
	t.Parallel()
	t.Run("closed after the second request", func(t *testing.T) {
		t.Parallel()
		w := newWire(t, func(w *wire, conn net.Conn, r *bufio.Reader, _ int32) {
			if w.read(r) {
				answerOn(conn, `{"job_id":"j"}`)
			}
			w.read(r) // no answer
		})
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		c := newClient(t, w.url(), func(c *Options) { c.Transport = transport })
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		require.NoError(t, err)
		_, err = c.Rebuild(t.Context(), testTime, rebuildRequest())
		require.Equal(t, Lost, ClassOf(err))
		require.Equal(t, int32(2), w.whole.Load())
		require.Equal(t, int32(1), w.conns.Load())
	})
	t.Run("closed while idle", func(t *testing.T) {
		t.Parallel()
		w := newWire(t, func(w *wire, conn net.Conn, r *bufio.Reader, _ int32) {
			if w.read(r) {
				answerOn(conn, `{"job_id":"j"}`)
			}
		})
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		c := newClient(t, w.url(), func(c *Options) { c.Transport = transport })
		// Whether the transport notices in time is a race. In every case the server receives each write completely at most
		// once, and the client reports a success or an unknown end as what it is.
		ordered, succeeded, unsent := int32(0), int32(0), int32(0)
		for range 50 {
			ordered++
			_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
			switch {
			case err == nil:
				succeeded++
			case !asError(t, err).MayHaveExecuted():
				unsent++
			}
		}
		transport.CloseIdleConnections()
		_ = w.listener.Close()
		w.group.Wait()
		require.GreaterOrEqual(t, w.whole.Load(), succeeded)
		require.LessOrEqual(t, w.whole.Load(), ordered-unsent)
	})
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, err error) {
		t.Helper()
		e := asError(t, err)
		require.Equal(t, NotSent, e.Class)
		require.False(t, e.MayHaveExecuted())
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		w := newWire(t, func(*wire, net.Conn, *bufio.Reader, int32) {})
		require.NoError(t, w.listener.Close())
		c := newClient(t, w.url())
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		check(t, err)
		_, err = c.GetDesktop(t.Context(), testDesktop)
		check(t, err)
	})
	t.Run("untrusted certificate", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(responds(200, `{"job_id":"j"}`))
		server.Config.ErrorLog = quietLog()
		server.StartTLS()
		t.Cleanup(server.Close)
		c := newClient(t, server.URL)
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		check(t, err)
		_, err = c.GetDesktop(t.Context(), testDesktop)
		check(t, err)
	})
	t.Run("context over before the call", func(t *testing.T) {
		t.Parallel()
		b := setup(t, responds(200, `{"job_id":"j"}`))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := b.Rebuild(ctx, testTime, rebuildRequest())
		check(t, err)
		require.ErrorIs(t, err, context.Canceled)
		require.Empty(t, b.seen())
	})
	t.Run("context too short for the rate limit", func(t *testing.T) {
		t.Parallel()
		b := setup(t, responds(200, `{"job_id":"j"}`), func(c *Options) { c.WritesPerMinute = 1 })
		_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = b.Rebuild(ctx, testTime, rebuildRequest())
		check(t, err)
		_, err = b.CheckImages(ctx, []string{"d"})
		check(t, err)
		require.Len(t, b.seen(), 1)
		_, err = b.ListImages(ctx, ImagesQuery{})
		require.NotEqual(t, NotSent, ClassOf(err), "reads have their own bucket")
	})
	t.Run("signing date outside the window", func(t *testing.T) {
		t.Parallel()
		b := setup(t, responds(200, `{"job_id":"j"}`))
		for _, off := range []time.Duration{-16 * time.Minute, 16 * time.Minute} {
			_, err := b.Rebuild(t.Context(), testTime.Add(off), rebuildRequest())
			check(t, err)
			require.ErrorContains(t, err, "take a new date")
		}
		require.Empty(t, b.seen())
		_, err := b.Rebuild(t.Context(), testTime.Add(-14*time.Minute), rebuildRequest())
		require.NoError(t, err)
	})
	t.Run("transport fails before it reads the body", func(t *testing.T) {
		t.Parallel()
		var late io.Reader
		c := newClient(t, "http://127.0.0.1:1", func(c *Options) {
			c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				late = r.Body
				return nil, errors.New("no proxy")
			})
		})
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		check(t, err)
		_, err = late.Read(make([]byte, 1))
		require.ErrorIs(t, err, errSealed, "a leftover goroutine can no longer send it")
	})
}

func TestLost(t *testing.T) {
	t.Parallel()
	t.Run("transport fails after it began to read", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, "http://127.0.0.1:1", func(c *Options) {
			c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				_, _ = r.Body.Read(make([]byte, 1))
				return nil, io.ErrUnexpectedEOF
			})
		})
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		require.Equal(t, Lost, ClassOf(err))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
	t.Run("context ends in flight", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		b := setup(t, func(http.ResponseWriter, *http.Request) {
			cancel()
			<-release
		})
		_, err := b.Rebuild(ctx, testTime, rebuildRequest())
		close(release)
		require.Equal(t, Lost, ClassOf(err))
		require.ErrorIs(t, err, context.Canceled)
		require.Len(t, b.seen(), 1)
	})
	t.Run("time-out of a write without a deadline", func(t *testing.T) {
		t.Parallel()
		c := newClient(t, "http://127.0.0.1:1", func(c *Options) {
			c.Timeout = time.Millisecond
			c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				return nil, r.Context().Err()
			})
		})
		_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
		require.Equal(t, Lost, ClassOf(err))
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("answer cut in its body", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"job_id":"j"`)
		})
		_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
		e := asError(t, err)
		require.Equal(t, BadAnswer, e.Class)
		require.True(t, e.MayHaveExecuted())
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
	t.Run("error answer cut in its body keeps its status", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"error`)
		})
		_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
		require.Equal(t, Conflict, ClassOf(err))
	})
}

func TestRequestBodyCannotBeRewound(t *testing.T) {
	t.Parallel()
	c := newClient(t, "http://127.0.0.1:1", func(c *Options) {
		c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			require.Nil(t, r.GetBody)
			require.Positive(t, r.ContentLength)
			for name := range r.Header {
				require.NotContains(t, strings.ToLower(name), "idempotency")
			}
			return nil, io.EOF
		})
	})
	_, err := c.Rebuild(t.Context(), testTime, rebuildRequest())
	require.Error(t, err)
	_, err = c.DesktopToImage(t.Context(), testTime, imageRequest())
	require.Error(t, err)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
