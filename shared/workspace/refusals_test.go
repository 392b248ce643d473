package workspace

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestARefusedKeyIsNotUsedUntilItIsLocked(t *testing.T) {
	t.Parallel()
	b := setup(t, unauthorized(testTime))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := b.GetDesktop(t.Context(), testDesktop)
			if !IsUnauthorized(err) {
				t.Errorf("got %v", err)
			}
		})
	}
	all.Wait()
	require.Len(t, b.seen(), 1, "the first refusal stops all calls")

	b.clock.Add(59 * time.Second)
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.ErrorContains(t, err, "not sent: the service refused our credentials at 2026-01-15T08:30:00Z")
	b.clock.Add(time.Second)
	_, err = b.Rebuild(t.Context(), b.ServiceNow(), rebuildRequest())
	require.True(t, IsUnauthorized(err))
	require.False(t, asError(t, err).MayHaveExecuted())
	require.Len(t, b.seen(), 1, "a write does not probe")
	_, err = b.GetDesktop(t.Context(), testDesktop)
	require.True(t, IsUnauthorized(err))
	require.Len(t, b.seen(), 2, "one read a minute does")
}

func TestAProbeLetsCallsResume(t *testing.T) {
	t.Parallel()
	b := setup(t, answers(unauthorized(testTime), responds(200, `{"desktop":{"desktop_id":"d"}}`), responds(200, `{"job_id":"j1"}`)))
	_, err := b.GetDesktop(t.Context(), testDesktop)
	require.True(t, IsUnauthorized(err))
	b.clock.Add(time.Minute)
	_, err = b.GetDesktop(t.Context(), testDesktop)
	require.NoError(t, err)
	_, err = b.Rebuild(t.Context(), b.ServiceNow(), rebuildRequest())
	require.NoError(t, err)
}

func TestUntilTheFirstAnswerOneCallIsInFlight(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int64
	first := make(chan struct{})
	b := setup(t, func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-first
		now.Add(-1)
		w.Header().Set("Date", testTime.Format(http.TimeFormat))
		responds(404, `{"error_code":"APIGW.0101","error_msg":"no such API"}`)(w, r)
	})
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { _, _ = b.GetDesktop(t.Context(), testDesktop) })
	}
	close(first)
	all.Wait()
	require.EqualValues(t, 1, most.Load(), "an answer of the gateway about the route does not prove the key")
	require.Len(t, b.seen(), 5)
}

func TestProbe(t *testing.T) {
	t.Parallel()
	b := setup(t, answers(
		responds(200, `{"images":[],"total_count":0}`), unauthorized(testTime), responds(503, ``), responds(403, `{"error_code":"WKS.0403"}`),
	))
	require.NoError(t, b.Probe(t.Context()))
	require.True(t, IsUnauthorized(b.Probe(t.Context())))
	require.True(t, IsUnauthorized(b.Probe(t.Context())))
	require.Len(t, b.seen(), 2, "one read is sent a minute after the 401")
	b.clock.Add(time.Minute)
	require.Equal(t, Unavailable, ClassOf(b.Probe(t.Context())))
	require.NoError(t, b.Probe(t.Context()), "a 403 shows that the key was accepted")
	require.Len(t, b.seen(), 4)
}

func TestALateWriteIsNotARefusalOfTheKey(t *testing.T) {
	t.Parallel()
	late := testTime.Add(15*time.Minute + time.Second)
	b := setup(t, answers(unauthorized(late), responds(200, `{"job_id":"j1"}`)))
	_, err := b.Rebuild(t.Context(), testTime, rebuildRequest())
	require.Equal(t, NotSent, ClassOf(err))
	require.False(t, asError(t, err).MayHaveExecuted())
	require.ErrorContains(t, err, "signature expired before the request arrived")
	_, err = b.Rebuild(t.Context(), b.ServiceNow(), rebuildRequest())
	require.NoError(t, err, "the key is proved")
}

// One machine of the service has a wrong clock, and the next call is signed by it: the key is not refused.
func TestASigningDateThatIsAheadIsNotARefusalOfTheKey(t *testing.T) {
	t.Parallel()
	b := setup(t, answers(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", testTime.Add(time.Hour).Format(http.TimeFormat))
		responds(200, `{"images":[],"total_count":0}`)(w, r)
	}, unauthorized(testTime), responds(200, `{"job_id":"j1"}`)))
	require.NoError(t, b.Probe(t.Context()))
	_, err := b.Rebuild(t.Context(), b.ServiceNow(), rebuildRequest())
	require.Equal(t, NotSent, ClassOf(err))
	require.ErrorContains(t, err, "ahead of the service's clock")
	_, err = b.Rebuild(t.Context(), b.ServiceNow(), rebuildRequest())
	require.NoError(t, err, "the key is proved")
}
