package emulator

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestImageJobThenRebuild(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	source, target := b.ids[0], b.ids[1]

	job := b.startImage(t, "golden 2026.01", source)
	sub := b.subJobs(t, job)
	require.Len(t, sub, 1)
	require.Equal(t, "WAITING", sub[0].Status)
	require.Equal(t, "desktopToImage", sub[0].JobType)
	require.Equal(t, job, sub[0].JobID)
	require.Equal(t, source, sub[0].Entities.DesktopID)
	require.Equal(t, "2026-01-15 08:30:00", sub[0].BeginTime)
	require.Empty(t, sub[0].EndTime)

	b.clock.Add(10 * time.Minute)
	sub = b.subJobs(t, job)
	require.Equal(t, "RUNNING", sub[0].Status)
	require.InDelta(t, 50, sub[0].Process, 1)
	require.Empty(t, b.desktop(t, source).TaskStatus)
	require.Equal(t, "UNREGISTER", b.desktop(t, source).LoginStatus)
	require.Empty(t, b.privateImages(t))

	b.clock.Add(10 * time.Minute)
	require.Equal(t, "SUCCESS", b.subJobs(t, job)[0].Status)
	require.Equal(t, "2026-01-15 08:50:00", b.subJobs(t, job)[0].EndTime)
	require.Empty(t, b.privateImages(t), "the image is listed after a lag")
	b.clock.Add(20 * time.Second)
	images := b.privateImages(t)
	require.Len(t, images, 1)
	require.Equal(t, "golden 2026.01", images[0].Name)
	require.Equal(t, "2026-01-15T08:50:00Z", images[0].CreatedAt)
	require.Equal(t, "Windows", images[0].OSType)

	before := b.desktop(t, target)
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": []string{target}, "image_type": "private", "image_id": images[0].ID})
	require.Equal(t, http.StatusOK, r.status, r.text)
	b.clock.Add(10 * time.Minute)
	require.Equal(t, "SUCCESS", b.subJobs(t, r.body["job_id"].(string))[0].Status)
	require.Equal(t, before.Metadata, b.desktop(t, target).Metadata, "the desktop lags behind its job")
	require.Equal(t, GoldImageID, b.runs(t, target))

	b.clock.Add(20 * time.Second)
	after := b.desktop(t, target)
	require.Equal(t, images[0].ID, after.Metadata["metering.image_id"])
	require.Equal(t, "golden 2026.01", after.Metadata["image_name"])
	require.NotEqual(t, before.RootVolume.VolumeID, after.RootVolume.VolumeID)
	require.NotEqual(t, before.RootVolume.CreateTime, after.RootVolume.CreateTime)
	require.Equal(t, before.DataVolumes, after.DataVolumes)
	require.Equal(t, images[0].ID, b.runs(t, target))
	require.Equal(t, "UNREGISTER", after.LoginStatus)
	b.clock.Add(20 * time.Second)
	require.Equal(t, "REGISTERED", b.desktop(t, target).LoginStatus)
}

func TestRebuildWaitsForDelayTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Speed: 60}) // a minute takes a second
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": b.ids[:2], "image_type": "gold", "image_id": OtherGoldImageID,
		"delay_time": 15, "message": "Please save your work."})
	require.Equal(t, http.StatusOK, r.status, r.text)
	job := r.body["job_id"].(string)
	b.clock.Add(14 * time.Second)
	for _, sub := range b.subJobs(t, job) {
		require.Equal(t, "WAITING", sub.Status)
	}
	require.Equal(t, "REGISTERED", b.desktop(t, b.ids[0]).LoginStatus)
	require.Nil(t, b.desktop(t, b.ids[0]).Process)
	require.Equal(t, "Please save your work.", b.State().Jobs[0].Notes.Message)

	b.clock.Add(1100 * time.Millisecond)
	seen := map[string]bool{}
	for range 99 {
		require.Equal(t, "RUNNING", b.subJobs(t, job)[0].Status)
		d := b.desktop(t, b.ids[0])
		seen[d.TaskStatus] = true
		require.NotNil(t, d.Process)
		require.Less(t, *d.Process, 100)
		b.clock.Add(100 * time.Millisecond)
	}
	require.Equal(t, map[string]bool{"": true, "rebuilding": true, "rebuild_block_device_mapping": true, "rebuild_spawning": true, "rebooting": true}, seen)
	require.Equal(t, "SUCCESS", b.subJobs(t, job)[1].Status)
}

func TestLongestDelayTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Speed: 0.001})
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": b.ids[:1], "image_type": "gold", "image_id": OtherGoldImageID, "delay_time": 2147483647})
	require.Equal(t, http.StatusOK, r.status, r.text)
	b.clock.Add(24 * time.Hour)
	require.Equal(t, "WAITING", b.subJobs(t, r.body["job_id"].(string))[0].Status)
}

func TestRebuildReplacesTheSystem(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	b.startRebuild(t, LinuxGoldImageID, b.ids...)
	b.clock.Add(11 * time.Minute)
	for _, id := range b.ids {
		d := b.desktop(t, id)
		require.Equal(t, "Linux", d.Metadata["os_type"])
		require.Equal(t, "UnionTechOS 20", d.OSVersion)
		require.Equal(t, "gold-uos-20", d.Metadata["image_name"])
	}
	b.startRebuild(t, MarketImageID, b.ids[0])
	b.clock.Add(11 * time.Minute)
	require.Equal(t, MarketImageID, b.runs(t, b.ids[0]))
	for _, img := range b.State().Images {
		require.Equal(t, img.ID == MarketImageID, img.ImageType == "market")
	}
	require.NotContains(t, b.get(t, "images").text, MarketImageID)
}

func TestBusyDesktopIsAConflict(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	b.startImage(t, "first", b.ids[0])
	b.startRebuild(t, OtherGoldImageID, b.ids[1])
	conflict := func(path string, body object, id, operation string) {
		got := b.post(t, path, body)
		require.Equal(t, http.StatusConflict, got.status, got.text)
		require.Equal(t, "WKS.00010032", got.code())
		require.Contains(t, got.msg(), id)
		require.Contains(t, got.msg(), operation)
		require.Contains(t, got.msg(), "ACTIVE")
		require.NotContains(t, got.body, "request_id", "from the service, not the gateway")
	}
	for _, id := range b.ids[:2] {
		conflict("desktops/desktop-to-image", object{"image_name": "second", "desktop_id": id}, id, "CREATE_IMAGE")
		conflict("desktops/rebuild", object{"desktop_ids": []string{b.ids[2], id}, "image_type": "gold", "image_id": OtherGoldImageID}, id, "REBUILD")
	}
	require.Len(t, b.State().Jobs, 2, "one busy desktop refuses the whole batch")
	b.startRebuild(t, OtherGoldImageID, b.ids[2])
	b.clock.Add(10*time.Minute + 10*time.Second)
	conflict("desktops/rebuild", object{"desktop_ids": []string{b.ids[1]}, "image_type": "gold", "image_id": OtherGoldImageID}, b.ids[1], "REBUILD")
	b.clock.Add(10 * time.Second)
	b.startRebuild(t, OtherGoldImageID, b.ids[1])
}

func TestPartialBatches(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{PartialBatches: true})
	b.startImage(t, "busy", b.ids[0])
	job := b.startRebuild(t, OtherGoldImageID, b.ids[0], "nobody", b.ids[1])
	subs := b.subJobs(t, job)
	require.Len(t, subs, 1)
	require.Equal(t, b.ids[1], subs[0].Entities.DesktopID)
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": []string{b.ids[0]}, "image_type": "gold", "image_id": OtherGoldImageID})
	require.Equal(t, http.StatusConflict, r.status)
	r = b.post(t, "desktops/rebuild", object{"desktop_ids": []string{"nobody"}, "image_type": "gold", "image_id": OtherGoldImageID})
	require.Equal(t, http.StatusNotFound, r.status)
}

func TestStatesThatAllowOperations(t *testing.T) {
	t.Parallel()
	cases := []struct {
		status         string
		image, rebuild int
	}{
		{"ACTIVE", http.StatusOK, http.StatusOK},
		{"SHUTOFF", http.StatusConflict, http.StatusOK},
		{"HIBERNATED", http.StatusConflict, http.StatusConflict},
		{"ERROR", http.StatusConflict, http.StatusOK},
	}
	for _, c := range cases {
		t.Run(c.status, func(t *testing.T) {
			t.Parallel()
			st := generate(2)
			for i := range st.Desktops {
				st.Desktops[i].Status = c.status
			}
			b := setup(t, Options{Seed: encode(t, st)})
			require.Equal(t, c.image, b.post(t, "desktops/desktop-to-image", object{"image_name": "x", "desktop_id": b.ids[0]}).status)
			r := b.post(t, "desktops/rebuild", object{"desktop_ids": []string{b.ids[1]}, "image_type": "gold", "image_id": OtherGoldImageID})
			require.Equal(t, c.rebuild, r.status)
			b.clock.Add(time.Hour)
			if c.rebuild == http.StatusOK {
				require.Equal(t, "ACTIVE", b.desktop(t, b.ids[1]).Status)
			}
		})
	}
}

func TestSysprepWipesUserData(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	for i, body := range []object{
		{"image_name": "silent default"},
		{"image_name": "kept", "execute_sysprep": false},
		{"image_name": "cleared", "execute_sysprep": false, "is_clear_data": true},
	} {
		body["desktop_id"] = b.ids[i]
		require.Equal(t, http.StatusOK, b.post(t, "desktops/desktop-to-image", body).status)
	}
	b.clock.Add(21 * time.Minute)
	st := b.State()
	require.True(t, st.Desktops[0].Notes.UserDataWiped, "execute_sysprep is true by default")
	require.Nil(t, st.Desktops[1].Notes)
	require.True(t, st.Desktops[2].Notes.UserDataWiped)
}

func TestShowJobReturnsTheParent(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{
		{Call: CallRebuild, DesktopID: b.ids[0], Do: Do{Job: JobFail, ErrorCode: "WKS.1", ErrorMsg: "no room"}},
		{Call: CallRebuild, DesktopID: b.ids[4], Do: Do{Job: JobFail}},
	}))
	mixed := b.startRebuild(t, OtherGoldImageID, b.ids[0], b.ids[1])
	good := b.startRebuild(t, OtherGoldImageID, b.ids[2], b.ids[3])
	bad := b.startRebuild(t, OtherGoldImageID, b.ids[4])
	require.Equal(t, "RUNNING", b.get(t, "workspace-jobs/"+mixed).body["status"])
	b.clock.Add(10 * time.Minute)
	got := b.get(t, "workspace-jobs/"+mixed).body
	require.Equal(t, "COMPLETE", got["status"], "COMPLETE is not success")
	require.Equal(t, "WKS.1", got["job_error_code"])
	require.Equal(t, "no room", got["fail_reason"])
	require.InDelta(t, 2, got["sub_jobs_total"], 0)
	require.Equal(t, "SUCCESS", b.get(t, "workspace-jobs/"+good).body["status"])
	require.Equal(t, "FAIL", b.get(t, "workspace-jobs/"+bad).body["status"])
	require.Equal(t, http.StatusNotFound, b.get(t, "workspace-jobs/nobody").status)
}

func TestListsOfSubJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	rebuilt := b.startRebuild(t, OtherGoldImageID, b.ids[:3]...)
	b.clock.Add(5 * time.Minute)
	image := b.startImage(t, "x", b.ids[3])
	count := func(query ...string) int {
		r := b.get(t, "workspace-sub-jobs", query...)
		require.Equal(t, http.StatusOK, r.status, r.text)
		return int(r.body["total_count"].(float64))
	}
	require.Equal(t, 4, count())
	require.Equal(t, 4, count("job_id", ""), "an empty job_id filters nothing")
	require.Equal(t, 3, count("job_id", rebuilt))
	require.Equal(t, 0, count("job_id", "nobody"))
	require.Equal(t, 1, count("job_type", "desktopToImage"))
	require.Equal(t, 3, count("status", "RUNNING"))
	require.Equal(t, 4, count("status", "RUNNING", "status", "WAITING"))
	require.Equal(t, 0, count("desktop_pool_id", "pool"))
	paged := b.get(t, "workspace-sub-jobs", "limit", "2", "offset", "3").body
	require.InDelta(t, 4, paged["total_count"], 0)
	require.Len(t, paged["jobs"], 1)
	newest := b.get(t, "workspace-sub-jobs", "limit", "1").body["jobs"].([]any)[0].(object)
	require.Equal(t, image, newest["job_id"])
}

func TestListsOfImages(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	b.startImage(t, "alpha", b.ids[0])
	b.startImage(t, "alpha", b.ids[1])
	b.clock.Add(21 * time.Minute)
	require.Len(t, b.privateImages(t), 2, "names need not be unique")
	names := func(query ...string) []string {
		var out []string
		for _, i := range b.get(t, "images", query...).body["images"].([]any) {
			out = append(out, i.(object)["name"].(string))
		}
		return out
	}
	require.Equal(t, []string{"alpha", "alpha", "gold-uos-20", "gold-windows-11", "gold-windows-10"}, names())
	require.Equal(t, []string{"alpha", "alpha", "gold-uos-20", "gold-windows-10", "gold-windows-11"}, names("sort_field", "name"))
	require.Equal(t, []string{"gold-uos-20"}, names("os_type", "Linux"))
	require.Equal(t, []string{"gold-windows-11"}, names("image_id", OtherGoldImageID))
	require.Equal(t, []string{"gold-windows-11"}, names("image_type", "gold", "limit", "1", "offset", "1"))
	require.Empty(t, names("architecture", "arm"))
}

func TestJobsTakeTimesOfARange(t *testing.T) {
	t.Parallel()
	within, err := ParseJobTime("3m..60m")
	require.NoError(t, err)
	require.Equal(t, JobTime{3 * time.Minute, time.Hour}, within)
	b := setup(t, Options{Desktops: 40, Speed: 2, JobTime: within})
	different, image := map[time.Duration]bool{}, b.State().Images[1].ID
	for i := 0; i < len(b.ids); i += 2 {
		b.startRebuild(t, image, b.ids[i], b.ids[i+1])
	}
	for _, job := range b.State().Jobs {
		first, second := job.SubJobs[0].Notes, job.SubJobs[1].Notes
		require.Equal(t, first.Ends, second.Ends, "the desktops of a job end together")
		took := first.Ends.Sub(job.Notes.Accepted)
		require.GreaterOrEqual(t, took, 90*time.Second)
		require.LessOrEqual(t, took, 30*time.Minute)
		different[took] = true
	}
	require.Greater(t, len(different), 5)

	for text, want := range map[string]JobTime{"90s": {90 * time.Second, 90 * time.Second}, "1m..1m": {time.Minute, time.Minute}} {
		got, err := ParseJobTime(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "..", "5m..3m", "0s..3m", "-1m", "3m...60m", "3m..", "3"} {
		_, err := ParseJobTime(text)
		require.ErrorContains(t, err, "3m..60m", text)
	}
}
