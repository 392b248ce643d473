package emulator

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// FuzzRequests sends any body to any POST, and any path and query to any GET: nothing may panic, and no answer may be
// a 5xx.
func FuzzRequests(f *testing.F) {
	id := generate(1).Desktops[0].DesktopID
	for _, seed := range []struct{ path, query, body string }{
		{"desktops/check-images", "", `{"desktop_ids":["` + id + `"]}`},
		{"desktops/check-images", "", `{"desktop_ids":[null,1,{}]}`},
		{"desktops/rebuild", "", `{"desktop_ids":["` + id + `"],"image_type":"gold","image_id":"` + OtherGoldImageID + `","delay_time":2147483647}`},
		{"desktops/rebuild", "", `{"desktop_ids":{},"image_type":[],"delay_time":1e309}`},
		{"desktops/desktop-to-image", "", `{"desktop_id":"` + id + `","image_name":"n","image_tags":[{"key":"k"}],"execute_sysprep":"true"}`},
		{"desktops/desktop-to-image", "", "\x00\xff"},
		{"/v3/auth/tokens", "nocatalog=true", `{"auth":{"identity":{"methods":["password"]}}}`},
		{"desktops/" + id, "", ""},
		{"desktops/%2e%2e", "a=%zz", ""},
		{"workspace-sub-jobs", "status=RUNNING&status=&limit=9999999999999999999&offset=-1", ""},
		{"workspace-jobs/x", ";;", ""},
		{"images", "image_type=gold&limit=0&sort_field=name&sort_type=desc", ""},
	} {
		f.Add(seed.path, seed.query, seed.body)
	}
	f.Fuzz(func(t *testing.T, path, query, body string) {
		now := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
		s, err := New(Options{Desktops: 1, Tokens: []string{"t"}, Now: func() time.Time { return now }})
		require.NoError(t, err)
		if !strings.HasPrefix(path, "/") {
			path = "/v2/" + DefaultProjectID + "/" + path
		}
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			r := httptest.NewRequestWithContext(t.Context(), method, "http://localhost/", strings.NewReader(body))
			u, err := url.Parse(path)
			if err != nil || isControl(u.Path) {
				return
			}
			u.RawQuery = query
			r.URL = u
			r.Header.Set("X-Auth-Token", "t")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Less(t, w.Code, 500, w.Body.String())
			now = now.Add(time.Hour)
			s.State()
		}
		// A signature over any input must be refused, not misread.
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/", strings.NewReader(body))
		r.URL = &url.URL{Path: "/v2/" + DefaultProjectID + "/images", RawQuery: query}
		r.Method = http.MethodGet
		r.Header.Set("X-Sdk-Date", now.Format(sdkDate))
		r.Header.Set("Authorization", algorithm+" "+strings.Map(func(c rune) rune {
			if c < ' ' {
				return -1
			}
			return c
		}, body))
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, http.StatusUnauthorized, w.Code)
	})
}
