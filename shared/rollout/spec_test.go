package rollout_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/shared/rollout"
)

func example(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("testdata/spec.yaml")
	require.NoError(t, err)
	return string(data)
}

func TestTheExampleIsReadWithEveryField(t *testing.T) {
	t.Parallel()
	got, err := rollout.ParseSpec([]byte(example(t)))
	require.NoError(t, err)
	no, yes := false, true
	require.Equal(t, rollout.Spec{
		Name:  "win11-november",
		Image: rollout.Image{FromDesktop: "d-1", ExecuteSysprep: &no, OSType: "Windows"},
		Targets: rollout.Targets{
			Where: &rollout.Where{
				ImageID: "i-1", Tags: map[string]string{"ring": "a", "floor": "02"}, EnterpriseProjectID: "0", UserAttached: &yes,
				Status: "ACTIVE",
			},
			Except: &rollout.Except{DesktopIDs: []string{"d-7"}, Tags: map[string]string{"protect": "true"}},
		},
		Strategy: rollout.Strategy{
			Canary: 5, CanaryMaxFailed: 1, Waves: []string{"10%", "50%", "100%"}, MaxUnavailable: 200,
			MaxFailed: rollout.Amount{IsShare: true, Percent: 2}, Soak: rollout.Duration(10 * time.Minute),
		},
		Users: rollout.Users{
			Connected: "defer", DelayTime: 15, Message: "Please save your work.", MaxDeferrals: 5,
			DeferFor: rollout.Duration(20 * time.Minute), Then: "skip",
		},
		Window:   &rollout.Window{Days: []string{"sat", "sun"}, From: "20:00", To: "06:00", Timezone: "Europe/Berlin"},
		Approval: rollout.Approval{Required: true, Within: rollout.Duration(48 * time.Hour)},
		Options:  rollout.Options{OrderID: "CS2611", EnterpriseProjectID: "0", EncryptType: "KEEP", SkipCurrent: &yes},
	}, got)
}

func TestWhatIsAbsentHasItsDefault(t *testing.T) {
	t.Parallel()
	got, err := rollout.ParseSpec([]byte("name: n\nimage: {image_id: i, image_type: gold}\ntargets: {desktop_ids: [a]}\nwindow: null\nusers:\n"))
	require.NoError(t, err)
	want := rollout.Defaults()
	want.Name = "n"
	want.Image = rollout.Image{ImageID: "i", ImageType: "gold"}
	want.Targets.DesktopIDs = []string{"a"}
	want.Approval = rollout.Approval{}
	require.Equal(t, want, got)

	got, err = rollout.ParseSpec([]byte(`{"name":"n","image":{"image_id":"i","image_type":"gold"},"targets":{"file":"f"},"approval":{"required":true}}`))
	require.NoError(t, err)
	require.Equal(t, rollout.Approval{Required: true, Within: rollout.Duration(48 * time.Hour)}, got.Approval)
}

func TestASpecOfAMessageIsTheSpecOfTheFile(t *testing.T) {
	t.Parallel()
	want, err := rollout.ParseSpec([]byte(example(t)))
	require.NoError(t, err)
	want.Users.Message = "Bitte speichern 🖥"
	data, err := json.Marshal(want)
	require.NoError(t, err)
	got, err := rollout.ParseSpec(data)
	require.NoError(t, err)
	require.Equal(t, want, got)
	escaped := strings.ReplaceAll(string(data), "🖥", `\ud83d\udda5`)
	got, err = rollout.ParseSpec([]byte("\n\t" + escaped))
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for text, of := range map[string]map[int]int{
		"0":      {0: 0, 100: 0},
		"7":      {5: 7, 100: 7},
		"2%":     {0: 0, 49: 0, 50: 1, 99: 1, 100: 2, 100_000: 2000},
		"0.29%":  {100_000: 290, 10_000: 29, 9_999: 28},
		"33.33%": {3: 0, 4: 1, 10_000: 3333},
		"100%":   {0: 0, 3: 3},
	} {
		amount, err := rollout.ParseAmount(text)
		require.NoError(t, err, text)
		require.Equal(t, text, amount.String())
		for n, want := range of {
			require.Equal(t, want, amount.Of(n), "%s of %d", text, n)
		}
	}
	for _, text := range []string{"", "%", "-1", "-1%", "101%", "100.01%", "1.234%", "1.%", ".5%", "2 %", "+2", "1e2", "1.5", "9999999999"} {
		_, err := rollout.ParseAmount(text)
		require.Error(t, err, text)
	}
}

func TestAmountsAndDurationsKeepTheirValueInJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type both struct {
			A rollout.Amount
			D rollout.Duration
		}
		v := both{
			A: rollout.Amount{Number: rapid.IntRange(0, 1_000_000).Draw(t, "number")},
			D: rollout.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "duration")),
		}
		if rapid.Bool().Draw(t, "share") {
			v.A = rollout.Amount{IsShare: true, Percent: float64(rapid.IntRange(0, 10_000).Draw(t, "hundredths")) / 100}
		}
		data, err := json.Marshal(v)
		require.NoError(t, err)
		var got both
		require.NoError(t, json.Unmarshal(data, &got))
		require.Equal(t, v, got)
	})
	require.Error(t, json.Unmarshal([]byte(`"101%"`), new(rollout.Amount)))
	require.Error(t, json.Unmarshal([]byte(`5`), new(rollout.Duration)))
	require.Error(t, json.Unmarshal([]byte(`"5"`), new(rollout.Duration)))
	for d, want := range map[time.Duration]string{
		0: "0s", 10 * time.Minute: "10m", 48 * time.Hour: "48h", 90 * time.Second: "1m30s", time.Hour + time.Second: "1h0m1s", 5 * time.Second: "5s",
	} {
		require.Equal(t, want, rollout.Duration(d).String())
	}
}
