package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/telemetry/health"
	"recompose/shared/workspace"
)

func options() Options {
	return Options{Version: "v1", Functions: []string{"rebuild", "rollout", "watchjob"}}
}

// page is what a scrape reads, the lines of recompose's own metrics by their name and labels.
func page(t *testing.T, m *Metrics) map[string]string {
	t.Helper()
	server := httptest.NewServer(m.Handler())
	t.Cleanup(server.Close)
	response, err := http.Get(server.URL)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Equal(t, http.StatusOK, response.StatusCode)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	lines := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(line, "recompose_") {
			lines[name] = value
		}
	}
	return lines
}

func TestMessages(t *testing.T) {
	t.Parallel()
	m := New(options())
	require.Equal(t, "0", page(t, m)[`recompose_messages_total{end="dead",function="rebuild"}`], "counted from zero")

	event := func(typ, data string) []events.Envelope {
		return []events.Envelope{{Type: typ, Data: json.RawMessage(data)}}
	}
	for _, h := range []natsqueue.Handled{
		{Function: "rebuild", Delivery: 1, Took: time.Second, Verdict: "ack", Events: event(events.TypeJobAccepted, `{}`)},
		{Function: "rebuild", Delivery: 2, Verdict: "ack", Events: event(events.TypeCommandFailed, `{"error":{"kind":"conflict"}}`)},
		{Function: "rebuild", Delivery: 6, Verdict: "dead", Events: event(events.TypeCommandFailed, `{"error":{"kind":"f77db5cd"}}`), Dead: "permanent"},
		{Function: "watchjob", Delivery: 1, Verdict: "ack", Events: event(events.TypeJobCompleted, `{"outcome":"failed"}`)},
		{Function: "rollout", Delivery: 1, Verdict: "ack", Events: event(events.TypeRolloutHalted, `{"why":"no_room"}`)},
		{Function: "watchjob", Delivery: 1, Verdict: "delay"},
		{Function: "watchjob", Delivery: 1, Verdict: "retry"},
		{Function: "watchjob", Delivery: 1, Verdict: "unstored"},
		{Function: "rebuild", Delivery: 1, Verdict: "ack"},
		{Function: "an-id", Delivery: 1, Verdict: "ack", Events: event("an-id", `{}`)},
	} {
		m.Handled(h)
	}
	got := page(t, m)
	for line, value := range map[string]string{
		`recompose_messages_total{end="job.accepted",function="rebuild"}`:            "1",
		`recompose_messages_total{end="command.failed",function="rebuild"}`:          "1",
		`recompose_messages_total{end="dead",function="rebuild"}`:                    "1",
		`recompose_messages_total{end="nothing",function="rebuild"}`:                 "1",
		`recompose_messages_total{end="job.completed",function="watchjob"}`:          "1",
		`recompose_messages_total{end="delayed",function="watchjob"}`:                "1",
		`recompose_messages_total{end="retried",function="watchjob"}`:                "1",
		`recompose_messages_total{end="unstored",function="watchjob"}`:               "1",
		`recompose_messages_total{end="other",function="other"}`:                     "1",
		`recompose_message_redeliveries_total{function="rebuild"}`:                   "2",
		`recompose_message_redeliveries_total{function="watchjob"}`:                  "0",
		`recompose_message_handling_seconds_bucket{function="rebuild",le="1"}`:       "4",
		`recompose_message_handling_seconds_count{function="rebuild"}`:               "4",
		`recompose_commands_failed_total{function="rebuild",kind="conflict"}`:        "1",
		`recompose_commands_failed_total{function="rebuild",kind="other"}`:           "1",
		`recompose_messages_total{end="rollout.halted",function="rollout"}`:          "1",
		`recompose_rollouts_halted_total{why="no_room"}`:                             "1",
		`recompose_rollouts_halted_total{why="max_failed"}`:                          "0",
		`recompose_jobs_completed_total{outcome="failed"}`:                           "1",
		`recompose_dead_letters_total{class="permanent",function="rebuild"}`:         "1",
		`recompose_commands_failed_total{function="rebuild",kind="unknown_outcome"}`: "0",
		`recompose_build_info{version="v1"}`:                                         "1",
	} {
		require.Equal(t, value, got[line], line)
	}
}

func TestCallsAndWrites(t *testing.T) {
	t.Parallel()
	m := New(options())
	for _, i := range []workspace.CallInfo{
		{Operation: "rebuild", Status: 200, Duration: 2 * time.Second}, {Operation: "rebuild", Status: 429}, {Operation: "rebuild"},
		{Operation: "rebuild", Status: 999}, {Operation: "an-id", Status: 200},
	} {
		m.Called(i)
	}
	for _, result := range []string{"unknown", "unknown", "adopted", "resent", "an-id"} {
		m.Write(result)
	}
	m.TimerLate()
	got := page(t, m)
	for line, value := range map[string]string{
		`recompose_api_calls_total{operation="rebuild",status="200"}`:   "1",
		`recompose_api_calls_total{operation="rebuild",status="429"}`:   "1",
		`recompose_api_calls_total{operation="rebuild",status="none"}`:  "1",
		`recompose_api_calls_total{operation="rebuild",status="other"}`: "1",
		`recompose_api_calls_total{operation="other",status="200"}`:     "1",
		`recompose_api_call_seconds_bucket{operation="rebuild",le="1"}`: "3",
		`recompose_api_call_seconds_count{operation="rebuild"}`:         "4",
		`recompose_writes_unknown_total`:                                "2",
		`recompose_writes_adopted_total`:                                "1",
		`recompose_writes_resent_total`:                                 "1",
		`recompose_timers_late_total`:                                   "1",
	} {
		require.Equal(t, value, got[line], line)
	}
}

// reading is a collector that is not described before.
type reading func(chan<- prometheus.Metric)

func (reading) Describe(chan<- *prometheus.Desc) {}

func (r reading) Collect(metrics chan<- prometheus.Metric) { r(metrics) }

func TestWhatIsReadOfAWorker(t *testing.T) {
	t.Parallel()
	m, s := New(options()), newScrape(noWorker, noChecks)
	var fail error
	m.registry.MustRegister(reading(func(metrics chan<- prometheus.Metric) {
		s.collectLimits(metrics, []workspace.Limit{
			{
				Calls: "reads", PerMinute: 50, Configured: 200, Tokens: -1.5, PausedUntil: time.Now().Add(time.Hour),
				Throttled: 4, HeldBack: 5,
			},
			{Calls: "writes", Unlimited: true, PausedUntil: time.Now().Add(-time.Hour)},
		})
		s.collectDepth(metrics, natsqueue.Depth{
			Consumers: []natsqueue.ConsumerDepth{
				{Stream: "RECOMPOSE_NEXT", Consumer: "rebuild", Pending: 3, AckPending: 2, Oldest: 90 * time.Second},
			},
			Streams: []natsqueue.StreamDepth{{Stream: "RECOMPOSE_DEAD", Messages: 7, Bytes: 700}}, Delayed: 11,
		}, fail)
	}))
	got := page(t, m)
	for line, value := range map[string]string{
		`recompose_queue_messages{consumer="rebuild",state="pending",stream="RECOMPOSE_NEXT"}`:   "3",
		`recompose_queue_messages{consumer="rebuild",state="in_hand",stream="RECOMPOSE_NEXT"}`:   "2",
		`recompose_queue_oldest_message_age_seconds{consumer="rebuild",stream="RECOMPOSE_NEXT"}`: "90",
		`recompose_queue_delayed_messages`:                        "11",
		`recompose_stream_messages{stream="RECOMPOSE_DEAD"}`:      "7",
		`recompose_stream_bytes{stream="RECOMPOSE_DEAD"}`:         "700",
		`recompose_queue_readable`:                                "1",
		`recompose_api_rate_per_minute{calls="reads"}`:            "50",
		`recompose_api_rate_configured_per_minute{calls="reads"}`: "200",
		`recompose_api_rate_tokens{calls="reads"}`:                "-1.5",
		`recompose_api_pause_seconds{calls="writes"}`:             "0",
		`recompose_api_throttles_total{calls="reads"}`:            "4",
		`recompose_api_calls_held_back_total{calls="reads"}`:      "5",
	} {
		require.Equal(t, value, got[line], line)
	}
	paused, err := strconv.ParseFloat(got[`recompose_api_pause_seconds{calls="reads"}`], 64)
	require.NoError(t, err)
	require.InDelta(t, 3600, paused, 60)
	require.NotContains(t, got, `recompose_api_rate_per_minute{calls="writes"}`)

	fail = errors.New("no answer")
	got = page(t, m)
	require.Equal(t, "0", got["recompose_queue_readable"])
	require.NotContains(t, got, "recompose_queue_delayed_messages")
	require.Contains(t, got, `recompose_api_rate_per_minute{calls="reads"}`, "an unreadable queue hides nothing else")
}

func noWorker() (*workspace.Client, *natsqueue.Queue, *safety.Safety) { return nil, nil, nil }

func noChecks(context.Context) []health.Check { return nil }

// A worker has its page before it is connected. That the state of a connected worker is read is tested in
// cmd/recompose.
func TestAWorkerThatIsNotConnected(t *testing.T) {
	t.Parallel()
	m := New(options())
	m.Watch(noWorker, func(ctx context.Context) []health.Check {
		_, bounded := ctx.Deadline()
		require.True(t, bounded)
		return []health.Check{{Name: "nats"}, {Name: "desktops", OK: true}}
	})
	got := page(t, m)
	for line, value := range map[string]string{
		`recompose_nats_connected`:                      "0",
		`recompose_worker_stopped`:                      "0",
		`recompose_writes_frozen`:                       "0",
		`recompose_writes_frozen_seconds`:               "0",
		`recompose_clock_skew_seconds{clock="service"}`: "0",
		`recompose_clock_skew_seconds{clock="nats"}`:    "0",
		`recompose_queue_readable`:                      "0",
		`recompose_check_passed{check="nats"}`:          "0",
		`recompose_check_passed{check="desktops"}`:      "1",
	} {
		require.Equal(t, value, got[line], line)
	}
	require.NotContains(t, got, "recompose_queue_delayed_messages")
}

func TestEveryKindOfFailureIsAValue(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../../events/outcomes.go")
	require.NoError(t, err)
	var there []string
	for _, match := range regexp.MustCompile(`(?m)^\tKind\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		there = append(there, match[1])
	}
	require.ElementsMatch(t, there, kinds)
}
