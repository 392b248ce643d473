package workspace

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNewRefusesBadSettingsAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Options{
		Endpoint: "http://workspace.cn-north-4.myhuaweicloud.com", ProjectID: "../x", Concurrency: -1, Timeout: -1,
		SignatureWindow: -1, ReadsPerMinute: math.NaN(), WritesPerMinute: math.Inf(1),
	})
	require.Error(t, err)
	for _, part := range []string{
		"plain http", "project id", "no credentials", "concurrency", "timeout", "signature window", "reads per minute",
		"writes per minute",
	} {
		require.ErrorContains(t, err, part)
	}
	_, err = New(Options{Endpoint: "https://h", ProjectID: "p", Auth: Token("t")})
	for _, part := range []string{"signature window 0s", "reads per minute 0", "writes per minute 0"} {
		require.ErrorContains(t, err, part)
	}
	_, err = New(Options{Endpoint: "https://h", ProjectID: "p", Auth: AKSK{AccessKey: "a b", SecurityToken: "\n"}})
	for _, part := range []string{"access key has characters", "secret key is empty", "security token has characters"} {
		require.ErrorContains(t, err, part)
	}
	_, err = New(Options{Endpoint: "https://h", ProjectID: "p", Auth: Token("")})
	require.ErrorContains(t, err, "token is empty")
}

func TestNewEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, wanted := range map[string]string{
		"https://workspace.cn-north-4.myhuaweicloud.com":  "",
		"https://workspace.cn-north-4.myhuaweicloud.com/": "",
		"http://127.0.0.1:8087":                           "",
		"http://[::1]:8087":                               "",
		"http://localhost":                                "",
		"":                                                "is empty",
		"workspace.cn-north-4.myhuaweicloud.com":          "has no host",
		"https://":                                        "has no host",
		"https://h/v2":                                    "more than scheme and host",
		"https://h?x=1":                                   "more than scheme and host",
		"https://h#x":                                     "more than scheme and host",
		"https://u:hush@h":                                "holds a user name or password",
		"https://u:hush@h:port":                           "not a URL",
		"http://10.0.0.1":                                 "plain http",
		"http://127.0.0.1.example.com":                    "plain http",
		"ftp://h":                                         "scheme",
	} {
		_, err := New(Options{
			Endpoint: endpoint, ProjectID: "p", Auth: Token("t"), ReadsPerMinute: 1, WritesPerMinute: 1, SignatureWindow: time.Minute,
		})
		if wanted == "" {
			require.NoError(t, err, endpoint)
			continue
		}
		require.ErrorContains(t, err, wanted, endpoint)
		require.NotContains(t, err.Error(), "hush")
	}
}

func TestEveryRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"desktop":{"desktop_id":"d"},"image_infos":[],"jobs":[],"images":[],"total_count":0,"job_id":"j","id":"j"}`))
	ctx := t.Context()
	_, err := b.CheckImages(ctx, []string{"d1", "d2"})
	require.NoError(t, err)
	_, err = b.DesktopToImage(ctx, testTime, imageRequest())
	require.NoError(t, err)
	_, err = b.Rebuild(ctx, testTime, rebuildRequest())
	require.NoError(t, err)
	_, err = b.GetDesktop(ctx, testDesktop)
	require.NoError(t, err)
	sysprep, err := b.Sysprep(ctx, testDesktop)
	require.NoError(t, err)
	require.Nil(t, sysprep.CanImage)
	_, err = b.ListSubJobs(ctx, SubJobsQuery{JobID: "j1", JobType: JobTypeImage, Status: []string{"FAILED", "", "WAITING"}})
	require.NoError(t, err)
	_, err = b.ListImages(ctx, ImagesQuery{ImageType: "private", SortField: "name"})
	require.NoError(t, err)

	const root = "/v2/" + testProject
	wanted := []struct{ method, path, query, body string }{
		{"POST", root + "/desktops/check-images", "", `{"desktop_ids":["d1","d2"]}`},
		{"POST", root + "/desktops/desktop-to-image", "", `{"image_name":"golden-1","desktop_id":"` + testDesktop + `","execute_sysprep":false}`},
		{"POST", root + "/desktops/rebuild", "", `{"desktop_ids":["` + testDesktop + `"],"image_type":"private","image_id":"39efed30-a0db-4520-8134-19a086e14c7e"}`},
		{"GET", root + "/desktops/" + testDesktop, "", ""},
		{"GET", root + "/desktops/" + testDesktop + "/sysprep", "", ""},
		{"GET", root + "/workspace-sub-jobs", "job_id=j1&job_type=desktopToImage&limit=1000&offset=0&status=FAILED&status=WAITING", ""},
		{"GET", root + "/images", "image_type=private&limit=100&offset=0&sort_field=name", ""},
	}
	got := b.seen()
	require.Len(t, got, len(wanted))
	for i, w := range wanted {
		require.Equal(t, w.method, got[i].method)
		require.Equal(t, w.path, got[i].path)
		require.Equal(t, w.query, got[i].query)
		require.Equal(t, w.body, got[i].body)
		h := got[i].header
		require.Equal(t, "application/json", h.Get("Content-Type"))
		require.Equal(t, "en-us", h.Get("X-Language"))
		require.Equal(t, testProject, h.Get("X-Project-Id"))
		require.Equal(t, "recompose", h.Get("User-Agent"))
		require.Empty(t, h.Get("Idempotency-Key"))
		require.Empty(t, h.Get("X-Idempotency-Key"))
	}
	require.Equal(t, testProject, b.ProjectID())
}

func TestBadArgumentsAreRefusedBeforeAnyRequest(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{}`))
	ctx := t.Context()
	many := make([]string, 501)
	for i := range many {
		many[i] = "d" + strings.Repeat("x", i%200)
	}
	two := func(ids ...string) RebuildRequest {
		r := rebuildRequest()
		r.DesktopIDs = ids
		return r
	}
	with := func(change func(*RebuildRequest)) RebuildRequest {
		r := rebuildRequest()
		change(&r)
		return r
	}
	rebuild := func(r RebuildRequest) error { _, err := b.Rebuild(ctx, testTime, r); return err }
	capture := func(r DesktopToImageRequest) error { _, err := b.DesktopToImage(ctx, testTime, r); return err }
	check := func(ids []string) error { _, err := b.CheckImages(ctx, ids); return err }
	_, noQuery := b.ListSubJobs(ctx, SubJobsQuery{Status: []string{"RUNNING"}})
	_, noDate := b.Rebuild(ctx, time.Time{}, rebuildRequest())
	_, badDesktop := b.GetDesktop(ctx, "a/../b")
	for wanted, err := range map[string]error{
		"desktop_ids has 0 ids":                        check(nil),
		"desktop_ids has 501 ids: give 1 to 500":       check(many),
		"desktop_ids[1] is empty":                      check([]string{"a", ""}),
		"desktop_ids has 101 ids: give 1 to 100":       rebuild(two(many[:101]...)),
		`desktop_ids[1] "a" is the same as`:            rebuild(two("a", "a")),
		"image_id is empty":                            rebuild(with(func(r *RebuildRequest) { r.ImageID = "" })),
		"image_type is empty":                          rebuild(with(func(r *RebuildRequest) { r.ImageType = "" })),
		"delay_time -1":                                rebuild(with(func(r *RebuildRequest) { r.DelayTime = new(-1) })),
		"desktop_id is empty":                          capture(DesktopToImageRequest{ImageName: "n"}),
		"image_name is empty":                          capture(DesktopToImageRequest{DesktopID: "d"}),
		"job_id and job_type are both empty":           noQuery,
		"the signing date is zero":                     noDate,
		`desktop_id "a/../b": must be letters, digits`: badDesktop,
	} {
		require.ErrorContains(t, err, wanted)
		e := asError(t, err)
		require.Equal(t, Invalid, e.Class, wanted)
		require.False(t, e.MayHaveExecuted())
	}
	require.Empty(t, b.seen())
}

func TestCheckID(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"a", "0", testDesktop, "A_b-C", strings.Repeat("x", 255)} {
		require.NoError(t, CheckID("desktop_id", good))
	}
	for _, bad := range []string{
		"", "-a", "_a", "a.b", "..", "a/b", "a%2fb", "a b", "a\n", "é", "a\x00", strings.Repeat("x", 256), "a?b", "a#b", "\xff",
	} {
		err := CheckID("desktop_id", bad)
		require.ErrorContains(t, err, "desktop_id", "%q", bad)
		require.NotContains(t, err.Error(), "\n")
		require.Less(t, len(err.Error()), 400)
	}
}

func TestOnCallGetsEachAttempt(t *testing.T) {
	t.Parallel()
	var calls []CallInfo
	late := testTime.Add(time.Hour).Format(http.TimeFormat)
	b := setup(t, answers(
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", late)
			w.Header().Set("X-Request-Id", "r1")
			responds(401, `{"error_code":"APIGW.0301","error_msg":"expired"}`)(w, r)
		},
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Date", late)
			responds(200, `{"desktop":{"desktop_id":"d"}}`)(w, r)
		}), func(c *Options) { c.OnCall = func(i CallInfo) { calls = append(calls, i) } })
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.NoError(t, err)
	require.Len(t, calls, 2)
	require.Equal(t, "get-desktop", calls[0].Operation)
	require.Equal(t, 401, calls[0].Status)
	require.Equal(t, 200, calls[1].Status)
}

func TestAnswerSizeIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"desktop":{"sid":"`)
		_, _ = io.WriteString(w, strings.Repeat("x", maxAnswer))
		_, _ = io.WriteString(w, `"}}`)
	})
	_, err := b.GetDesktop(t.Context(), testDesktop)
	e := asError(t, err)
	require.Equal(t, BadAnswer, e.Class)
	require.Equal(t, 200, e.Status)
	require.ErrorIs(t, err, errTooLong)
}

func TestOddAuthIsNotSent(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{}`), func(c *Options) { c.Auth = brokenAuth{} })
	_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
	require.Equal(t, NotSent, ClassOf(err))
	require.ErrorIs(t, err, errBroken)
	require.Empty(t, b.seen())
}

type brokenAuth struct{}

var errBroken = errors.New("no token available")

func (brokenAuth) Apply(_ context.Context, _ *http.Request, _ []byte, _ time.Time) error {
	return errBroken
}

func (brokenAuth) Dated() bool { return true }
