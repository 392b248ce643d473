package workspace

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Any HTTP answer shows that the service is reachable; a lost connection shows that it is not.
func TestAServiceThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	down.Store(true)
	var reports []error
	b := setup(t, func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		responds(503, "")(w, r)
	}, func(c *Options) { c.OnReach = func(err error) { reports = append(reports, err) } })
	require.Nil(t, b.Unreached(), "nothing is known yet")

	for range 3 {
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.Error(t, err)
		b.clock.Add(40 * time.Second)
	}
	require.Len(t, reports, 1, "reported at the first attempt")
	require.ErrorContains(t, reports[0], "send request")
	u := b.Unreached()
	require.Equal(t, testTime, u.Since)
	require.Equal(t, 2*time.Minute, u.For)
	require.Equal(t, 40*time.Second, u.Latest)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.GetDesktop(ctx, testDesktop)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 40*time.Second, b.Unreached().Latest, "a cancelled call is ignored")

	down.Store(false)
	_, err = b.GetDesktop(t.Context(), testDesktop)
	require.Error(t, err)
	require.Nil(t, b.Unreached(), "any answer counts")
	require.Equal(t, []error{reports[0], nil}, reports)
}

func TestNoAddressNoTLSNoProxy(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(407, ""))
	for name, c := range map[string]*Client{
		"no address": newClient(t, "https://workspace.invalid"),
		"no TLS":     newClient(t, "https://"+b.server.Listener.Addr().String()),
		"no proxy": newClient(t, "https://workspace.invalid", func(c *Options) {
			transport := newTransport(0)
			transport.Proxy = func(*http.Request) (*url.URL, error) { return nil, errors.New("no proxy") }
			c.Transport = transport
		}),
		"not a proxy": newClient(t, "https://workspace.invalid", func(c *Options) {
			transport := newTransport(0)
			transport.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: b.server.Listener.Addr().String()})
			c.Transport = transport
		}),
	} {
		_, err := c.GetDesktop(t.Context(), testDesktop)
		require.Equal(t, NotSent, ClassOf(err), "%s: %v", name, err)
		require.NotNil(t, c.Unreached(), name)
	}
}
