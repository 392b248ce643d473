package workspace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClassOfAnswers(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		status int
		body   string
		class  Class
		maybe  bool
	}{
		{400, `{"error_code":"WKS.0001","error_msg":"m"}`, Refused, false},
		{400, `{"error_code":"WKS.0407","error_msg":"m"}`, DiskBusy, false},
		{400, `{"error_code":"APIGW.0201"}`, Refused, false},
		{401, `{"error_code":"APIGW.0301"}`, Unauthorized, false},
		{402, ``, BadAnswer, true},
		{403, `{"error_code":"WKS.00010099"}`, Forbidden, false},
		{404, `{"error_code":"WKS.0915"}`, NotFound, false},
		{404, ``, NotFound, false},
		{404, `<html>Under maintenance</html>`, NotFound, false},
		{403, `<html>Blocked</html>`, Forbidden, false},
		{404, `{"error_code":"APIGW.0101"}`, Endpoint, false},
		{404, `{"error_code":"APIG.0101"}`, Endpoint, false},
		{404, `{"error_code":"APIGW.0103"}`, Endpoint, false},
		{404, `{"error_code":"WKS.0101"}`, NotFound, false},
		{405, ``, Refused, false},
		{408, ``, BadAnswer, true},
		{409, `{"error_code":"WKS.00010032"}`, Conflict, false},
		{413, ``, Refused, false},
		{415, ``, Refused, false},
		{418, ``, BadAnswer, true},
		{429, `{"error_code":"APIGW.0308"}`, Throttled, false},
		{500, `{"error_code":"WKS.0202"}`, Unavailable, true},
		{500, `{"error_code":"APIGW.0103"}`, Unavailable, true},
		{502, `<html><body>Bad Gateway</body></html>`, Unavailable, true},
		{503, `upstream`, Unavailable, true},
		{504, `{"error_code":"APIG.0203"}`, Unavailable, true},
		{599, ``, Unavailable, true},
		{600, ``, BadAnswer, true},
		{200, `<html>`, BadAnswer, true},
		{200, `[1]`, BadAnswer, true},
		{200, `{"job_id":`, BadAnswer, true},
	} {
		t.Run(fmt.Sprint(row.status, row.body), func(t *testing.T) {
			t.Parallel()
			b := setup(t, responds(row.status, row.body))
			_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
			e := asError(t, err)
			require.Equal(t, row.class, e.Class)
			require.Equal(t, row.status, e.Status)
			require.Equal(t, row.maybe, e.MayHaveExecuted())
			require.Equal(t, testTime, e.Date)
			require.Equal(t, "rebuild", e.Operation)
			require.Len(t, b.seen(), 1, "a write is sent once, with any answer")
			b = setup(t, responds(row.status, row.body))
			_, err = b.GetDesktop(t.Context(), testDesktop)
			read := row.class
			if (row.status == 403 || row.status == 404) && !strings.HasPrefix(row.body, "{") {
				read = BadAnswer // an HTML page of a proxy is no evidence about the desktop
			}
			require.Equal(t, read, ClassOf(err))
			require.Equal(t, read == NotFound, IsNotFound(err))
			require.Equal(t, row.class == Unauthorized, IsUnauthorized(err))
			require.Len(t, b.seen(), 1, "a read is sent once, too")
		})
	}
}

func TestQuirkQ27ErrorEnvelopes(t *testing.T) {
	t.Parallel()
	for body, wanted := range map[string]envelope{
		`{"error_code":"c","error_msg":"m"}`: {code: "c", msg: "m"},
		`{"error_code":"c","error_msg":"m","error_detail":"d","encoded_authorization_message":"e"}`: {
			code: "c", msg: "m", detail: "d", encoded: "e",
		},
		`{"error_code":"c","error_msg":"m","request_id":"r"}`:                 {code: "c", msg: "m", requestID: "r"},
		`{"error":{"code":"c","message":"m"}}`:                                {code: "c", msg: "m"},
		`{"error":{"code":401,"message":"m","title":"Unauthorized"}}`:         {code: "401", msg: "m"},
		`{"code":"c","message":"m"}`:                                          {code: "c", msg: "m"},
		`{"error":"invalid_grant"}`:                                           {msg: "invalid_grant"},
		`{"error_code":"c","code":"x","error":{"code":"y"},"error_msg":null}`: {code: "c"},
		`{"error_code":null,"error_msg":7,"error":null}`:                      {msg: "7"},
		`{"error_code":{},"error_msg":[],"code":"x"}`:                         {code: "x"},
		`<html>`: {}, ``: {}, `[]`: {}, `"x"`: {}, `null`: {},
	} {
		require.Equal(t, wanted, readEnvelope([]byte(body)), body)
	}
	long := readEnvelope([]byte(`{"error_code":"` + strings.Repeat("c", 999) + `","error_msg":"` + strings.Repeat("é", 9999) + `"}`))
	require.Len(t, long.code, maxToken)
	require.LessOrEqual(t, len(long.msg), maxText)
	require.NotContains(t, long.msg, "\uFFFD")
}

func TestRequestIDFromHeaderBeforeBody(t *testing.T) {
	t.Parallel()
	header := func(id string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if id != "" {
				w.Header().Set("X-Request-Id", id)
			}
			responds(409, `{"error_code":"WKS.00010032","error_msg":"m","request_id":"body"}`)(w, r)
		}
	}
	_, err := setup(t, header("head")).GetDesktop(t.Context(), testDesktop)
	require.Equal(t, "head", asError(t, err).RequestID)
	_, err = setup(t, header("")).GetDesktop(t.Context(), testDesktop)
	require.Equal(t, "body", asError(t, err).RequestID)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for value, wanted := range map[string]time.Duration{
		"": 0, "30": 30 * time.Second, " 7 ": 7 * time.Second, "-5": 0, "soon": 0, "999999999999": 24 * time.Hour,
		"99999999999999999999999":                                 24 * time.Hour,
		"-99999999999999999999999":                                0,
		"9223372036854775808":                                     24 * time.Hour,
		testTime.Add(90 * time.Second).Format(http.TimeFormat):    90 * time.Second,
		testTime.Add(-time.Minute).Format(http.TimeFormat):        0,
		testTime.Add(1000 * time.Hour).Format(http.TimeFormat):    24 * time.Hour,
		testTime.Add(90 * time.Second).Format(time.RFC850):        90 * time.Second,
		testTime.Add(90 * time.Second).Format(time.RFC3339 + "x"): 0,
	} {
		b := setup(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", value)
			responds(429, `{"error_code":"APIGW.0308"}`)(w, r)
		})
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.Equal(t, wanted, asError(t, err).RetryAfter, value)
	}
}

// A date counts from our clock if the answer has no date of its own, or an absurd one.
func TestRetryAfterWithoutADate(t *testing.T) {
	t.Parallel()
	for _, date := range [][]string{nil, {"yesterday"}, {"Thu, 01 Jan 1970 00:00:00 GMT"}} {
		b := setup(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = date
			w.Header().Set("Retry-After", testTime.Add(90*time.Second).Format(http.TimeFormat))
			responds(429, `{"error_code":"APIGW.0308"}`)(w, r)
		})
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.Equal(t, 90*time.Second, asError(t, err).RetryAfter, "%v", date)
	}
}

func TestErrorTextIsOneSafeLine(t *testing.T) {
	t.Parallel()
	e := &Error{
		Operation: "rebuild", Class: Conflict, Status: 409, Code: "WKS.00010032", Msg: "state\n\x1b[31mred\u202e 中文\xff", Detail: "d\r",
		RequestID: "r\x00", Err: errors.New("under\tneath"), EncodedAuthorizationMessage: "encoded",
	}
	require.Equal(t, `rebuild: conflict, status 409, WKS.00010032: state\n\x1b[31mred\u202e 中文\ufffd: d\r: under\tneath (request id r\x00)`, e.Error())
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Error("x", "error", e)
	require.Contains(t, log.String(), `"request_id":"r\\x00"`)
	require.Contains(t, log.String(), `"class":"conflict"`)
	for _, text := range []string{e.Error(), log.String()} {
		require.NotContains(t, text, "encoded")
		require.NotContains(t, strings.TrimSpace(text), "\n")
	}
	require.Equal(t, "get-desktop: not sent", (&Error{Operation: "get-desktop", Class: NotSent}).Error())
}

func TestPredicatesOfErrors(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("wrapped: %w", &Error{Class: Lost, Err: fmt.Errorf("send: %w", context.DeadlineExceeded)})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, Lost, ClassOf(err))
	require.Empty(t, ClassOf(io.EOF))
	require.Empty(t, ClassOf(nil))
	require.True(t, (&Error{Class: "new"}).MayHaveExecuted())
	require.True(t, (&Error{}).MayHaveExecuted())
}
