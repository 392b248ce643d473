package workspace

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type vector struct {
	Name             string            `json:"name"`
	Method           string            `json:"method"`
	URL              string            `json:"url"`
	Host             string            `json:"host"`
	PathDecoded      string            `json:"path_decoded"`
	QueryDecoded     url.Values        `json:"query_decoded"`
	Headers          map[string]string `json:"headers"`
	Body             string            `json:"body"`
	AK               string            `json:"ak"`
	SK               string            `json:"sk"`
	Date             string            `json:"x_sdk_date"`
	SignedHeaders    []string          `json:"signed_headers"`
	PayloadHash      string            `json:"payload_hash"`
	CanonicalRequest string            `json:"canonical_request"`
	StringToSign     string            `json:"string_to_sign"`
	Signature        string            `json:"signature"`
	Authorization    string            `json:"authorization"`
	Valid            bool              `json:"valid"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	content, err := os.ReadFile("testdata/signing-vectors.json")
	require.NoError(t, err)
	var file struct {
		Vectors []vector `json:"vectors"`
	}
	require.NoError(t, json.Unmarshal(content, &file))
	require.Len(t, file.Vectors, 18)
	return file.Vectors
}

func (v vector) header() http.Header {
	h := http.Header{}
	for name, value := range v.Headers {
		h[name] = []string{value} // not Set: the vectors' letter case is part of the test
	}
	return h
}

func TestSigningVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			hash := v.PayloadHash
			if hash != "UNSIGNED-PAYLOAD" {
				require.Equal(t, hash, payloadHash(http.Header{}, []byte(v.Body)))
			}
			require.Equal(t, hash, payloadHash(v.header(), []byte(v.Body)))
			canonical := canonicalRequest(v.Method, v.PathDecoded, v.QueryDecoded, v.header(), v.SignedHeaders, hash)
			require.Equal(t, v.CanonicalRequest, canonical)
			text := stringToSign(v.Date, canonical)
			require.Equal(t, v.StringToSign, text)
			signature := signatureOf(v.SK, text)
			require.Equal(t, v.Signature, signature)
			require.Equal(t, v.Valid, strings.HasSuffix(v.Authorization, "Signature="+signature))

			u, err := url.Parse(v.URL)
			require.NoError(t, err)
			require.Equal(t, v.PathDecoded, u.Path, "the wire form decodes to the signed path")
			require.Equal(t, canonicalQuery(v.QueryDecoded), canonicalQuery(u.Query()))
		})
	}
}

// The vectors of the official SDK select their headers as sign does; those made in Terraform's way select others.
func TestSignChoosesTheHeadersOfTheGoSDK(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		if !v.Valid || strings.HasPrefix(v.Name, "terraform-") {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			u, err := url.Parse(v.URL)
			require.NoError(t, err)
			r := &http.Request{Method: v.Method, URL: u, Header: v.header()}
			at, err := time.Parse(SignatureDateLayout, v.Date)
			require.NoError(t, err)
			sign(r, []byte(v.Body), v.AK, v.SK, at)
			require.Equal(t, v.Authorization, r.Header.Get("Authorization"))
		})
	}
}

func TestSignatureOfARequestOnTheWire(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, auth AKSK, s seen, at time.Time) {
		t.Helper()
		authorization := s.header.Get("Authorization")
		_, rest, found := strings.Cut(authorization, "SignedHeaders=")
		require.True(t, found, authorization)
		list, signature, found := strings.Cut(rest, ", Signature=")
		require.True(t, found)
		query, err := url.ParseQuery(s.query)
		require.NoError(t, err)
		canonical := canonicalRequest(s.method, s.path, query, s.header, strings.Split(list, ";"), hexSHA256([]byte(s.body)))
		date := at.Format(SignatureDateLayout)
		require.Equal(t, date, s.header.Get("X-Sdk-Date"))
		require.Equal(t, signatureOf(auth.SecretKey, stringToSign(date, canonical)), signature)
		require.Contains(t, list, "x-sdk-date")
		require.Contains(t, list, "x-project-id")
		require.NotContains(t, list, "content-type")
		require.NotContains(t, list, "accept-encoding", "added by net/http after signing")
	}
	auth := AKSK{AccessKey: "EXAMPLEACCESSKEY0001", SecretKey: testSecret, SecurityToken: "temporary+/token=="}
	b := setup(t, responds(200, `{"job_id":"j1","desktop":{"desktop_id":"d"},"jobs":[],"total_count":0}`),
		func(c *Options) { c.Auth = auth })

	signedAt := testTime.Add(-7 * time.Minute)
	_, err := b.Rebuild(t.Context(), signedAt, rebuildRequest())
	require.NoError(t, err)
	_, err = b.ListSubJobs(t.Context(), SubJobsQuery{JobType: JobTypeRebuild, Status: []string{"WAITING", "RUNNING"}})
	require.NoError(t, err)

	requests := b.seen()
	require.Len(t, requests, 2)
	check(t, auth, requests[0], signedAt)
	check(t, auth, requests[1], testTime)
	for _, r := range requests {
		require.Contains(t, r.header.Get("Authorization"), "x-security-token")
		require.Equal(t, auth.SecurityToken, r.header.Get("X-Security-Token"))
	}
}

func TestCanonicalQueryKeepsItsMeaning(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		query := url.Values(rapid.MapOf(rapid.String(), rapid.SliceOfN(rapid.String(), 1, 3)).Draw(t, "query"))
		back, err := url.ParseQuery(canonicalQuery(query))
		if err != nil {
			t.Fatal(err)
		}
		if canonicalQuery(back) != canonicalQuery(query) || len(back) != len(query) {
			t.Fatalf("%q became %q", query, back)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	u := &url.URL{Scheme: "https", Host: "workspace.cn-north-4.myhuaweicloud.com", Path: "/v2/" + testProject + "/desktops/rebuild"}
	body := []byte(`{"desktop_ids":["` + testDesktop + `"],"image_type":"private","image_id":"39efed30"}`)
	r := &http.Request{Method: http.MethodPost, URL: u, Header: http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"recompose"}, "X-Project-Id": {testProject}, "X-Language": {"en-us"},
	}}
	b.ReportAllocs()
	for b.Loop() {
		sign(r, body, "EXAMPLEACCESSKEY0001", testSecret, testTime)
	}
}
