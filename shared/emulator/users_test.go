package emulator

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// change makes a control call.
func (b *bundle) change(t *testing.T, path, body string) reply {
	t.Helper()
	return do(t, b.request(t, http.MethodPut, controlPrefix+path, body))
}

func TestUsersLogInAndOffByScript(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Desktops: 4, Speed: 2})
	status := func(i int) string { return b.desktop(t, b.ids[i]).LoginStatus }
	r := b.change(t, "users", `[
		{"every": 2, "login_status": "CONNECTED"},
		{"desktop_id": "`+b.ids[1]+`", "at": 120, "login_status": "DISCONNECTED"},
		{"desktop_id": "`+b.ids[1]+`", "at": 240, "login_status": "CONNECTED"},
		{"desktop_id": "`+b.ids[0]+`", "at": 60, "login_status": "DISCONNECTED"},
		{"desktop_id": "`+b.ids[2]+`", "after_call": "check-images", "login_status": "CONNECTED"}]`)
	require.Equal(t, http.StatusOK, r.status, r.text)
	for i, want := range []string{"REGISTERED", "CONNECTED", "REGISTERED", "CONNECTED"} {
		require.Equal(t, want, status(i))
	}
	b.clock.Add(time.Minute) // two, at this speed
	require.Equal(t, "DISCONNECTED", status(1))
	require.Equal(t, "REGISTERED", status(0), "who is not logged in leaves no session")
	b.clock.Add(time.Minute)
	require.Equal(t, "CONNECTED", status(1))

	require.Equal(t, "REGISTERED", status(2))
	b.post(t, "desktops/check-images", object{"desktop_ids": []string{b.ids[0]}})
	require.Equal(t, "REGISTERED", status(2), "the call is about another desktop")
	b.post(t, "desktops/check-images", object{"desktop_ids": b.ids})
	require.Equal(t, "CONNECTED", status(2))

	for _, bad := range []string{
		`[{"every":1,"login_status":"AWAY"}]`, `[{"login_status":"CONNECTED"}]`, `[{"every":1,"desktop_id":"x","login_status":"CONNECTED"}]`,
		`[{"desktop_id":"x","login_status":"CONNECTED"}]`, `[{"every":-1,"login_status":"CONNECTED"}]`, `[{"every":1,"at":-1,"login_status":"CONNECTED"}]`,
		`[{"every":1,"at":1,"after_call":"rebuild","login_status":"CONNECTED"}]`, `[{"every":1,"after_call":"x","login_status":"CONNECTED"}]`, `{}`,
	} {
		require.Equal(t, http.StatusBadRequest, b.change(t, "users", bad).status, bad)
	}
}

// A user who logs in between the check and the rebuild is counted.
func TestARebuildOfADesktopInUseIsCounted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{Desktops: 2, DataDir: dir})
	require.NoError(t, b.SetUsers([]User{
		{DesktopID: b.ids[0], AfterCall: CallGetDesktop, LoginStatus: loginConnected},
		{DesktopID: b.ids[0], At: 300, LoginStatus: loginDisconnected},
		{DesktopID: b.ids[1], At: 7200, LoginStatus: loginConnected},
	}))
	require.Equal(t, "REGISTERED", b.desktop(t, b.ids[0]).LoginStatus, "the check")
	b.startRebuild(t, OtherGoldImageID, b.ids...)
	b.clock.Add(time.Minute)
	require.Equal(t, "UNREGISTER", b.desktop(t, b.ids[0]).LoginStatus)

	b = serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Now: b.clock.Now}, b.clock)
	b.clock.Add(time.Hour)
	st := b.State()
	require.Equal(t, 1, st.Desktops[0].Notes.RebuiltInUse)
	require.Equal(t, "REGISTERED", st.Desktops[0].LoginStatus)
	require.Zero(t, st.Desktops[1].Notes.RebuiltInUse)
	require.Equal(t, 1, st.Desktops[1].Notes.Rebuilds)
	b.clock.Add(time.Hour)
	require.Equal(t, "CONNECTED", b.State().Desktops[1].LoginStatus, "steps survive a kill")
}

func TestJobsOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Desktops: 4})
	r := b.change(t, "jobs", `[{"type":"reboot","every":2},{"type":"rebuild","desktop_id":"`+b.ids[0]+`","image_id":"`+OtherGoldImageID+`"}]`)
	require.Equal(t, http.StatusOK, r.status, r.text)
	require.Equal(t, http.StatusConflict, b.post(t, "desktops/rebuild", rebuildOf(b.ids[1])).status)
	require.Equal(t, http.StatusConflict, b.post(t, "desktops/rebuild", rebuildOf(b.ids[0])).status)
	b.clock.Add(time.Minute)
	d := b.desktop(t, b.ids[1])
	require.Equal(t, "rebooting", d.TaskStatus)
	require.Equal(t, "UNREGISTER", d.LoginStatus)
	b.clock.Add(time.Minute)
	d = b.desktop(t, b.ids[1])
	require.Empty(t, d.TaskStatus)
	require.Equal(t, "REGISTERED", d.LoginStatus)
	require.Nil(t, d.Notes)
	b.startRebuild(t, OtherGoldImageID, b.ids[1])
	b.clock.Add(time.Hour)
	require.Equal(t, OtherGoldImageID, b.desktop(t, b.ids[0]).Metadata[metaImageID])
	require.Len(t, b.State().Jobs, 3)
	for _, bad := range []string{
		`[{"type":"off","every":1}]`, `[{"type":"reboot"}]`, `[{"type":"reboot","every":9}]`, `[{"type":"reboot","every":1,"image_id":"x"}]`,
		`[{"type":"rebuild","every":1,"image_id":"x"}]`, `[{"type":"reboot","desktop_id":"x"}]`,
	} {
		require.Equal(t, http.StatusBadRequest, b.change(t, "jobs", bad).status, bad)
	}
}
