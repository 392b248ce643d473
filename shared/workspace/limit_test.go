package workspace

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/testkit/testclock"
)

func limitedBy(perMinute float64) (*bucket, *testclock.Clock) {
	clock := testclock.New()
	return newBucket("reads", perMinute, clock.Now), clock
}

// pass counts the calls that the bucket allows without a wait.
func pass(t *testing.T, b *bucket) int {
	t.Helper()
	for n := 0; ; n++ {
		if _, err := b.wait(t.Context(), 0); err != nil {
			require.ErrorIs(t, err, ErrLimited)
			return n
		}
		require.Less(t, n, 100_000)
	}
}

// inAMinute counts the calls of the next minute.
func inAMinute(t *testing.T, b *bucket, clock *testclock.Clock) int {
	t.Helper()
	n := pass(t, b)
	for range 600 {
		clock.Add(100 * time.Millisecond)
		n += pass(t, b)
	}
	return n
}

func TestRateBuckets(t *testing.T) {
	t.Parallel()
	for _, perMinute := range []float64{0.5, 1, 5, 10, 15, 19, 20, 100, 200, 1000} {
		b, clock := limitedBy(perMinute)
		calls := inAMinute(t, b, clock)
		require.LessOrEqual(t, float64(calls), max(perMinute, 1)+1, "in the first minute at %v a minute", perMinute)
		require.GreaterOrEqual(t, float64(calls), perMinute*0.9, "at %v a minute", perMinute)
	}
	b, _ := limitedBy(-1)
	for range 1000 {
		generation, err := b.wait(t.Context(), 0)
		require.NoError(t, err)
		b.slow(generation, 429, 0)
		b.good()
	}
	require.Equal(t, Limit{Calls: "reads", Unlimited: true, Level: 1, Throttled: 1000, Status: 429}, b.limit())
}

func TestThrottlingHalvesTheRateDownToATenth(t *testing.T) {
	t.Parallel()
	b, clock := limitedBy(200)
	require.InDelta(t, 200, inAMinute(t, b, clock), 2)
	for _, level := range []float64{0.5, 0.25, 0.125, 0.1, 0.1} {
		b.slow(b.generation, 429, 0)
		require.InDelta(t, level, b.limit().Level, 1e-9)
		require.InDelta(t, 200*level, b.limit().PerMinute, 1e-9)
		require.Zero(t, pass(t, b), "the saved calls are gone")
		require.LessOrEqual(t, inAMinute(t, b, clock), int(200*level)+1)
		require.GreaterOrEqual(t, inAMinute(t, b, clock), int(180*level)-1)
	}
}

func TestConcurrentCallsHalveTheRateOnce(t *testing.T) {
	t.Parallel()
	b, _ := limitedBy(200)
	var generations []uint64
	for range 10 {
		generation, err := b.wait(t.Context(), 0)
		require.NoError(t, err)
		generations = append(generations, generation)
	}
	for _, generation := range generations {
		b.slow(generation, 429, 0)
	}
	require.InDelta(t, 0.5, b.limit().Level, 1e-9, "all were in flight before the first answer came")
	require.EqualValues(t, 10, b.limit().Throttled)
}

func TestTheRateRecoversWithGoodAnswers(t *testing.T) {
	t.Parallel()
	b, clock := limitedBy(200)
	for range 5 {
		b.slow(b.generation, 429, 0)
	}
	clock.Add(time.Hour / 60)
	require.InDelta(t, 0.1, b.limit().Level, 1e-9, "time alone does not raise the rate")
	last := b.limit().Level
	for range 9 {
		b.good()
		require.Greater(t, b.limit().Level, last)
		last = b.limit().Level
		clock.Add(time.Minute)
	}
	require.Less(t, last, 1.0)
	b.good()
	require.InDelta(t, 1, b.limit().Level, 1e-9)
	require.GreaterOrEqual(t, inAMinute(t, b, clock), 180)
}

func TestRetryAfterPausesTheBucket(t *testing.T) {
	t.Parallel()
	b, clock := limitedBy(600)
	b.slow(b.generation, 429, 40*time.Second)
	require.Equal(t, testTime.Add(40*time.Second), b.limit().PausedUntil)
	_, err := b.wait(t.Context(), 39*time.Second)
	require.Equal(t, 40*time.Second, asError(t, err).RetryAfter)
	_, err = b.wait(t.Context(), 39*time.Second)
	require.InDelta(t, 40.22, asError(t, err).RetryAfter.Seconds(), 0.01, "they come back one after the other, at the rate")
	clock.Add(40 * time.Second)
	require.Positive(t, pass(t, b))
	require.True(t, b.limit().PausedUntil.IsZero())

	b.slow(b.generation, 429, 24*time.Hour)
	require.Equal(t, clock.Now().Add(15*time.Minute), b.limit().PausedUntil, "a Retry-After must not stop it for a day")
	b.slow(b.generation, 503, time.Second)
	require.Equal(t, clock.Now().Add(15*time.Minute), b.limit().PausedUntil, "a shorter one does not shorten it")
	require.Equal(t, 429, b.limit().Status, "of the answer that paused it")
	clock.Add(15 * time.Minute)
	b.slow(b.generation, 503, 0)
	require.Equal(t, 503, b.limit().Status)

	unlimited, _ := limitedBy(-1)
	unlimited.slow(0, 429, time.Minute)
	_, err = unlimited.wait(t.Context(), time.Second)
	require.Equal(t, time.Minute, asError(t, err).RetryAfter)
}

// TestABacklogDrainsAtTheRate has far more calls than the rate allows; each returns at the time of its RetryAfter.
func TestABacklogDrainsAtTheRate(t *testing.T) {
	t.Parallel()
	b, clock := limitedBy(200)
	due := make([]time.Time, 1500) // by call
	for i := range due {
		due[i] = testTime
	}
	attempts, most := make([]int, len(due)), 0
	for left := len(due); left > 0; clock.Add(100 * time.Millisecond) {
		for i, at := range due {
			if at.IsZero() || at.After(clock.Now()) {
				continue
			}
			attempts[i]++
			most = max(most, attempts[i])
			if _, err := b.wait(t.Context(), 0); err != nil {
				due[i] = clock.Now().Add(asError(t, err).RetryAfter)
				continue
			}
			due[i] = time.Time{}
			left--
		}
	}
	require.InDelta(t, 1500/200.0, clock.Now().Sub(testTime).Minutes(), 1.5, "at the rate")
	require.LessOrEqual(t, most, 4, "no call is held back many times")
}

func TestAClockThatIsSetBackStopsNothingForLong(t *testing.T) {
	t.Parallel()
	b, clock := limitedBy(200)
	b.slow(b.generation, 429, 10*time.Minute)
	pass(t, b)
	clock.Add(-48 * time.Hour)
	_, err := b.wait(t.Context(), 0)
	require.LessOrEqual(t, asError(t, err).RetryAfter, 15*time.Minute)
	clock.Add(15 * time.Minute)
	require.Positive(t, pass(t, b))
	b.good()
	clock.Add(time.Minute)
	b.good()
	require.Greater(t, b.limit().Level, 0.5)
}

func TestAWaitIsShortOrRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBucket("reads", 60, time.Now) // six at once, then one in 1.11 s
		require.Equal(t, 6, pass(t, b))
		begin := time.Now()
		_, err := b.wait(t.Context(), 5*time.Second)
		require.NoError(t, err)
		require.InDelta(t, 1.11, time.Since(begin).Seconds(), 0.01)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin = time.Now()
		_, err = b.wait(ctx, 5*time.Second)
		require.ErrorIs(t, err, ErrLimited)
		require.Zero(t, time.Since(begin), "refused at once, because the context would end first")

		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err = b.wait(ctx, 5*time.Second)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "rate limit")
	})
}

func TestThrottlingOfTheService(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 503} {
		b := setup(t, answers(
			func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "120")
				w.WriteHeader(status)
			},
			responds(200, `{"desktop":{"desktop_id":"d"}}`),
		), func(c *Options) { c.ReadsPerMinute, c.WritesPerMinute = 200, 100 })
		_, err := b.GetDesktop(t.Context(), testDesktop)
		require.Equal(t, status, asError(t, err).Status)

		_, err = b.GetDesktop(t.Context(), testDesktop)
		require.Equal(t, NotSent, ClassOf(err))
		require.ErrorIs(t, err, ErrLimited)
		require.Equal(t, 2*time.Minute, asError(t, err).RetryAfter)
		require.False(t, asError(t, err).MayHaveExecuted())
		require.Len(t, b.seen(), 1)

		limits := b.Limits()
		require.Equal(t, "reads", limits[0].Calls)
		require.InDelta(t, 100, limits[0].PerMinute, 1e-9)
		require.InDelta(t, 200, limits[0].Configured, 1e-9)
		require.EqualValues(t, 1, limits[0].Throttled)
		require.EqualValues(t, 1, limits[0].HeldBack)
		require.Equal(t, "writes", limits[1].Calls)
		require.InDelta(t, 1, limits[1].Level, 1e-9, "the other kind of calls is not slowed")

		b.clock.Add(2 * time.Minute)
		_, err = b.GetDesktop(t.Context(), testDesktop)
		require.NoError(t, err)
		b.clock.Add(5 * time.Minute)
		_, err = b.GetDesktop(t.Context(), testDesktop)
		require.NoError(t, err)
		require.InDelta(t, 0.95, b.Limits()[0].Level, 0.01)
	}
}

// A function on AWS has a share of the limit of the stack, which its sandboxes divide. A caller that makes several calls, such as
// the lists of both spellings of a type, would begin anew each time if the second one were held back.
func TestACallMayWaitForTheNextTurnHoweverRareTurnsAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handler := images(130, 100, nil)
		c := newClient(t, "http://127.0.0.1:1", func(o *Options) {
			o.ReadsPerMinute, o.WritesPerMinute, o.Now = 2, 2, time.Now
			o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				handler(w, r)
				return w.Result(), nil
			})
		})
		for range 2 {
			got, err := c.ListImages(t.Context(), ImagesQuery{})
			require.NoError(t, err)
			require.Len(t, got.Images, 130)
			require.NoError(t, c.CheckTurn())
			require.NoError(t, c.AwaitTurn(t.Context()))
		}
		go func() { _ = c.Probe(t.Context()) }() // has the next turn
		synctest.Wait()
		require.ErrorIs(t, c.Probe(t.Context()), ErrLimited)
		<-time.After(time.Minute)
	})
}
