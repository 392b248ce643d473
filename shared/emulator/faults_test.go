package emulator

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// put sets faults by the control call.
func (b *bundle) put(t *testing.T, faults string) reply {
	t.Helper()
	return do(t, b.request(t, http.MethodPut, "/_emulator/faults", faults))
}

func TestFaultWithStatus(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.Equal(t, http.StatusOK, b.put(t, `[
		{"call": "rebuild", "times": 1, "do": {"status": 503, "retry_after": 7}},
		{"call": "rebuild", "times": 1, "do": {"status": 500, "error_code": "WKS.42", "error_msg": "out of cheese"}},
		{"call": "rebuild", "times": 1, "do": {"status": 504}},
		{"call": "rebuild", "times": 1, "do": {"status": 200}}]`).status)
	body := object{"desktop_ids": b.ids, "image_type": "gold", "image_id": OtherGoldImageID}
	r := b.post(t, "desktops/rebuild", body)
	require.Equal(t, 503, r.status)
	require.Equal(t, "7", r.header.Get("Retry-After"))
	r = b.post(t, "desktops/rebuild", body)
	require.Equal(t, 500, r.status)
	require.Equal(t, "WKS.42", r.code())
	require.Equal(t, "out of cheese", r.msg())
	r = b.post(t, "desktops/rebuild", body)
	require.Equal(t, "APIGW.0203", r.code())
	require.NotEmpty(t, r.body["request_id"])
	require.Equal(t, "{}", b.post(t, "desktops/rebuild", body).text)
	require.Empty(t, b.State().Jobs, "none of these has an effect")
	require.Equal(t, http.StatusOK, b.post(t, "desktops/rebuild", body).status)
}

func TestFaultsInOrderWithSkipAndTimes(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{
		{Call: CallGetDesktop, DesktopID: b.ids[1], Skip: 1, Times: 2, Do: Do{Status: 500}},
		{Call: CallAny, Skip: 2, Times: 1, Do: Do{Status: 503}},
	}))
	var got []int
	for range 6 {
		got = append(got, b.get(t, "desktops/"+b.ids[1]).status)
	}
	// The second fault gets only what the first let pass: requests 1, 4, 5, 6.
	require.Equal(t, []int{200, 500, 500, 200, 503, 200}, got)
	require.Equal(t, 200, b.get(t, "desktops/"+b.ids[0]).status)
}

func TestFaultsOfADesktopMatchListsToo(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallAny, DesktopID: b.ids[3], Do: Do{Status: 500}}}))
	require.Equal(t, 500, b.post(t, "desktops/check-images", object{"desktop_ids": b.ids}).status)
	require.Equal(t, 200, b.post(t, "desktops/check-images", object{"desktop_ids": b.ids[:3]}).status)
	require.Equal(t, 500, b.post(t, "desktops/desktop-to-image", object{"desktop_id": b.ids[3]}).status)
	require.Equal(t, 200, b.get(t, "images").status)
}

func TestDroppedConnections(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{
		{Call: CallRebuild, Times: 1, Do: Do{Drop: DropBefore}},
		{Call: CallRebuild, Times: 1, Do: Do{Drop: DropAfter}},
	}))
	send := func() {
		doDropped(t, b.sign(t, b.request(t, http.MethodPost, "desktops/rebuild", string(encode(t, rebuildOf(b.ids[0]))))))
	}
	send()
	require.Empty(t, b.State().Jobs)
	send()
	jobs := b.State().Jobs
	require.Len(t, jobs, 1)

	log := b.Requests(0, 0)
	require.Len(t, log, 2)
	require.Equal(t, []string{"before", "after"}, []string{log[0].Dropped, log[1].Dropped})
	require.Equal(t, []string{"", "job"}, []string{log[0].Effect, log[1].Effect})
	require.Equal(t, jobs[0].ID, log[1].JobID)
	require.Equal(t, b.ids[:1], log[1].DesktopIDs)
	require.Zero(t, log[1].Status)
}

func TestDelayEndsWithTheClient(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.Equal(t, http.StatusOK, b.put(t, `[{"call": "rebuild", "do": {"delay": "1h"}}]`).status)
	ctx, cancel := context.WithCancel(context.Background())
	data := encode(t, object{"desktop_ids": b.ids[:1], "image_type": "gold", "image_id": OtherGoldImageID})
	r := b.sign(t, b.request(t, http.MethodPost, "desktops/rebuild", string(data))).WithContext(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		res, err := client().Do(r)
		if err == nil {
			err = errors.Join(res.Body.Close(), errors.New("answered"))
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("want a cancelled request, got %v", err)
		}
	})
	require.Eventually(t, func() bool { return len(b.State().Jobs) == 1 }, 10*time.Second, time.Millisecond, "the effect comes before the delay")
	cancel()
	wg.Wait()
}

func TestCloseEndsDelays(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallListImages, Do: Do{Delay: time.Hour}}}))
	var wg sync.WaitGroup
	wg.Go(func() {
		res, err := client().Do(b.sign(t, b.request(t, http.MethodGet, "images", "")))
		if err != nil {
			t.Error(err)
			return
		}
		if err := res.Body.Close(); err != nil {
			t.Error(err)
		}
	})
	require.Eventually(t, func() bool { return len(b.Requests(0, 0)) == 1 }, 10*time.Second, time.Millisecond)
	require.NoError(t, b.Close())
	wg.Wait()
	require.Equal(t, http.StatusServiceUnavailable, b.get(t, "images").status)
}

func TestJobsFailByDesktop(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.Equal(t, http.StatusOK, b.put(t, `[
		{"call": "rebuild", "desktop_id": "`+b.ids[1]+`", "do": {"job": "fail", "error_code": "WKS.7", "error_msg": "no host"}},
		{"call": "rebuild", "desktop_id": "`+b.ids[2]+`", "do": {"job": "fail", "quirk": "late-failure"}},
		{"call": "desktop-to-image", "times": 1, "do": {"job": "fail"}},
		{"call": "rebuild", "do": {"delay": "1ms"}}]`).status)
	job := b.startRebuild(t, OtherGoldImageID, b.ids[:4]...)
	image := b.startImage(t, "never", b.ids[5])
	require.NoError(t, b.SetFaults(nil), "a decided failure stays decided")
	b.clock.Add(4 * time.Minute)
	subs := b.subJobs(t, job)
	require.Equal(t, "FAILED", subs[1].Status, "an early failure")
	require.Equal(t, "WKS.7", subs[1].ErrorCode)
	require.Equal(t, "no host", subs[1].FailReason)
	require.Equal(t, "RUNNING", subs[2].Status)
	require.Empty(t, subs[2].ErrorCode)
	require.Empty(t, b.desktop(t, b.ids[1]).TaskStatus)
	b.clock.Add(10 * time.Minute)
	subs = b.subJobs(t, job)
	require.Equal(t, []string{"SUCCESS", "FAILED", "FAILED", "SUCCESS"}, []string{subs[0].Status, subs[1].Status, subs[2].Status, subs[3].Status})
	require.NotEmpty(t, subs[2].FailReason)
	early, late := b.desktop(t, b.ids[1]), b.desktop(t, b.ids[2])
	require.Equal(t, "ACTIVE", early.Status)
	require.Equal(t, "ERROR", late.Status)
	require.Equal(t, GoldImageID, b.runs(t, b.ids[1]))
	require.Equal(t, OtherGoldImageID, b.runs(t, b.ids[0]))
	b.clock.Add(10 * time.Minute)
	require.Equal(t, "FAILED", b.subJobs(t, image)[0].Status)
	require.Contains(t, b.subJobs(t, image)[0].ErrorCode, "IMG.")
	require.Empty(t, b.privateImages(t))
	b.startImage(t, "again", b.ids[5])
}

func TestFaultsThatCouldNeverApplyAreRefused(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallRebuild, Do: Do{Status: 500}}}))
	for fault, text := range map[string]string{
		`{"call": "reboot", "do": {"status": 500}}`:                                 "reboot",
		`{"call": "rebuild", "do": {"quirk": "nonsense"}}`:                          "nonsense",
		`{"call": "rebuild", "do": {"quirk": "desktop-array"}}`:                     "desktop-array has no effect on the call rebuild",
		`{"call": "rebuild", "do": {"status": 500, "colour": "red"}}`:               "colour",
		`{"call": "rebuild", "desk": "x", "do": {"status": 500}}`:                   "desk",
		`{"call": "rebuild", "do": {}}`:                                             "do is empty",
		`{"call": "rebuild"}`:                                                       "do is empty",
		`{"call": "rebuild", "do": {"status": 99}}`:                                 "status 99",
		`{"call": "rebuild", "do": {"drop": "during"}}`:                             "during",
		`{"call": "rebuild", "do": {"job": "explode"}}`:                             "explode",
		`{"call": "get-desktop", "do": {"job": "fail"}}`:                            "starts no job",
		`{"call": "rebuild", "skip": -1, "do": {"status": 500}}`:                    "skip",
		`{"call": "rebuild", "do": {"delay": "soon"}}`:                              "soon",
		`{"call": "rebuild", "do": {"delay": -1}}`:                                  "out of range",
		`{"call": "rebuild", "do": {"delay": "-1s"}}`:                               "negative",
		`{"call": "rebuild", "do": {"status": 500, "drop": "after"}}`:               "excludes",
		`{"call": "rebuild", "do": {"drop": "after", "retry_after": 1}}`:            "retry_after",
		`{"call": "rebuild", "do": {"drop": "after", "error_code": "X"}}`:           "error_code",
		`{"call": "rebuild", "do": {"quirk": "late-failure"}}`:                      "late-failure",
		`{"call": "rebuild", "do": {"status": 429, "retry_after": {"seconds": 1}}}`: "retry_after",
	} {
		r := b.put(t, "["+fault+"]")
		require.Equal(t, http.StatusBadRequest, r.status, fault)
		require.Contains(t, r.text, text, fault)
	}
	for _, body := range []string{"", "{}", "[] []", "null x"} {
		require.Equal(t, http.StatusBadRequest, b.put(t, body).status, body)
	}
	require.Len(t, b.Faults(), 1, "a refused list changes nothing")
}

func TestFaultsAreReturnedAsTheyWereSet(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	const list = `[{"call":"rebuild","desktop_id":"d","skip":1,"times":2,"do":{"status":429,"error_code":"c","error_msg":"m","delay":"1.5s","retry_after":"Thu, 15 Jan 2026 08:31:00 GMT"}},
		{"call":"*","do":{"drop":"after"}},{"call":"rebuild","do":{"job":"fail","quirk":"late-failure"}}]`
	require.JSONEq(t, list, b.put(t, list).text)
	require.JSONEq(t, list, b.put(t, "\ufeff"+list).text, "from a file with a byte order mark")
	require.JSONEq(t, list, do(t, b.request(t, http.MethodGet, "/_emulator/faults", "")).text)
	var seconds []Fault
	require.NoError(t, json.Unmarshal([]byte(`[{"call":"rebuild","do":{"status":429,"delay":2.5,"retry_after":30}}]`), &seconds))
	require.Equal(t, Do{Status: 429, Delay: 2500 * time.Millisecond, RetryAfter: "30"}, seconds[0].Do)
}

func TestUnauthenticatedRequestsUseUpNoFault(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallListImages, Times: 1, Do: Do{Status: 500}}}))
	require.Equal(t, 401, do(t, b.request(t, http.MethodGet, "images", "")).status)
	require.Equal(t, 500, b.get(t, "images").status)
	require.NoError(t, b.SetFaults([]Fault{{Call: CallToken, Times: 1, Do: Do{Status: 503}}}))
	login := strings.Replace(loginBody, "%PW", DefaultIAMPassword, 1)
	require.Equal(t, 503, do(t, b.request(t, http.MethodPost, "/v3/auth/tokens", login)).status)
	require.Equal(t, 201, do(t, b.request(t, http.MethodPost, "/v3/auth/tokens", login)).status)
}
