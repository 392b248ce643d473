package rollout_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/shared/rollout"
)

func at(t require.TestingT, text string) time.Time {
	parsed, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return parsed
}

func TestAWindowOpensAndCloses(t *testing.T) {
	t.Parallel()
	night := &rollout.Window{Days: []string{"sat", "sun"}, From: "20:00", To: "06:00", Timezone: "Europe/Berlin"}
	weekend := &rollout.Window{Days: []string{"sat", "sun"}, From: "00:00", To: "24:00", Timezone: "Europe/Berlin"}
	jump := &rollout.Window{From: "02:15", To: "02:45", Timezone: "Europe/Berlin"}
	intoJump := &rollout.Window{From: "01:00", To: "02:30", Timezone: "Europe/Berlin"}
	outOfJump := &rollout.Window{From: "02:30", To: "04:00", Timezone: "Europe/Berlin"}
	for name, c := range map[string]struct {
		window           *rollout.Window
		now, until, next string // until "": closed
	}{
		"Saturday, before it opens":      {night, "2026-11-21T19:59:59+01:00", "", "2026-11-21T20:00:00+01:00"},
		"Saturday, as it opens":          {night, "2026-11-21T20:00:00+01:00", "2026-11-22T06:00:00+01:00", "2026-11-22T20:00:00+01:00"},
		"Sunday morning, of Saturday":    {night, "2026-11-22T05:59:59+01:00", "2026-11-22T06:00:00+01:00", "2026-11-22T20:00:00+01:00"},
		"Sunday, as it closes":           {night, "2026-11-22T06:00:00+01:00", "", "2026-11-22T20:00:00+01:00"},
		"Monday morning, of Sunday":      {night, "2026-11-23T05:00:00+01:00", "2026-11-23T06:00:00+01:00", "2026-11-28T20:00:00+01:00"},
		"Saturday morning, of no Friday": {night, "2026-11-21T05:00:00+01:00", "", "2026-11-21T20:00:00+01:00"},
		"asked in another zone":          {night, "2026-11-22T03:00:00+08:00", "2026-11-22T06:00:00+01:00", "2026-11-22T20:00:00+01:00"},
		"two whole days are one time":    {weekend, "2026-11-21T23:59:00+01:00", "2026-11-23T00:00:00+01:00", "2026-11-28T00:00:00+01:00"},

		"the night of the clocks forward": {night, "2026-03-29T01:30:00+01:00", "2026-03-29T06:00:00+02:00", "2026-03-29T20:00:00+02:00"},
		"the night of the clocks back":    {night, "2026-10-25T02:30:00+01:00", "2026-10-25T06:00:00+01:00", "2026-10-25T20:00:00+01:00"},
		"wholly within the jump":          {jump, "2026-03-29T01:59:59+01:00", "", "2026-03-30T02:15:00+02:00"},
		"after that jump":                 {jump, "2026-03-29T03:15:00+02:00", "", "2026-03-30T02:15:00+02:00"},
		"shown twice, the first":          {jump, "2026-10-25T02:20:00+02:00", "2026-10-25T02:45:00+02:00", "2026-10-26T02:15:00+01:00"},
		"shown twice, the second":         {jump, "2026-10-25T02:20:00+01:00", "", "2026-10-26T02:15:00+01:00"},
		"closes at the jump":              {intoJump, "2026-03-29T01:59:59+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T01:00:00+02:00"},
		"opens at the jump":               {outOfJump, "2026-03-29T01:59:59+01:00", "", "2026-03-29T03:00:00+02:00"},
		"opened at the jump":              {outOfJump, "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00", "2026-03-30T02:30:00+02:00"},
	} {
		now := at(t, c.now)
		open, until := c.window.Open(now)
		require.Equal(t, c.until != "", open, name)
		if open {
			require.Equal(t, at(t, c.until).UTC(), until.UTC(), name)
		}
		require.Equal(t, at(t, c.next).UTC(), c.window.Next(now).UTC(), name)
	}
	require.Equal(t, 10*time.Hour, night.Length())
	require.Equal(t, 24*time.Hour, weekend.Length())
	require.Equal(t, 90*time.Minute, outOfJump.Length())
}

func TestWithoutAWindowItIsAlwaysOpen(t *testing.T) {
	t.Parallel()
	now := at(t, "2026-11-21T19:59:59+01:00")
	open, until := (*rollout.Window)(nil).Open(now)
	require.True(t, open)
	require.Zero(t, until)
	require.Zero(t, (*rollout.Window)(nil).Next(now))
	require.Zero(t, (*rollout.Window)(nil).Length())

	always := &rollout.Window{From: "00:00", To: "24:00", Timezone: "UTC"}
	open, until = always.Open(now)
	require.True(t, open)
	require.Greater(t, until.Sub(now), 14*24*time.Hour)
	require.Zero(t, always.Next(now))
}

var days = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func drawWindow(t *rapid.T) *rollout.Window {
	clock := func(name string) string {
		n := rapid.IntRange(0, 24*60-1).Draw(t, name)
		return fmt.Sprintf("%02d:%02d", n/60, n%60)
	}
	w := &rollout.Window{From: clock("from"), To: clock("to")}
	if w.From == w.To {
		w.From, w.To = "00:00", "24:00"
	}
	w.Days = rapid.SliceOfNDistinct(rapid.SampledFrom(days), 0, 7, rapid.ID).Draw(t, "days")
	w.Timezone = rapid.SampledFrom([]string{
		"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai", "America/Sao_Paulo", "Pacific/Apia", "Africa/Cairo",
	}).Draw(t, "zone")
	return w
}

// Around the days on which clocks change, the window is open exactly when the clock is between From and To on its days,
// but for the hour that is shown twice: there it closes the first time.
func TestAWindowIsOpenWhenTheClockIsWithinIt(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWindow(t)
		zone, err := time.LoadLocation(w.Timezone)
		require.NoError(t, err)
		day := rapid.SampledFrom([]string{
			"2026-03-29", "2026-10-25", "2026-03-08", "2026-11-01", "2026-04-05", "2026-10-04", "2026-04-24", "2026-10-30", "2026-07-01", "2011-12-30", "2018-11-04",
		}).Draw(t, "day")
		now := at(t, day+"T00:00:00Z").Add(time.Duration(rapid.IntRange(-30*60, 54*60).Draw(t, "minute")) * time.Minute)

		open, until := w.Open(now)
		next := w.Next(now)
		local := now.In(zone)
		clock, date := local.Format("15:04"), local
		within := clock >= w.From && clock < w.To
		if w.To <= w.From {
			within = clock >= w.From || clock < w.To
			if clock < w.To {
				date = time.Date(local.Year(), local.Month(), local.Day()-1, 12, 0, 0, 0, time.UTC)
			}
		}
		if len(w.Days) > 0 && within {
			within = false
			for _, d := range w.Days {
				within = within || d == days[date.Weekday()]
			}
		}
		begin, _ := local.ZoneBounds()
		_, offset := local.Zone()
		_, before := begin.Add(-1).Zone()
		shownTwice := before > offset && now.Sub(begin) < time.Duration(before-offset)*time.Second
		switch {
		case shownTwice, w.Timezone == "Pacific/Apia" && day == "2011-12-30": // a date that did not exist there
		default:
			require.Equal(t, within, open)
		}
		if open {
			require.True(t, until.After(now))
			still, _ := w.Open(until.Add(-time.Second))
			require.True(t, still)
			if until.Sub(now) < 10*24*time.Hour {
				after, _ := w.Open(until)
				require.False(t, after)
			}
		}
		if !next.IsZero() {
			require.True(t, next.After(now))
			opens, _ := w.Open(next)
			require.True(t, opens)
			before, _ := w.Open(next.Add(-time.Second))
			require.False(t, before)
		} else {
			require.True(t, open, "a window that is closed opens some day")
		}
	})
}
