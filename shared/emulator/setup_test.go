package emulator

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/testkit/testclock"
)

// bundle is an emulator behind HTTP, with a clock and a caller.
type bundle struct {
	*Server
	clock *testclock.Clock
	url   string
	ids   []string
}

func setup(t *testing.T, cfg Options) *bundle {
	t.Helper()
	c := testclock.New()
	if cfg.Now == nil {
		cfg.Now = c.Now
	}
	return serve(t, cfg, c)
}

func serve(t *testing.T, cfg Options, c *testclock.Clock) *bundle {
	t.Helper()
	s, err := New(cfg)
	require.NoError(t, err)
	ts := httptest.NewServer(s)
	t.Cleanup(func() {
		require.NoError(t, s.Close())
		ts.Close()
	})
	return &bundle{Server: s, clock: c, url: ts.URL, ids: s.DesktopIDs()}
}

// reply is an answer that was read.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
}

func (r reply) code() string { s, _ := r.body["error_code"].(string); return s }
func (r reply) msg() string  { s, _ := r.body["error_msg"].(string); return s }

// request makes an unsigned request; path begins after the project.
func (b *bundle) request(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	if path[0] != '/' {
		path = "/v2/" + DefaultProjectID + "/" + path
	}
	r, err := http.NewRequestWithContext(context.Background(), method, b.url+path, bytes.NewBufferString(body))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	return r
}

// sign signs with the default key, at the time of the bundle's clock.
func (b *bundle) sign(t *testing.T, r *http.Request) *http.Request {
	t.Helper()
	return signWith(t, r, DefaultAccessKey, DefaultSecretKey, b.clock.Now())
}

func signWith(t *testing.T, r *http.Request, ak, sk string, at time.Time) *http.Request {
	t.Helper()
	stamp := at.UTC().Format(sdkDate)
	r.Header.Set("X-Sdk-Date", stamp)
	body := []byte{}
	if r.GetBody != nil {
		rc, err := r.GetBody()
		require.NoError(t, err)
		body, err = io.ReadAll(rc)
		require.NoError(t, err)
	}
	sum := sha256.Sum256(body)
	text, ok := canonicalRequest(&request{method: r.Method, path: r.URL.Path, rawQuery: r.URL.RawQuery, header: r.Header,
		body: body, bodyHash: hex.EncodeToString(sum[:])}, []string{"x-sdk-date"})
	require.True(t, ok)
	digest := sha256.Sum256([]byte(text))
	mac := hmac.New(sha256.New, []byte(sk))
	mac.Write([]byte(algorithm + "\n" + stamp + "\n" + hex.EncodeToString(digest[:])))
	r.Header.Set("Authorization", algorithm+" Access="+ak+", SignedHeaders=x-sdk-date, Signature="+hex.EncodeToString(mac.Sum(nil)))
	return r
}

// client follows no redirects and keeps no connections, so that net/http never sends a request twice.
func client() *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func do(t *testing.T, r *http.Request) reply {
	t.Helper()
	res, err := client().Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	out := reply{status: res.StatusCode, header: res.Header, text: string(data)}
	_ = json.Unmarshal(data, &out.body) // not every answer is JSON
	return out
}

// doDropped makes a request whose connection must be dropped.
func doDropped(t *testing.T, r *http.Request) {
	t.Helper()
	res, err := client().Do(r)
	if err == nil {
		require.NoError(t, res.Body.Close())
	}
	require.Error(t, err)
}

func (b *bundle) get(t *testing.T, path string, query ...string) reply {
	t.Helper()
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		q.Add(query[i], query[i+1])
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return do(t, b.sign(t, b.request(t, http.MethodGet, path, "")))
}

func (b *bundle) post(t *testing.T, path string, body any) reply {
	t.Helper()
	text, ok := body.(string)
	if !ok {
		data, err := json.Marshal(body)
		require.NoError(t, err)
		text = string(data)
	}
	return do(t, b.sign(t, b.request(t, http.MethodPost, path, text)))
}

type object = map[string]any

// startRebuild starts a rebuild that must be accepted, and returns its job id.
func (b *bundle) startRebuild(t *testing.T, image string, ids ...string) string {
	t.Helper()
	kind := "gold"
	if image == MarketImageID {
		kind = "market"
	}
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": ids, "image_type": kind, "image_id": image})
	require.Equal(t, http.StatusOK, r.status, r.text)
	require.IsType(t, "", r.body["job_id"], r.text)
	return r.body["job_id"].(string)
}

// startImage starts an image job that must be accepted.
func (b *bundle) startImage(t *testing.T, name, desktop string) string {
	t.Helper()
	r := b.post(t, "desktops/desktop-to-image", object{"image_name": name, "desktop_id": desktop, "execute_sysprep": false})
	require.Equal(t, http.StatusOK, r.status, r.text)
	return r.body["job_id"].(string)
}

// subJobs lists the sub-jobs of a job.
func (b *bundle) subJobs(t *testing.T, job string) []SubJob {
	t.Helper()
	r := b.get(t, "workspace-sub-jobs", "job_id", job)
	require.Equal(t, http.StatusOK, r.status, r.text)
	var list struct {
		Jobs []SubJob `json:"jobs"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.text), &list))
	return list.Jobs
}

// desktop gets a desktop.
func (b *bundle) desktop(t *testing.T, id string) Desktop {
	t.Helper()
	r := b.get(t, "desktops/"+id)
	require.Equal(t, http.StatusOK, r.status, r.text)
	var d struct {
		Desktop Desktop `json:"desktop"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.text), &d))
	return d.Desktop
}

// runs returns the image that check-images reports for a desktop.
func (b *bundle) runs(t *testing.T, id string) string {
	t.Helper()
	r := b.post(t, "desktops/check-images", object{"desktop_ids": []string{id}})
	require.Equal(t, http.StatusOK, r.status, r.text)
	var list struct {
		Infos []DesktopImage `json:"image_infos"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.text), &list))
	require.Len(t, list.Infos, 1)
	return list.Infos[0].ImageID
}

// privateImages lists the private images.
func (b *bundle) privateImages(t *testing.T) []Image {
	t.Helper()
	r := b.get(t, "images", "image_type", "private")
	require.Equal(t, http.StatusOK, r.status, r.text)
	var list struct {
		Images []Image `json:"images"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.text), &list))
	return list.Images
}
