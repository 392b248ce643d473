package workspace

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestServiceNowFollowsTheDateHeaders(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"desktop":{"desktop_id":"d"}}`))
	b.clock.Add(10 * time.Minute) // our clock is ahead
	require.Equal(t, testTime.Add(10*time.Minute), b.ServiceNow())
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.NoError(t, err)
	require.WithinDuration(t, testTime, b.ServiceNow(), time.Second)
	b.clock.Add(time.Minute)
	require.WithinDuration(t, testTime.Add(time.Minute), b.ServiceNow(), time.Second)
	require.Equal(t, time.UTC, b.ServiceNow().Location())
}

func TestServiceNowDoesNotJitter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := testTime
		c := clock{now: func() time.Time { return now }}
		truth := time.Duration(rapid.IntRange(-900, 900).Draw(t, "skew")) * time.Millisecond
		last := time.Time{}
		for i := range 20 {
			sent := c.moment()
			out := time.Duration(rapid.IntRange(0, 3000).Draw(t, "out")) * time.Millisecond
			back := time.Duration(rapid.IntRange(0, 3000).Draw(t, "back")) * time.Millisecond
			date := now.Add(out + truth).Truncate(time.Second)
			now = now.Add(out + back)
			c.learn(date, sent, c.moment())
			if off := c.service().Sub(now) - truth; off.Abs() > 3500*time.Millisecond+time.Second {
				t.Fatalf("after %d answers off by %v", i, off)
			}
			if i > 0 && c.service().Before(last.Add(-4*time.Second)) {
				t.Fatal("the clock ran backwards further than the error of a Date header")
			}
			last = c.service()
		}
	})
	still := clock{now: func() time.Time { return testTime }}
	at := still.moment()
	still.learn(testTime, at, at)
	require.Equal(t, testTime, still.service(), "an answer that agrees changes nothing")
	still.learn(time.Time{}, at, at)
	still.learn(testTime.Add(time.Hour), at, moment{wall: testTime.Add(-time.Hour)})
	require.Equal(t, testTime, still.service(), "no date, or our clock was set back in the meantime: nothing to learn")
}

func TestServiceNowContinuesWhenOneOfOurClocksStops(t *testing.T) {
	t.Parallel()
	now, steady := testTime, time.Duration(0)
	c := clock{now: func() time.Time { return now }, steady: func() time.Duration { return steady }}
	_, known := c.read()
	require.False(t, known)
	date := testTime.Add(20 * time.Minute)
	c.learn(date, c.moment(), c.moment())
	_, known = c.read()
	require.True(t, known)
	require.WithinDuration(t, date, c.service(), time.Second)

	now, steady = testTime.Add(-3*time.Hour), time.Minute
	require.WithinDuration(t, date.Add(time.Minute), c.service(), time.Second, "the wall clock was set back")
	now = testTime.Add(2 * time.Hour)
	require.WithinDuration(t, date.Add(2*time.Hour), c.service(), time.Second, "the machine was asleep")

	sent := c.moment()
	now, steady = now.Add(3*time.Hour), steady+time.Second
	c.learn(date, sent, c.moment())
	require.WithinDuration(t, date, c.service(), 2*time.Second, "the wall clock was set during the call")
}

func TestAKeyIsProbedAMinuteLaterAlthoughTheWallClockWasSetBack(t *testing.T) {
	t.Parallel()
	now, steady := testTime, time.Duration(0)
	g := newRefusals(&clock{now: func() time.Time { return now }, steady: func() time.Duration { return steady }})
	g.learn(&Error{Class: Unauthorized})
	now, steady = testTime.Add(-3*time.Hour), 59*time.Second
	require.NotNil(t, g.refused(call{}))
	steady = time.Minute
	require.Nil(t, g.refused(call{}))
	require.NotNil(t, g.refused(call{write: true}))
}

func TestDateOfIgnoresImpossibleDates(t *testing.T) {
	t.Parallel()
	for value, wanted := range map[string]time.Time{
		testTime.Format(http.TimeFormat): testTime, "": {}, "today": {}, "Thu, 01 Jan 1970 00:00:00 GMT": {},
		"Sat, 01 Jan 2300 00:00:00 GMT": {},
	} {
		require.Equal(t, wanted, dateOf(http.Header{"Date": {value}}), value)
	}
}

func unauthorized(date time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		responds(401, `{"error_code":"APIGW.0301","error_msg":"signature expired"}`)(w, r)
	}
}

func TestReadIsSignedOnceMoreIfTheClockWasWrong(t *testing.T) {
	t.Parallel()
	actual := testTime.Add(40 * time.Minute)
	b := setup(t, answers(unauthorized(actual), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", actual.Format(http.TimeFormat))
		responds(200, `{"desktop":{"desktop_id":"d"}}`)(w, r)
	}))
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.NoError(t, err)
	got := b.seen()
	require.Len(t, got, 2)
	require.Equal(t, "20260115T083000Z", got[0].header.Get("X-Sdk-Date"))
	require.Equal(t, "20260115T091000Z", got[1].header.Get("X-Sdk-Date"))
}

func TestUnauthorizedIsNotRepeatedOtherwise(t *testing.T) {
	t.Parallel()
	off := testTime.Add(40 * time.Minute)
	t.Run("corrected only once", func(t *testing.T) {
		t.Parallel()
		b := setup(t, answers(unauthorized(off), unauthorized(off.Add(time.Hour)), unauthorized(off.Add(2*time.Hour))))
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.True(t, IsUnauthorized(err))
		require.Len(t, b.seen(), 2)
	})
	t.Run("clock is right", func(t *testing.T) {
		t.Parallel()
		b := setup(t, unauthorized(testTime.Add(30*time.Second)))
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.True(t, IsUnauthorized(err))
		require.Len(t, b.seen(), 1)
	})
	t.Run("no date", func(t *testing.T) {
		t.Parallel()
		b := setup(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			responds(401, ``)(w, r)
		})
		_, err := b.CheckImages(t.Context(), []string{"d"})
		require.True(t, IsUnauthorized(err))
		require.Len(t, b.seen(), 1)
	})
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		b := setup(t, unauthorized(off), func(c *Options) { c.Auth = Token("tok-1234") })
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.True(t, IsUnauthorized(err))
		require.Len(t, b.seen(), 1)
	})
	t.Run("a write corrects the clock, and its caller chooses the new date", func(t *testing.T) {
		t.Parallel()
		b := setup(t, unauthorized(off))
		_, err := b.Rebuild(t.Context(), b.ServiceNow(), rebuildRequest())
		require.Equal(t, NotSent, ClassOf(err), "the credentials may be good; with a new date it may be sent")
		require.False(t, asError(t, err).MayHaveExecuted())
		require.Len(t, b.seen(), 1)
		require.WithinDuration(t, off, b.ServiceNow(), time.Second)
	})
}
