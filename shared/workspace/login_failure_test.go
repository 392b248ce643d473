package workspace

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A wrong password is sent exactly once: IAM locks the user after five.
func TestALoginThatIsRefusedIsNeverRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		body   string
		text   string
	}{
		"password": {401, `{"error":{"code":401,"message":"The username or password is wrong.","title":"Unauthorized"}}`, "The username or password is wrong"},
		"no text":  {401, `<html>`, "status 401"},
		"locked":   {403, `{"error_code":"IAM.0011","error_msg":"locked"}`, "IAM.0011"},
		"project":  {400, `{"error":{"code":400,"message":"bad scope"}}`, "bad scope"},
		"no path":  {404, `{"error":{"code":404,"message":"no such page"}}`, "no such page"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIAM(t, 0)
			i.answers(responds(c.status, c.body))
			var all sync.WaitGroup
			for n := range 20 {
				all.Go(func() {
					err := i.read(t.Context())
					if n%2 == 0 {
						err = i.write(t.Context())
					}
					if !IsUnauthorized(err) {
						t.Errorf("got %v", err)
					}
				})
			}
			all.Wait()
			i.answers(nil) // now IAM would accept it, but the client cannot know that
			for range 50 { // probes of a worker that has stopped
				i.clock.Add(time.Minute)
				require.True(t, IsUnauthorized(i.client.Probe(t.Context())))
			}
			err := i.read(t.Context())
			require.ErrorIs(t, err, ErrLoginRefused)
			require.ErrorContains(t, err, c.text)
			require.ErrorContains(t, err, "restart")
			require.Zero(t, asError(t, err).Status, "it is not a status of the service")
			require.Len(t, i.requests(), 1)
			require.Empty(t, i.client.seen())
		})
	}
}

// A refusal at the renewal stops the calls too, although the old token is still valid for a while.
func TestALoginThatIsRefusedAtTheRenewalStopsTheCalls(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	require.NoError(t, i.read(t.Context()))
	i.answers(responds(401, `{"error":{"code":401,"message":"wrong"}}`))
	i.clock.Add(24*time.Hour - tokenRenewed)
	require.ErrorIs(t, i.read(t.Context()), ErrLoginRefused)
	require.True(t, IsUnauthorized(i.write(t.Context())))
	i.clock.Add(time.Minute)
	require.ErrorIs(t, i.read(t.Context()), ErrLoginRefused)
	require.Len(t, i.requests(), 2)
	require.Len(t, i.client.seen(), 1)
}

// A temporary failure is retried like a failed read: the message is redelivered.
func TestALoginThatFailsForNowIsRetried(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		class  Class
		text   string
	}{
		"throttled":     {responds(429, `{"error_code":"IAM.0429","error_msg":"slow down"}`), Throttled, "IAM.0429: slow down"},
		"unavailable":   {responds(503, ``), NotSent, "status 503"},
		"a page":        {responds(404, `<html>maintenance</html>`), NotSent, "status 404"},
		"connection":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, NotSent, "no answer"},
		"redirect":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other", http.StatusFound) }, NotSent, "redirects are not followed"},
		"no token":      {responds(201, `{"token":{"expires_at":"2026-01-16T08:30:00Z"}}`), NotSent, "no X-Subject-Token"},
		"no JSON":       {withToken("t-1234", `<html>`), NotSent, "not JSON"},
		"no end":        {withToken("t-1234", `{"token":{}}`), NotSent, "no expires_at"},
		"no time":       {withToken("t-1234", `{"token":{"expires_at":"soon"}}`), NotSent, "not a time"},
		"ended":         {withToken("t-1234", `{"token":{"expires_at":"2026-01-15T08:30:00Z"}}`), NotSent, "ended at 2026-01-15T08:30:00Z"},
		"a token of no": {withToken("t\u00e9-1234", `{"token":{"expires_at":"2026-01-16T08:30:00Z"}}`), NotSent, "no header can carry"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIAM(t, 0)
			i.answers(c.answer)
			for range 2 {
				for _, err := range []error{i.read(t.Context()), i.write(t.Context())} {
					require.Equal(t, c.class, ClassOf(err), "%v", err)
					require.ErrorContains(t, err, c.text)
					require.False(t, asError(t, err).MayHaveExecuted(), "nothing was sent to the service")
					require.Zero(t, asError(t, err).Status)
					require.NotErrorIs(t, err, ErrLoginRefused)
				}
				require.Len(t, i.requests(), 1, "one failure is shared by all calls for a moment")
			}
			i.answers(nil)
			i.clock.Add(fetchPause)
			require.NoError(t, i.read(t.Context()))
			require.NoError(t, i.write(t.Context()))
			require.Len(t, i.requests(), 2)
		})
	}
}

func withToken(token, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Subject-Token", token)
		responds(201, body)(w, r)
	}
}

func TestNoLoginBeforeTheRetryAfterOfIAM(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	i.answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "90")
		responds(429, ``)(w, r)
	})
	require.Equal(t, 90*time.Second, asError(t, i.read(t.Context())).RetryAfter)
	i.answers(nil)
	i.clock.Add(time.Minute)
	err := i.read(t.Context())
	require.Equal(t, Throttled, ClassOf(err))
	require.Equal(t, 30*time.Second, asError(t, err).RetryAfter)
	require.Len(t, i.requests(), 1)
	i.clock.Add(30 * time.Second)
	require.NoError(t, i.read(t.Context()))
}

func TestAMissingAnswerOfIAMCountsAsAServiceThatIsNotReached(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	i.answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	require.Error(t, i.read(t.Context()))
	require.ErrorContains(t, i.client.Unreached().Why, "token: unavailable: no answer")
	i.answers(nil)
	i.clock.Add(fetchPause)
	require.NoError(t, i.read(t.Context()))
	require.Nil(t, i.client.Unreached())
}

// No error shows anything of the login, whatever IAM answers.
func TestTheLoginIsNeverInAnErrorOrPrinted(t *testing.T) {
	t.Parallel()
	inJSON, err := json.Marshal(testPassword)
	require.NoError(t, err)
	asText, err := json.Marshal(string(inJSON))
	require.NoError(t, err)
	for _, echo := range []string{
		`{"error":{"code":401,"message":"no user with ` + testPassword + `"}}`,
		`{"error":{"code":401,"message":` + string(asText) + `}}`,
		`{"error":{"code":401,"message":"{\"auth\":{\"identity\":\"x\"}}"}}`,
		`{"error_code":"example-password-1%26%3Cx","error_msg":"bad"}`,
		`<html>` + testPassword + `</html>`,
	} {
		i := newIAM(t, 0)
		i.answers(responds(401, echo))
		var log strings.Builder
		err := i.read(t.Context())
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "error", err, "e", asError(t, err), "options", i.options, "auth", i.client.auth)
		printed := fmt.Sprintf("%v %+v %#v %v %#v %+v %v", err, err, asError(t, err).LogValue(), i.options, i.options, i.client.auth, i.client)
		text, errJSON := json.Marshal(i.client.auth)
		require.NoError(t, errJSON)
		for _, shown := range []string{printed, log.String(), string(text), i.client.auth.(*Renewing).Digest()} {
			require.NotContains(t, shown, "example-password-1")
			require.NotContains(t, shown, "identity")
		}
	}
}

func TestATokenThatTheServiceEchoesIsMasked(t *testing.T) {
	t.Parallel()
	i := newIAM(t, 0)
	auth := i.client.auth
	b := setup(t, responds(403, `{"error_code":"WKS.0403","error_msg":"token-0001 and `+"example-password-1&<x"+`"}`), func(c *Options) { c.Auth = auth })
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.NotContains(t, err.Error(), "token-0001")
	require.NotContains(t, err.Error(), "example-password-1")
}

func TestLoginOptions(t *testing.T) {
	t.Parallel()
	whole := LoginOptions{Endpoint: "https://iam.example.org", User: "u", Password: "p", Domain: "d", ProjectID: "p1"}
	_, err := NewLogin(whole)
	require.NoError(t, err)
	for text, change := range map[string]func(*LoginOptions){
		"user is empty":     func(o *LoginOptions) { o.User = "" },
		"password is empty": func(o *LoginOptions) { o.Password = "" },
		"domain is empty":   func(o *LoginOptions) { o.Domain = "" },
		"project id":        func(o *LoginOptions) { o.ProjectID = "../x" },
		"use https":         func(o *LoginOptions) { o.Endpoint = "http://iam.example.org" },
		"endpoint is empty": func(o *LoginOptions) { o.Endpoint = "" },
	} {
		o := whole
		change(&o)
		_, err := NewLogin(o)
		require.ErrorContains(t, err, text)
	}
}

func TestTheDigestNamesTheCredentials(t *testing.T) {
	t.Parallel()
	digest := func(o LoginOptions) string {
		auth, err := NewLogin(o)
		require.NoError(t, err)
		return auth.Digest()
	}
	o := LoginOptions{Endpoint: "https://iam.example.org", User: "u", Password: "p", Domain: "d", ProjectID: "p1"}
	one := digest(o)
	require.Equal(t, one, digest(o))
	o.Password = "q"
	require.NotEqual(t, one, digest(o))
}
