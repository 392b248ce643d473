package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type vector struct {
	Name          string            `json:"name"`
	Method        string            `json:"method"`
	URL           string            `json:"url"`
	Host          string            `json:"host"`
	Headers       map[string]string `json:"headers"`
	Body          string            `json:"body"`
	AK            string            `json:"ak"`
	SK            string            `json:"sk"`
	Date          string            `json:"x_sdk_date"`
	SignedHeaders []string          `json:"signed_headers"`
	Canonical     string            `json:"canonical_request"`
	Authorization string            `json:"authorization"`
	Valid         bool              `json:"valid"`
}

func TestSigningVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/signing-vectors.json")
	require.NoError(t, err)
	var file struct{ Vectors []vector }
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Vectors, 18)
	for _, v := range file.Vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			at, err := time.Parse(sdkDate, v.Date)
			require.NoError(t, err)
			s, err := New(Options{AccessKey: v.AK, SecretKey: v.SK, Now: func() time.Time { return at }})
			require.NoError(t, err)
			r := httptest.NewRequestWithContext(t.Context(), v.Method, v.URL, strings.NewReader(v.Body))
			r.Host = v.Host
			for k, value := range v.Headers {
				r.Header[http.CanonicalHeaderKey(k)] = []string{value}
			}
			r.Header.Set("Authorization", v.Authorization)
			req := receive(r, "id")
			text, ok := canonicalRequest(req, v.SignedHeaders)
			require.True(t, ok)
			require.Equal(t, v.Canonical, text)
			_, bad := s.authenticate(req, at)
			if v.Valid {
				require.Nil(t, bad)
				return
			}
			require.NotNil(t, bad)
			require.Equal(t, http.StatusUnauthorized, bad.status)
			require.Contains(t, bad.msg, "verify aksk signature fail")
		})
	}
}

func TestCredentialsRefused(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name   string
		change func(t *testing.T, b *bundle, r *http.Request)
		text   string
	}{
		{"none", func(_ *testing.T, _ *bundle, r *http.Request) { r.Header.Del("Authorization") }, "x-auth-token not found"},
		{"malformed", func(_ *testing.T, _ *bundle, r *http.Request) {
			r.Header.Set("Authorization", "SDK-HMAC-SHA256 Credential=a/b")
		}, "malformed"},
		{"another algorithm", func(_ *testing.T, _ *bundle, r *http.Request) { r.Header.Set("Authorization", "Basic x") }, "malformed"},
		{"date not signed", func(_ *testing.T, _ *bundle, r *http.Request) {
			r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+DefaultAccessKey+", SignedHeaders=host, Signature=00")
		}, "x-sdk-date is not a signed header"},
		{"no date", func(_ *testing.T, _ *bundle, r *http.Request) { r.Header.Del("X-Sdk-Date") }, "X-Sdk-Date is missing"},
		{"too old", func(t *testing.T, b *bundle, r *http.Request) {
			signWith(t, r, DefaultAccessKey, DefaultSecretKey, b.clock.Now().Add(-15*time.Minute-time.Second))
		}, "signature expired, x-sdk-date:20260115T081459Z, now:20260115T083000Z"},
		{"too new", func(t *testing.T, b *bundle, r *http.Request) {
			signWith(t, r, DefaultAccessKey, DefaultSecretKey, b.clock.Now().Add(15*time.Minute+time.Second))
		}, "signature expired"},
		{"unknown key", func(t *testing.T, b *bundle, r *http.Request) {
			signWith(t, r, "NOBODY", DefaultSecretKey, b.clock.Now())
		}, "ak not exist"},
		{"wrong secret", func(t *testing.T, b *bundle, r *http.Request) {
			signWith(t, r, DefaultAccessKey, "wrong", b.clock.Now())
		}, "verify aksk signature fail, canonical request:GET|/v2/"},
		{"digest of another body", func(t *testing.T, b *bundle, r *http.Request) {
			r.Header.Set("X-Sdk-Content-Sha256", strings.Repeat("0", 64))
			b.header(t, r)
		}, "verify aksk signature fail"},
		{"unknown token", func(_ *testing.T, _ *bundle, r *http.Request) {
			r.Header.Del("Authorization")
			r.Header.Set("X-Auth-Token", "nobody's")
		}, "decrypt token fail"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, Options{})
			r := b.sign(t, b.request(t, http.MethodGet, "desktops/"+b.ids[0], ""))
			c.change(t, b, r)
			got := do(t, r)
			require.Equal(t, http.StatusUnauthorized, got.status)
			require.Equal(t, "APIGW.0301", got.code())
			require.True(t, strings.HasPrefix(got.msg(), "Incorrect IAM authentication information: "), got.msg())
			require.Contains(t, got.msg(), c.text)
			require.Equal(t, got.header.Get("X-Request-Id"), got.body["request_id"])
		})
	}
}

// header signs the request once more after a header changed, with a digest header that the signer itself would refuse.
func (b *bundle) header(t *testing.T, r *http.Request) {
	t.Helper()
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+DefaultAccessKey+", SignedHeaders=x-sdk-date, Signature=00")
}

func TestSignatureAtTheEdgeOfItsWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{SignatureWindow: 10 * time.Second})
	r := b.request(t, http.MethodGet, "images", "")
	require.Equal(t, http.StatusOK, do(t, signWith(t, r, DefaultAccessKey, DefaultSecretKey, b.clock.Now().Add(-10*time.Second))).status)
	r = b.request(t, http.MethodGet, "images", "")
	require.Equal(t, http.StatusUnauthorized, do(t, signWith(t, r, DefaultAccessKey, DefaultSecretKey, b.clock.Now().Add(-11*time.Second))).status)
}

func TestBadSignaturesLockTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	bad := func() reply {
		return do(t, signWith(t, b.request(t, http.MethodGet, "images", ""), DefaultAccessKey, "wrong", b.clock.Now()))
	}
	for range 5 {
		require.Contains(t, bad().msg(), "signature fail")
	}
	require.Equal(t, http.StatusOK, b.get(t, "images").status, "five do not lock the key, and a good one restarts the count")
	for range 6 {
		require.Equal(t, http.StatusUnauthorized, bad().status)
	}
	locked := b.get(t, "images")
	require.Equal(t, http.StatusUnauthorized, locked.status)
	require.Contains(t, locked.msg(), "AK access failed to reach the limit,forbidden")
	b.clock.Add(5*time.Minute - time.Second)
	require.Equal(t, http.StatusUnauthorized, b.get(t, "images").status)
	b.clock.Add(time.Second)
	require.Equal(t, http.StatusOK, b.get(t, "images").status)
}

func TestSecurityToken(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{SecurityToken: "temporary"})
	require.Equal(t, http.StatusUnauthorized, b.get(t, "images").status)
	r := b.request(t, http.MethodGet, "images", "")
	r.Header.Set("X-Security-Token", "temporary")
	require.Equal(t, http.StatusOK, do(t, b.sign(t, r)).status)
}

const loginBody = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"emulator-user",
"password":"%PW","domain":{"name":"emulator-domain"}}}},"scope":{"project":{"name":"cn-north-4"}}}}`

func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Tokens: []string{"fixed"}})
	with := func(token string) reply {
		r := b.request(t, http.MethodGet, "images", "")
		r.Header.Set("X-Auth-Token", token)
		return do(t, r)
	}
	wrong := do(t, b.request(t, http.MethodPost, "/v3/auth/tokens", loginBody))
	require.Equal(t, http.StatusUnauthorized, wrong.status)
	require.Contains(t, wrong.body, "error", "IAM nests its errors")

	got := do(t, b.request(t, http.MethodPost, "/v3/auth/tokens?nocatalog=true", strings.Replace(loginBody, "%PW", DefaultIAMPassword, 1)))
	require.Equal(t, http.StatusCreated, got.status, got.text)
	token := got.header.Get("X-Subject-Token")
	require.Greater(t, len(token), 1000)
	require.Contains(t, got.text, `"expires_at":"2026-01-16T08:30:00.000000Z"`)
	require.Contains(t, got.text, DefaultProjectID)

	require.Equal(t, http.StatusOK, with(token).status)
	require.Equal(t, http.StatusOK, with("fixed").status)
	b.clock.Add(24 * time.Hour)
	require.Contains(t, with(token).msg(), "expired")
	require.Equal(t, http.StatusOK, with("fixed").status)
}

func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	unsigned := do(t, b.request(t, http.MethodGet, "nothing", ""))
	require.Equal(t, http.StatusNotFound, unsigned.status, "the route comes before the credentials")
	require.Equal(t, "APIGW.0101", unsigned.code())
	require.Equal(t, "APIGW.0101", do(t, b.request(t, http.MethodPut, "desktops/rebuild", "")).code())
	require.Equal(t, "APIGW.0101", do(t, b.request(t, http.MethodGet, "/v2//desktops/x", "")).code())

	other := b.get(t, "/v2/0123456789abcdef0123456789abcdef/images")
	require.Equal(t, http.StatusForbidden, other.status)

	require.Equal(t, "WKS.0001", b.post(t, "desktops/check-images", "").code(), "an empty body has a code of its own")
	require.Equal(t, http.StatusRequestEntityTooLarge, b.post(t, "desktops/check-images", strings.Repeat(" ", maxBody+1)).status)
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{ReadsPerMinute: 3, WritesPerMinute: 2})
	for range 3 {
		require.Equal(t, http.StatusOK, b.get(t, "images").status)
	}
	got := b.get(t, "images")
	require.Equal(t, http.StatusTooManyRequests, got.status)
	require.Equal(t, "APIGW.0308", got.code())
	require.Contains(t, got.msg(), "limit:3,time:1 minute")
	require.Empty(t, got.header.Get("Retry-After"))
	b.runs(t, b.ids[0])
	b.runs(t, b.ids[0])
	require.Equal(t, http.StatusTooManyRequests, b.post(t, "desktops/check-images", object{"desktop_ids": b.ids}).status, "check-images counts as a POST")
	b.clock.Add(time.Minute)
	require.Equal(t, http.StatusOK, b.get(t, "images").status)
}
