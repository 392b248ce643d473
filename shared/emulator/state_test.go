package emulator

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func encode(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

func TestGeneratedFleetIsTheSameEveryTime(t *testing.T) {
	t.Parallel()
	require.Equal(t, generate(300), generate(300))
	seen := map[string]bool{}
	for _, d := range generate(5000).Desktops {
		require.True(t, validID.MatchString(d.DesktopID))
		require.False(t, seen[d.DesktopID] || seen[d.IPv4])
		seen[d.DesktopID], seen[d.IPv4] = true, true
		require.Equal(t, "ACTIVE", d.Status)
		require.Equal(t, GoldImageID, d.Metadata["metering.image_id"])
	}
}

// A state taken in the middle of jobs and used as a seed develops like the original world.
func TestStateIsASeed(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{})
	require.NoError(t, b.SetFaults([]Fault{{Call: CallRebuild, DesktopID: b.ids[2], Do: Do{Job: JobFail, Quirk: quirkLateFailure}}}))
	b.startImage(t, "captured", b.ids[0])
	b.startRebuild(t, OtherGoldImageID, b.ids[1], b.ids[2])
	for _, step := range []time.Duration{0, time.Second, 4 * time.Minute, 6 * time.Minute, 10 * time.Second, 15 * time.Second, 10 * time.Second, 10 * time.Minute} {
		b.clock.Add(step)
		copied := setup(t, Options{Seed: encode(t, b.State()), Now: b.clock.Now})
		require.JSONEq(t, string(encode(t, b.State())), string(encode(t, copied.State())))
		for _, later := range []time.Duration{time.Minute, time.Hour} {
			now := b.clock.Now().Add(later)
			twin, err := New(Options{Seed: encode(t, b.State()), Now: func() time.Time { return now }})
			require.NoError(t, err)
			require.Len(t, twin.State().Jobs, 2)
		}
	}
	require.Equal(t, "ERROR", b.State().Desktops[2].Status)
}

func TestSmallSeed(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{Seed: []byte(`{
		"desktops": [{"desktop_id": "one", "metadata": {"metering.image_id": "gone", "os_type": "Linux"}}, {"desktop_id": "two", "task_status": "migrating"}],
		"images": [{"id": "img", "image_type": "gold", "name": "n", "os_type": "Linux"}],
		"jobs": [{"id": "old", "job_type": "rebuildDesktops", "begin_time": "2026-01-01 00:00:00",
			"sub_jobs": [{"id": "sub", "job_id": "old", "job_type": "rebuildDesktops", "entities": {"desktop_id": "one"}, "status": "FAILED", "error_code": "E", "end_time": "2026-01-01 00:10:00"}]}]}`)})
	require.Equal(t, []string{"one", "two"}, b.ids)
	require.Empty(t, b.runs(t, "one"), "an image that is gone has no id")
	sub := b.subJobs(t, "old")
	require.Len(t, sub, 1)
	require.Equal(t, "FAILED", sub[0].Status)
	require.Equal(t, "E", sub[0].ErrorCode)
	require.Equal(t, "2026-01-01 00:10:00", sub[0].EndTime)
	r := b.post(t, "desktops/rebuild", object{"desktop_ids": []string{"two"}, "image_type": "gold", "image_id": "img"})
	require.Equal(t, http.StatusConflict, r.status, "a task of the seed keeps a desktop busy")
	require.Contains(t, r.msg(), "migrating")
	require.Equal(t, http.StatusOK, b.post(t, "desktops/rebuild", object{"desktop_ids": []string{"one"}, "image_type": "gold", "image_id": "img"}).status)
	b.clock.Add(time.Hour)
	require.Equal(t, "img", b.runs(t, "one"))
}

func TestBadSeedsAreRefused(t *testing.T) {
	t.Parallel()
	for seed, text := range map[string]string{
		`{`: "read seed",
		`{"desktops":[{"desktop_id":"a"},{"desktop_id":"a"}]}`:    `desktops[1]: desktop_id "a"`,
		`{"desktops":[{"desktop_id":"../a"}]}`:                    "desktops[0]",
		`{"images":[{"name":"x"}]}`:                               "images[0]",
		`{"jobs":[{"id":""}]}`:                                    "jobs[0]",
		`{"jobs":[{"id":"j","begin_time":"soon"}]}`:               "begin_time",
		`{"jobs":[{"id":"j","sub_jobs":[{"status":"RUNNING"}]}]}`: "_emulator plan",
	} {
		_, err := New(Options{Seed: []byte(seed)})
		require.ErrorContains(t, err, text, seed)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	t.Parallel()
	for text, cfg := range map[string]Options{
		"desktops":         {Desktops: -1},
		"speed":            {Speed: -2},
		"pace":             {Pace: -2},
		"signature window": {SignatureWindow: -1},
		"journal size":     {JournalSize: -1},
		"job time":         {JobTime: JobTime{Least: time.Hour, Most: time.Minute}},
		"per minute":       {ReadsPerMinute: -1},
	} {
		_, err := New(cfg)
		require.ErrorContains(t, err, text)
	}
}
