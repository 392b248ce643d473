package workspace

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/testkit/testclock"
)

// ecs is a server's metadata, and a service that accepts its keys.
type ecs struct {
	clock    *testclock.Clock
	metadata *httptest.Server
	client   *bundle

	mu       sync.Mutex
	requests []string // method, path, metadata token
	token    http.HandlerFunc
	keys     http.HandlerFunc
	set      int // number of the set that is handed out
	end      time.Time
	refuses  map[string]bool // access keys
}

func newECS(t *testing.T) *ecs {
	t.Helper()
	e := &ecs{clock: testclock.New(), set: 1, end: testTime.Add(24 * time.Hour), refuses: map[string]bool{}}
	e.metadata = httptest.NewServer(http.HandlerFunc(e.serve))
	t.Cleanup(e.metadata.Close)
	auth, err := NewAgency(AgencyOptions{Endpoint: e.metadata.URL, Now: e.clock.Now})
	require.NoError(t, err)
	e.client = setup(t, e.service, func(c *Options) { c.Auth, c.Now = auth, e.clock.Now })
	return e
}

func (e *ecs) serve(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	w.Header().Set("Date", e.clock.Now().Format(http.TimeFormat))
	e.requests = append(e.requests, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Metadata-Token"))
	handler := e.keys
	if r.Method == http.MethodPut {
		handler = responds(200, "metadata-token")
		if e.token != nil {
			handler = e.token
		}
	} else if handler == nil {
		body, _ := json.Marshal(map[string]any{"credential": map[string]string{
			"access": fmt.Sprintf("ACCESS-%04d", e.set), "secret": fmt.Sprintf("secret-%04d", e.set),
			"securitytoken": fmt.Sprintf("security-%04d", e.set), "expires_at": e.end.Format("2006-01-02T15:04:05.000000Z"),
		}})
		handler = responds(200, string(body))
	}
	handler(w, r)
}

func (e *ecs) service(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", e.clock.Now().Format(http.TimeFormat))
	e.mu.Lock()
	access, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), Algorithm+" Access="), ",")
	refused := e.refuses[access]
	e.mu.Unlock()
	switch {
	case refused || access == "":
		responds(401, `{"error_code":"APIGW.0301","error_msg":"security token expired"}`)(w, r)
	case r.Method == http.MethodPost:
		responds(200, `{"job_id":"j1"}`)(w, r)
	default:
		responds(200, `{"desktop":{"desktop_id":"d"}}`)(w, r)
	}
}

// change sets how the metadata and the service answer from now on.
func (e *ecs) change(by func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	by()
}

// next makes the metadata issue the next set.
func (e *ecs) next() {
	e.change(func() { e.set++; e.end = e.clock.Now().Add(24 * time.Hour) })
}

func (e *ecs) fetches() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, line := range e.requests {
		if strings.HasPrefix(line, "GET ") {
			n++
		}
	}
	return n
}

func (e *ecs) read(t *testing.T) error {
	t.Helper()
	_, err := e.client.GetDesktop(t.Context(), testDesktop)
	return err
}

func (e *ecs) write(t *testing.T) error {
	t.Helper()
	_, err := e.client.Rebuild(t.Context(), e.client.ServiceNow(), rebuildRequest())
	return err
}

// signedWith returns the access keys of all requests to the service.
func (e *ecs) signedWith() []string {
	var keys []string
	for _, r := range e.client.seen() {
		access, _, _ := strings.Cut(strings.TrimPrefix(r.header.Get("Authorization"), Algorithm+" Access="), ",")
		keys = append(keys, access)
	}
	return keys
}

func TestTheKeysOfTheAgencySignAllCalls(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { require.NoError(t, e.read(t)) })
	}
	all.Wait()
	require.NoError(t, e.write(t))
	require.Equal(t, []string{"PUT /meta-data/latest/api/token ", "GET /openstack/latest/securitykey metadata-token"}, e.requests)
	for _, r := range e.client.seen() {
		require.Equal(t, "security-0001", r.header.Get("X-Security-Token"))
		require.Contains(t, r.header.Get("Authorization"), "Access=ACCESS-0001, SignedHeaders=")
		require.Contains(t, r.header.Get("Authorization"), "x-security-token")
	}
	require.True(t, e.client.SignaturesExpire())
}

func TestMetadataWithoutTokensGetsARequestWithoutOne(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 405, 503} {
		e := newECS(t)
		e.token = responds(status, "")
		require.NoError(t, e.read(t))
		require.Equal(t, "GET /openstack/latest/securitykey ", e.requests[1])
	}
}

func TestAMetadataTokenThatIsRefusedIsReplacedOnce(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	e.keys = answers(responds(401, "token expired"), responds(401, "token expired"))
	err := e.read(t)
	require.Equal(t, NotSent, ClassOf(err), "%v", err)
	require.Equal(t, 2, e.fetches())
	require.Len(t, e.requests, 4)
}

func TestAServerWithoutAnAgencyStopsTheCalls(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	e.keys = responds(401, "please configure the cloud service agency first")
	err := e.read(t)
	require.True(t, IsUnauthorized(err))
	require.ErrorContains(t, err, "bind one to it")
	require.False(t, asError(t, e.write(t)).MayHaveExecuted())
	require.Equal(t, 1, e.fetches())
	e.change(func() { e.keys = nil })
	e.clock.Add(time.Minute)
	require.NoError(t, e.client.Probe(t.Context()), "a probe uses an agency that was bound in the meantime")
	require.NoError(t, e.write(t))
}

// A wrong answer is an error with its reason, and is retried like a failed read. No error shows a secret of the
// answer.
func TestWrongAnswersOfTheMetadata(t *testing.T) {
	t.Parallel()
	credential := func(change string) http.HandlerFunc {
		whole := `{"credential":{"access":"A","secret":"hidden","securitytoken":"hidden","expires_at":"2026-01-16T08:30:00.000000Z"}}`
		from, to, _ := strings.Cut(change, "=>")
		return responds(200, strings.Replace(whole, from, to, 1))
	}
	for name, c := range map[string]struct {
		keys, token http.HandlerFunc
		text        string
	}{
		"a page":             {keys: responds(200, "<html>hidden</html>"), text: "not {\"credential\""},
		"a page as token":    {token: responds(200, "<html>hidden</html>"), text: "an unusable token"},
		"lines as token":     {token: responds(200, "a hidden\nb"), text: "an unusable token"},
		"token unavailable":  {token: responds(500, ""), text: "status 500"},
		"token refused":      {token: responds(401, ""), text: "status 401"},
		"another object":     {keys: responds(200, `{"access":"hidden"}`), text: "not {\"credential\""},
		"no access":          {keys: credential(`"access":"A",=>`), text: "access key is empty"},
		"no secret":          {keys: credential(`"secret":"hidden",=>`), text: "secret key is empty"},
		"no security token":  {keys: credential(`"securitytoken":"hidden",=>`), text: "security token is empty"},
		"secret with spaces": {keys: credential(`"hidden"=>"hidden hidden"`), text: "secret key has characters"},
		"no end":             {keys: credential(`expires_at=>other`), text: "no expires_at"},
		"no time":            {keys: credential(`2026-01-16T08:30:00.000000Z=>soon`), text: "not a time"},
		"past":               {keys: credential(`2026-01-16=>2026-01-15`), text: "ended at 2026-01-15T08:30:00Z, and its clock is at 2026-01-15T08:30:00Z"},
		"unavailable":        {keys: responds(500, "hidden"), text: "status 500"},
		"not there":          {keys: responds(404, "hidden"), text: "status 404"},
		"elsewhere":          {keys: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, text: "redirects are not followed"},
		"cut off":            {keys: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, text: "no answer"},
		"endless":            {keys: responds(200, strings.Repeat("x", maxIssued+1)), text: "longer than 1 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newECS(t)
			e.keys, e.token = c.keys, c.token
			for _, err := range []error{e.read(t), e.write(t)} {
				require.Equal(t, NotSent, ClassOf(err), "%v", err)
				require.ErrorContains(t, err, c.text)
				require.NotContains(t, err.Error(), "hidden")
				require.False(t, asError(t, err).MayHaveExecuted())
			}
			require.LessOrEqual(t, e.fetches(), 1, "one failure is shared by all calls for a moment")
			e.change(func() { e.keys, e.token = nil, nil })
			e.clock.Add(fetchPause)
			require.NoError(t, e.read(t))
			require.NoError(t, e.write(t))
		})
	}
}

// The metadata decides when it issues the next set; until then the old one is used.
func TestTheNextKeysAreFetchedInTime(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	require.NoError(t, e.read(t))
	e.clock.Add(24*time.Hour - keysRenewed)
	for range 5 {
		require.NoError(t, e.read(t))
		require.NoError(t, e.write(t))
	}
	require.Equal(t, 2, e.fetches(), "the metadata has no other set yet, and gets one request a minute")
	e.clock.Add(time.Minute)
	require.NoError(t, e.write(t))
	require.Equal(t, 3, e.fetches())
	e.next()
	e.clock.Add(time.Minute)
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() { require.NoError(t, e.read(t)) })
	}
	all.Wait()
	require.Equal(t, 4, e.fetches())
	e.clock.Add(12 * time.Hour)
	require.NoError(t, e.write(t))
	require.Equal(t, 4, e.fetches())
	keys := e.signedWith()
	require.Equal(t, "ACCESS-0001", keys[11])
	require.Equal(t, "ACCESS-0002", keys[len(keys)-1])
}

// A signature must not be valid for longer than its key. The service would refuse a late request for its expired key,
// and the client would take that for a refusal of our credentials. Reads are signed until the end of the key.
func TestAWriteIsNotSignedWithAKeyThatEndsBeforeItsSignature(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	require.NoError(t, e.write(t))
	e.clock.Add(24*time.Hour - testWindow - time.Second)
	require.NoError(t, e.write(t), "just long enough")
	e.clock.Add(time.Second)
	err := e.write(t)
	require.Equal(t, NotSent, ClassOf(err))
	require.ErrorContains(t, err, "end in 14m59s, and a signature is good for 15m0s")
	require.Equal(t, testWindow/8, asError(t, err).RetryAfter, "ten attempts last beyond the end of the keys")
	require.NoError(t, e.read(t))
	require.Len(t, e.client.seen(), 3)
	e.next()
	e.clock.Add(time.Minute)
	require.NoError(t, e.write(t))
	require.Equal(t, "ACCESS-0002", e.signedWith()[3])
}

// The date of a write stays the one that its caller has recorded, even if the key has changed since: the service
// refuses the write when the window of that date is over.
func TestTheDateOfAWriteStaysThoughTheKeyChanges(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	require.NoError(t, e.read(t))
	date := e.client.ServiceNow()
	e.next()
	e.change(func() { e.refuses["ACCESS-0001"] = true })
	_, err := e.client.Rebuild(t.Context(), date, rebuildRequest())
	require.Equal(t, NotSent, ClassOf(err), "%v", err)
	require.False(t, asError(t, err).MayHaveExecuted())
	e.clock.Add(30 * time.Second)
	_, err = e.client.Rebuild(t.Context(), date, rebuildRequest())
	require.NoError(t, err)
	require.Equal(t, []string{"ACCESS-0001", "ACCESS-0001", "ACCESS-0002"}, e.signedWith())
	for _, r := range e.client.seen()[1:] {
		require.Equal(t, "20260115T083000Z", r.header.Get("X-Sdk-Date"))
	}
	e.next()
	e.clock.Add(testWindow - 29*time.Second)
	_, err = e.client.Rebuild(t.Context(), date, rebuildRequest())
	require.ErrorContains(t, err, "take a new date", "with any key")
	require.Len(t, e.client.seen(), 3)
}

func TestKeysThatAreRefusedAreReplacedOnce(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	require.NoError(t, e.read(t))
	e.change(func() { e.refuses["ACCESS-0001"], e.set = true, 2 })
	require.NoError(t, e.read(t))
	require.Equal(t, []string{"ACCESS-0001", "ACCESS-0001", "ACCESS-0002"}, e.signedWith())

	e.clock.Add(refusedLately)
	require.NoError(t, e.write(t))
	e.change(func() { e.refuses["ACCESS-0002"] = true })
	err := e.read(t)
	require.True(t, IsUnauthorized(err))
	require.ErrorContains(t, err, "there are no others")
	require.Len(t, e.signedWith(), 5, "the same keys are not used twice in a row")
	require.True(t, IsUnauthorized(e.write(t)))
	e.clock.Add(time.Minute)
	require.True(t, IsUnauthorized(e.client.Probe(t.Context())))
	require.Len(t, e.signedWith(), 6, "a probe uses them")
	e.next()
	e.clock.Add(time.Minute)
	require.NoError(t, e.client.Probe(t.Context()))
}

// A clock that differs does not make the keys wrong.
func TestASkewedClockIsNotARefusalOfTheKeys(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	require.NoError(t, e.read(t))
	service := e.service
	b := setup(t, answers(unauthorized(testTime.Add(40*time.Minute)), service), func(c *Options) { c.Auth, c.Now = e.client.auth, e.clock.Now })
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.NoError(t, err)
	require.Equal(t, 1, e.fetches())
}

func TestTheMetadataIsLocalAndReadWithoutAProxy(t *testing.T) {
	for _, good := range []string{"", "http://169.254.169.254", "http://127.0.0.1:80/", "http://localhost:8087", "http://[::1]:1", "http://[fe80::1]:80"} {
		_, err := NewAgency(AgencyOptions{Endpoint: good})
		require.NoError(t, err, good)
	}
	for _, bad := range []string{
		"http://10.0.0.1", "http://metadata.example.org", "https://169.254.169.254", "http://user:hunter2@127.0.0.1", "http://127.0.0.1/x",
		"169.254.169.254", "http://%", "http://127.0.0.1?x", "http://169.254.169.254.example.org", "http://224.0.0.251",
	} {
		_, err := NewAgency(AgencyOptions{Endpoint: bad})
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "hunter2")
	}
	auth, err := NewAgency(AgencyOptions{})
	require.NoError(t, err)
	require.Nil(t, auth.source.(*agency).transport.(*http.Transport).Proxy)
	byPassword, err := NewLogin(LoginOptions{Endpoint: "https://iam.example.org", User: "u", Password: "p", Domain: "d", ProjectID: "p1"})
	require.NoError(t, err)
	require.NotNil(t, byPassword.source.(*login).transport.(*http.Transport).Proxy)
}

func TestTheKeysAreNeverPrinted(t *testing.T) {
	t.Parallel()
	e := newECS(t)
	require.NoError(t, e.read(t))
	auth := e.client.auth.(*Renewing)
	text, err := json.Marshal(auth)
	require.NoError(t, err)
	printed := fmt.Sprintf("%v %+v %#v %s %q %s %s", auth, auth, auth, auth, auth, text, auth.Digest())
	require.NotContains(t, printed, "secret-0001")
	require.NotContains(t, printed, "security-0001")
	require.Contains(t, printed, "agency keys from http://127.0.0.1")
	e.next()
	e.clock.Add(24*time.Hour - keysRenewed)
	require.NoError(t, e.read(t))
	require.Equal(t, "*** and ***, *** and ***", auth.Redact("secret-0001 and security-0001, secret-0002 and security-0002"))
}
