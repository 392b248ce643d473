package workspace

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/testkit/testclock"
)

const testPassword = "example-password-1&<x"

// iam is IAM, and a service that accepts its tokens.
type iam struct {
	clock  *testclock.Clock // of IAM and the service
	login  *httptest.Server
	client *bundle

	mu      sync.Mutex
	logins  []string         // bodies
	answer  http.HandlerFunc // instead of a token
	life    time.Duration
	tokens  map[string]time.Time // until when the service accepts them
	options LoginOptions
}

// newIAM starts both, and a client that logs in. Our clock differs from theirs by skew.
func newIAM(t *testing.T, skew time.Duration) *iam {
	t.Helper()
	i := &iam{clock: testclock.New(), life: 24 * time.Hour, tokens: map[string]time.Time{}}
	i.login = httptest.NewServer(http.HandlerFunc(i.serveLogin))
	t.Cleanup(i.login.Close)
	i.options = LoginOptions{
		Endpoint: i.login.URL, User: "u1", Password: testPassword, Domain: "d1", ProjectID: testProject,
		Now: func() time.Time { return i.clock.Now().Add(skew) },
	}
	auth, err := NewLogin(i.options)
	require.NoError(t, err)
	i.client = setup(t, i.serveService, func(c *Options) { c.Auth, c.Now = auth, i.options.Now })
	return i
}

func (i *iam) serveLogin(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.logins = append(i.logins, r.Method+" "+r.URL.String()+" "+string(body))
	w.Header().Set("Date", i.clock.Now().Format(http.TimeFormat))
	if i.answer != nil {
		i.answer(w, r)
		return
	}
	token := fmt.Sprintf("token-%04d", len(i.logins))
	end := i.clock.Now().Add(i.life)
	i.tokens[token] = end
	w.Header().Set("X-Subject-Token", token)
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"token":{"expires_at":%q}}`, end.Format("2006-01-02T15:04:05.000000Z"))
}

func (i *iam) serveService(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", i.clock.Now().Format(http.TimeFormat))
	i.mu.Lock()
	good := i.clock.Now().Before(i.tokens[r.Header.Get("X-Auth-Token")])
	i.mu.Unlock()
	if !good {
		responds(401, `{"error_code":"APIGW.0301","error_msg":"token expired, it must be updated"}`)(w, r)
		return
	}
	if r.Method == http.MethodPost {
		responds(200, `{"job_id":"j1"}`)(w, r)
		return
	}
	responds(200, `{"desktop":{"desktop_id":"d"}}`)(w, r)
}

func (i *iam) answers(h http.HandlerFunc) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = h
}

// revoke ends all tokens at the service.
func (i *iam) revoke() {
	i.mu.Lock()
	defer i.mu.Unlock()
	clear(i.tokens)
}

func (i *iam) requests() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]string(nil), i.logins...)
}

func (i *iam) read(ctx context.Context) error {
	_, err := i.client.GetDesktop(ctx, testDesktop)
	return err
}

func (i *iam) write(ctx context.Context) error {
	_, err := i.client.Rebuild(ctx, i.client.ServiceNow(), rebuildRequest())
	return err
}

func TestALoginIsForTheProjectAndSharedByAllCalls(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.Empty(t, i.requests(), "nothing is sent before the first call")
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if err := i.read(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.NoError(t, i.write(t.Context()))
	require.Len(t, i.requests(), 1)
	line, body, _ := strings.Cut(i.requests()[0], "{")
	require.Equal(t, "POST /v3/auth/tokens?nocatalog=true ", line)
	require.JSONEq(t, `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"u1","password":"example-password-1&<x",
		"domain":{"name":"d1"}}}},"scope":{"project":{"id":"`+testProject+`"}}}}`, "{"+body)
	for _, r := range i.client.seen() {
		require.Equal(t, "token-0001", r.header.Get("X-Auth-Token"))
		require.Empty(t, r.header.Get("Authorization"))
	}
}

// The end of a token counts by the clock of IAM, even if ours is wrong.
func TestATokenIsRenewedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{0, 30 * time.Hour, -30 * time.Hour} {
		i := newIAM(t, skew)
		require.NoError(t, i.read(t.Context()))
		i.clock.Add(24*time.Hour - tokenRenewed - 2*time.Second)
		require.NoError(t, i.read(t.Context()))
		require.Len(t, i.requests(), 1)
		i.clock.Add(2 * time.Second)
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				if err := i.read(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		require.Len(t, i.requests(), 2, "one login for all")
		i.clock.Add(2 * tokenRenewed)
		require.NoError(t, i.read(t.Context()))
		require.NoError(t, i.write(t.Context()))
		require.Len(t, i.requests(), 2)
		i.clock.Add(48 * time.Hour)
		require.NoError(t, i.write(t.Context()), "after two days without a call")
		require.Len(t, i.requests(), 3)
		for _, r := range i.client.seen() {
			require.NotEmpty(t, r.header.Get("X-Auth-Token"))
		}
	}
}

// While a token is valid, a failed renewal blocks no call, and is retried once a minute.
func TestARenewalThatFailsLeavesTheOldTokenInUse(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.NoError(t, i.read(t.Context()))
	i.answers(responds(503, ``))
	i.clock.Add(24*time.Hour - tokenRenewed)
	for range 5 {
		require.NoError(t, i.read(t.Context()))
	}
	require.Len(t, i.requests(), 2)
	i.clock.Add(time.Minute)
	require.NoError(t, i.read(t.Context()))
	require.Len(t, i.requests(), 3)
	i.clock.Add(tokenRenewed)
	err := i.read(t.Context())
	require.Equal(t, NotSent, ClassOf(err), "%v", err)
	i.answers(nil)
	i.clock.Add(fetchPause)
	require.NoError(t, i.read(t.Context()))
}

// A call does not wait for a renewal by another call.
func TestNoCallWaitsForTheRenewalOfAnother(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.NoError(t, i.read(t.Context()))
	begun, end := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-end
		i.serveLogin(w, r)
	}))
	t.Cleanup(slow.Close)
	i.client.auth.(*Renewing).source.(*login).endpoint.Host = slow.Listener.Addr().String()
	i.clock.Add(24*time.Hour - tokenRenewed)
	var all sync.WaitGroup
	all.Go(func() {
		if err := i.read(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-begun
	require.NoError(t, i.write(t.Context()))
	require.NoError(t, i.read(t.Context()))
	close(end)
	all.Wait()
	require.Len(t, i.requests(), 2)
}

// The service refuses a token that it accepted before: the client fetches one fresh token, and no second one.
func TestACachedTokenThatIsRefusedIsReplacedOnce(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.NoError(t, i.read(t.Context()))
	i.revoke()
	require.NoError(t, i.read(t.Context()))
	require.Len(t, i.requests(), 2)
	require.Len(t, i.client.seen(), 3)

	i.revoke()
	i.clock.Add(time.Minute)
	require.True(t, IsUnauthorized(i.read(t.Context())), "the fresh one is refused as well")
	require.Len(t, i.requests(), 2)
	require.True(t, IsUnauthorized(i.read(t.Context())))
	seen := len(i.client.seen())
	require.True(t, IsUnauthorized(i.write(t.Context())))
	require.Len(t, i.client.seen(), seen, "the calls have stopped")
	i.clock.Add(time.Minute)
	require.NoError(t, i.client.Probe(t.Context()), "a probe logs in once more")
	require.Len(t, i.requests(), 3)
	i.revoke()
	i.clock.Add(refusedLately)
	require.NoError(t, i.read(t.Context()))
	require.Len(t, i.requests(), 4)
}

func TestATokenThatWasNeverAcceptedIsNotReplaced(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	i.answers(withToken("foreign-token", `{"token":{"expires_at":"2026-01-16T08:30:00Z"}}`))
	require.True(t, IsUnauthorized(i.read(t.Context())))
	require.Len(t, i.requests(), 1)
	require.Len(t, i.client.seen(), 1)
}

// The client does not send a write twice. After the 401 nothing was done, and the next attempt uses a fresh token.
func TestAWriteWithARefusedTokenIsLeftToItsCaller(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.NoError(t, i.write(t.Context()))
	i.revoke()
	err := i.write(t.Context())
	require.Equal(t, NotSent, ClassOf(err))
	require.ErrorContains(t, err, "the next attempt uses a fresh one")
	require.False(t, asError(t, err).MayHaveExecuted())
	require.Len(t, i.client.seen(), 2)
	require.Len(t, i.requests(), 1)
	require.NoError(t, i.write(t.Context()))
	require.Len(t, i.requests(), 2)
	i.revoke()
	require.True(t, IsUnauthorized(i.write(t.Context())), "and then it stops")
	require.Len(t, i.requests(), 2)
}

func TestManyCallsWithARefusedTokenLogInOnce(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.NoError(t, i.read(t.Context()))
	i.revoke()
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if err := i.read(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Len(t, i.requests(), 2)
}

// A token does not expire with the request, so no date makes a write expire.
func TestAWriteWithALoginDoesNotExpire(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.False(t, i.client.SignaturesExpire())
	_, err := i.client.Rebuild(t.Context(), testTime.Add(-time.Hour), rebuildRequest())
	require.NoError(t, err)
}

func TestACallThatEndsWhileAnotherLogsIn(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	auth := i.client.auth.(*Renewing)
	auth.turn <- struct{}{} // the other's
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := auth.get(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, NotSent, ClassOf(err))
	<-auth.turn
	i.answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	_, err = auth.get(ctx)
	require.ErrorIs(t, err, context.Canceled)
	i.answers(nil)
	require.NoError(t, i.read(t.Context()), "a cancelled call does not affect others")
}
