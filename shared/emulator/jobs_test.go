package emulator

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestImageJobThenRebuild(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
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

	b.clock.advance(10 * time.Minute)
	sub = b.subJobs(t, job)
	require.Equal(t, "RUNNING", sub[0].Status)
	require.InDelta(t, 50, sub[0].Process, 1)
	require.Empty(t, b.desktop(t, source).TaskStatus)
	require.Equal(t, "UNREGISTER", b.desktop(t, source).LoginStatus)
	require.Empty(t, b.privateImages(t))

	b.clock.advance(10 * time.Minute)
	require.Equal(t, "SUCCESS", b.subJobs(t, job)[0].Status)
	require.Equal(t, "2026-01-15 08:50:00", b.subJobs(t, job)[0].EndTime)
	require.Empty(t, b.privateImages(t), "the image is listed after a lag")
	b.clock.advance(20 * time.Second)
	images := b.privateImages(t)
	require.Len(t, images, 1)
	require.Equal(t, "golden 2026.01", images[0].Name)
	require.Equal(t, "2026-01-15T08:50:00Z", images[0].CreatedAt)
	require.Equal(t, "Windows", images[0].OSType)

	before := b.desktop(t, target)
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": []string{target}, "image_type": "private", "image_id": images[0].ID})
	require.Equal(t, http.StatusOK, r.status, r.text)
	b.clock.advance(10 * time.Minute)
	require.Equal(t, "SUCCESS", b.subJobs(t, r.body["job_id"].(string))[0].Status)
	require.Equal(t, before.Metadata, b.desktop(t, target).Metadata, "the desktop lags behind its job")
	require.Equal(t, GoldImageID, b.runs(t, target))

	b.clock.advance(20 * time.Second)
	after := b.desktop(t, target)
	require.Equal(t, images[0].ID, after.Metadata["metering.image_id"])
	require.Equal(t, "golden 2026.01", after.Metadata["image_name"])
	require.NotEqual(t, before.RootVolume.VolumeID, after.RootVolume.VolumeID)
	require.NotEqual(t, before.RootVolume.CreateTime, after.RootVolume.CreateTime)
	require.Equal(t, before.DataVolumes, after.DataVolumes)
	require.Equal(t, images[0].ID, b.runs(t, target))
	require.Equal(t, "UNREGISTER", after.LoginStatus)
	b.clock.advance(20 * time.Second)
	require.Equal(t, "REGISTERED", b.desktop(t, target).LoginStatus)
}
