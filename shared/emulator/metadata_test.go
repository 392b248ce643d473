package emulator

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keys gets temporary keys as a server does.
func (b *bundle) keys(t *testing.T) temporaryKey {
	t.Helper()
	r := b.request(t, http.MethodPut, metadataTokenPath, "")
	r.Header.Set("X-Metadata-Token-Ttl-Seconds", "21600")
	token := do(t, r)
	require.Equal(t, http.StatusOK, token.status, token.text)
	return keysIn(t, b.securityKey(t, token.text))
}

func (b *bundle) securityKey(t *testing.T, token string) reply {
	t.Helper()
	r := b.request(t, http.MethodGet, securityKeyPath, "")
	if token != "" {
		r.Header.Set("X-Metadata-Token", token)
	}
	return do(t, r)
}

func keysIn(t *testing.T, r reply) temporaryKey {
	t.Helper()
	require.Equal(t, http.StatusOK, r.status, r.text)
	var body struct {
		Credential map[string]string `json:"credential"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.text), &body))
	require.Len(t, body.Credential, 4)
	end, err := time.Parse("2006-01-02T15:04:05.000000Z", body.Credential["expires_at"])
	require.NoError(t, err)
	return temporaryKey{Access: body.Credential["access"], Secret: body.Credential["secret"], Token: body.Credential["securitytoken"], Expires: end}
}

// with makes a call with these keys.
func (b *bundle) with(t *testing.T, k temporaryKey) reply {
	t.Helper()
	r := b.request(t, http.MethodGet, "images", "")
	if k.Token != "" {
		r.Header.Set("X-Security-Token", k.Token)
	}
	return do(t, signWith(t, r, k.Access, k.Secret, b.clock.Now()))
}

func TestTheMetadataGivesTemporaryKeys(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Agency: true, KeyLifetime: 3 * time.Hour})
	first := b.keys(t)
	require.Equal(t, b.clock.Now().Add(3*time.Hour), first.Expires)
	require.Equal(t, http.StatusOK, b.with(t, first).status)
	require.Equal(t, http.StatusOK, b.get(t, "images").status, "the key of the configuration stays valid")

	other := first
	other.Token = ""
	require.Contains(t, b.with(t, other).msg(), "X-Security-Token")
	other.Token = first.Token + "x"
	require.Contains(t, b.with(t, other).msg(), "X-Security-Token")
	other = first
	other.Secret = "wrong"
	require.Contains(t, b.with(t, other).msg(), "signature fail")

	b.clock.Add(2 * time.Hour)
	require.Equal(t, first, b.keys(t), "the same set until a third of its life is left")
	b.clock.Add(time.Second)
	second := b.keys(t)
	require.NotEqual(t, first.Access, second.Access)
	require.Equal(t, http.StatusOK, b.with(t, second).status)
	require.Equal(t, http.StatusOK, b.with(t, first).status, "until its end")
	b.clock.Add(time.Hour - time.Second)
	gone := b.with(t, first)
	require.Equal(t, http.StatusUnauthorized, gone.status)
	require.Equal(t, "APIGW.0301", gone.code())
	require.Contains(t, gone.msg(), "expired")
	require.Equal(t, http.StatusOK, b.with(t, second).status)
}

func TestBadSignaturesLockOneKey(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Agency: true})
	k := b.keys(t)
	wrong := k
	wrong.Secret = "wrong"
	for range 6 {
		require.Equal(t, http.StatusUnauthorized, b.with(t, wrong).status)
	}
	require.Contains(t, b.with(t, k).msg(), "AK access failed to reach the limit")
	require.Equal(t, http.StatusOK, b.get(t, "images").status)
	b.clock.Add(lockFor)
	require.Equal(t, http.StatusOK, b.with(t, k).status)
}

func TestTheTokenOfTheMetadata(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Agency: true})
	request := func(seconds string) reply {
		r := b.request(t, http.MethodPut, metadataTokenPath, "")
		r.Header.Set("X-Metadata-Token-Ttl-Seconds", seconds)
		return do(t, r)
	}
	for _, seconds := range []string{"", "0", "21601", "x"} {
		require.Equal(t, http.StatusBadRequest, request(seconds).status, seconds)
	}
	token := request("60").text
	require.NotContains(t, token, "<")
	require.Equal(t, http.StatusOK, b.securityKey(t, token).status)
	require.Equal(t, http.StatusOK, b.securityKey(t, "").status, "a server that is not set to require tokens")
	require.Equal(t, http.StatusUnauthorized, b.securityKey(t, token+"0").status)
	require.Equal(t, http.StatusUnauthorized, b.securityKey(t, "nobody's").status)
	b.clock.Add(time.Minute)
	require.Equal(t, http.StatusUnauthorized, b.securityKey(t, token).status)
}

func TestAServerWithoutAgencyHasNoMetadata(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.Equal(t, "APIGW.0101", b.securityKey(t, "").code())
	require.Equal(t, "APIGW.0101", do(t, b.request(t, http.MethodPut, metadataTokenPath, "")).code())
}

func TestFaultsOfTheMetadata(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Agency: true})
	require.NoError(t, b.SetFaults([]Fault{
		{Call: CallMetadataToken, Do: Do{Status: 404}}, {Call: CallSecurityKey, Times: 1, Do: Do{Status: 503}},
	}))
	require.Equal(t, http.StatusNotFound, do(t, b.request(t, http.MethodPut, metadataTokenPath, "")).status)
	require.Equal(t, http.StatusServiceUnavailable, b.securityKey(t, "").status)
	require.Equal(t, http.StatusOK, b.securityKey(t, "").status)
	var calls []string
	for _, q := range b.Requests(0, 0) {
		calls = append(calls, q.Call)
	}
	require.Equal(t, []string{CallMetadataToken, CallSecurityKey, CallSecurityKey}, calls)
}

func TestTemporaryKeysAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir, Agency: true})
	k := b.keys(t)
	locked := k
	locked.Secret = "wrong"
	next := serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Agency: true, Now: b.clock.Now}, b.clock)
	require.Equal(t, http.StatusOK, next.with(t, k).status)
	require.Equal(t, k, next.keys(t))
	for range 6 {
		require.Equal(t, http.StatusUnauthorized, b.with(t, locked).status)
	}
	next = serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Agency: true, Now: b.clock.Now}, b.clock)
	require.Equal(t, http.StatusUnauthorized, next.with(t, k).status)
	require.NoError(t, next.Reset())
	require.Contains(t, next.with(t, k).msg(), "ak not exist")
}

// logs in with a password.
func (b *bundle) login(t *testing.T, password string) reply {
	t.Helper()
	return do(t, b.request(t, http.MethodPost, "/v3/auth/tokens?nocatalog=true", strings.Replace(loginBody, "%PW", password, 1)))
}

func TestWrongPasswordsLockTheUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir})
	for range 4 {
		require.Equal(t, http.StatusUnauthorized, b.login(t, "wrong").status)
	}
	require.Equal(t, http.StatusCreated, b.login(t, DefaultIAMPassword).status, "and the count restarts")
	for range 5 {
		require.Equal(t, http.StatusUnauthorized, b.login(t, "wrong").status)
	}
	for _, s := range []*bundle{b, serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Now: b.clock.Now}, b.clock)} {
		locked := s.login(t, DefaultIAMPassword)
		require.Equal(t, http.StatusUnauthorized, locked.status)
		require.Contains(t, locked.text, "locked")
		require.Empty(t, locked.header.Get("X-Subject-Token"))
	}
	b.clock.Add(lockUserFor)
	require.Equal(t, http.StatusCreated, b.login(t, DefaultIAMPassword).status)
}

func TestTheLifeOfATokenCanBeSet(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{TokenLifetime: 10 * time.Second, IAMUser: "emulator-user", IAMPassword: "other", IAMDomain: "emulator-domain"})
	require.Equal(t, http.StatusUnauthorized, b.login(t, DefaultIAMPassword).status)
	got := b.login(t, "other")
	require.Equal(t, http.StatusCreated, got.status)
	require.Contains(t, got.text, `"expires_at":"2026-01-15T08:30:10.000000Z"`)
	r := b.request(t, http.MethodGet, "images", "")
	r.Header.Set("X-Auth-Token", got.header.Get("X-Subject-Token"))
	require.Equal(t, http.StatusOK, do(t, r).status)
	b.clock.Add(10 * time.Second)
	r = b.request(t, http.MethodGet, "images", "")
	r.Header.Set("X-Auth-Token", got.header.Get("X-Subject-Token"))
	require.Contains(t, do(t, r).msg(), "must be updated")
	_, err := New(Options{TokenLifetime: -1})
	require.ErrorContains(t, err, "negative")
}
