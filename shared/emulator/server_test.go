package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEveryAnswerHasDateAndRequestID(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Speed: 1000})
	seen := map[string]bool{}
	for _, r := range []reply{b.get(t, "images"), b.get(t, "nothing"), b.post(t, "desktops/rebuild", ""), do(t, b.request(t, http.MethodGet, "/_emulator/state", ""))} {
		require.Equal(t, "Thu, 15 Jan 2026 08:30:00 GMT", r.header.Get("Date"), "the clock of the server, not of this machine")
		id := r.header.Get("X-Request-Id")
		require.Len(t, id, 32)
		require.False(t, seen[id])
		seen[id] = true
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{JournalSize: 3})
	list := func(query string) []Request {
		r := do(t, b.request(t, http.MethodGet, "/_emulator/requests"+query, ""))
		require.Equal(t, http.StatusOK, r.status, r.text)
		var out []Request
		require.NoError(t, json.Unmarshal([]byte(r.text), &out))
		return out
	}
	require.Empty(t, list(""))
	job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
	b.post(t, "desktops/rebuild", rebuildOf(b.ids[0]))
	b.get(t, "workspace-sub-jobs", "job_id", job)
	got := list("")
	require.Len(t, got, 3)
	require.Equal(t, Request{N: 1, Time: b.clock.Now(), Method: "POST", Path: "/v2/" + DefaultProjectID + "/desktops/rebuild", Call: CallRebuild,
		DesktopIDs: b.ids[:1], Status: 200, JobID: job, Effect: EffectJob}, got[0])
	require.Equal(t, 409, got[1].Status)
	require.Equal(t, "WKS.00010032", got[1].ErrorCode)
	require.Empty(t, got[1].Effect)
	require.Equal(t, "job_id="+job, got[2].Query)
	for range 20 {
		b.get(t, "images")
	}
	require.Equal(t, []int64{21, 22, 23}, []int64{list("")[0].N, list("")[1].N, list("")[2].N})
	require.Len(t, list("?after=22"), 1)
	require.Len(t, list("?limit=2"), 2)
	require.Equal(t, int64(21), list("?limit=2")[0].N)
	require.Empty(t, list("?after=23"))
	require.Equal(t, http.StatusBadRequest, do(t, b.request(t, http.MethodGet, "/_emulator/requests?after=x", "")).status)
	require.Equal(t, http.StatusNotFound, do(t, b.request(t, http.MethodGet, "/_emulator/nothing", "")).status)
}

func TestControlCallsAreForThisMachine(t *testing.T) {
	t.Parallel()
	s, err := New(Options{})
	require.NoError(t, err)
	for addr, want := range map[string]int{"127.0.0.1:4711": 200, "[::1]:4711": 200, "192.0.2.7:4711": 403, "": 403} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/_emulator/state", nil)
		r.RemoteAddr = addr
		r.Header.Set("X-Forwarded-For", "127.0.0.1")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, addr)
	}
}

func TestControlCallsAreNotForWebPages(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	r := b.request(t, http.MethodPost, "/_emulator/reset", "")
	r.Header.Set("Origin", "https://example.com")
	require.Equal(t, http.StatusForbidden, do(t, r).status)
	require.Equal(t, http.StatusOK, do(t, b.request(t, http.MethodPost, "/_emulator/reset", "")).status)
}

func TestStateIsInVendorNames(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Desktops: 1})
	b.startRebuild(t, OtherGoldImageID, b.ids[0])
	st := do(t, b.request(t, http.MethodGet, "/_emulator/state", "")).body
	require.Equal(t, "2026-01-15T08:30:00Z", st["now"])
	require.Contains(t, st["desktops"].([]any)[0], "root_volume")
	require.Contains(t, st["images"].([]any)[0], "image_type")
	job := st["jobs"].([]any)[0].(object)
	require.Equal(t, b.ids[0], job["sub_jobs"].([]any)[0].(object)["entities"].(object)["desktop_id"])
}

// Of many concurrent calls for the same desktop, one is accepted.
func TestOneOfManyIsAccepted(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{DataDir: t.TempDir()})
	var ok, conflict atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		r := b.sign(t, b.request(t, http.MethodPost, "desktops/rebuild", string(encode(t, rebuildOf(b.ids[0])))))
		wg.Go(func() {
			res, err := client().Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
			switch res.StatusCode {
			case http.StatusOK:
				ok.Add(1)
			case http.StatusConflict:
				conflict.Add(1)
			}
			b.State()
		})
	}
	wg.Wait()
	require.Equal(t, int32(1), ok.Load())
	require.Equal(t, int32(19), conflict.Load())
	effects := 0
	for _, r := range b.Requests(0, 0) {
		if r.Effect == EffectJob {
			effects++
		}
	}
	require.Equal(t, 1, effects)
}

func TestSpeedShortensDurationsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Speed: 600})
	job := b.startRebuild(t, OtherGoldImageID, b.ids[0])
	b.clock.Add(time.Second)
	require.Equal(t, "SUCCESS", b.subJobs(t, job)[0].Status)
	require.Equal(t, "2026-01-15 08:30:01", b.subJobs(t, job)[0].EndTime)
	b.clock.Add(time.Second)
	require.Equal(t, OtherGoldImageID, b.runs(t, b.ids[0]))
}

func TestCallersSeeOnlyTheSkewedClock(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{ClockSkew: -20 * time.Minute})
	actual := b.clock.Now().Add(-20 * time.Minute)
	require.Equal(t, http.StatusUnauthorized, b.get(t, "images").status, "signed by another clock")
	r := do(t, signWith(t, b.request(t, http.MethodGet, "images", ""), DefaultAccessKey, DefaultSecretKey, actual))
	require.Equal(t, http.StatusOK, r.status)
	require.Equal(t, actual.Format(http.TimeFormat), r.header.Get("Date"))
	require.Equal(t, actual, b.State().Now)
}

// TestHosts has a web page whose host name resolves to this machine.
func TestHosts(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Hosts: []string{"emulator"}})
	for host, taken := range map[string]bool{
		"127.0.0.1:8087": true, "[::1]:8087": true, "localhost": true, "LOCALHOST.:8087": true, "172.17.0.2:8087": true, "emulator:8087": true, "Emulator": true,
		"evil.example.com": false, "evil.example.com:8087": false, "127.0.0.1.evil.example.com": false, "localhost.evil.example.com": false,
	} {
		for _, r := range []*http.Request{
			b.request(t, http.MethodGet, "/_emulator/state", ""), b.request(t, http.MethodPost, "/_emulator/reset", ""),
			b.sign(t, b.request(t, http.MethodGet, "images", "")),
		} {
			r.Host = host
			got := do(t, r)
			require.Equal(t, taken, got.status == http.StatusOK, "%s of %q: %s", r.URL.Path, host, got.text)
			if !taken {
				require.Equal(t, http.StatusForbidden, got.status)
				require.Contains(t, got.text, "--host")
			}
		}
	}
	for _, r := range b.Requests(0, 0) {
		require.NotEqual(t, http.StatusForbidden, r.Status, "refused requests are not calls of the service")
	}
}
