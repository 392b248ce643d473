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
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func options() Options {
	return Options{Version: "v1", Functions: []string{"rebuild", "watchjob"}}
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

	m.Message(Message{Function: "rebuild", Delivery: 1, Took: time.Second, Said: []Said{{Type: "recompose.event.job.accepted.v1"}}})
	m.Message(Message{Function: "rebuild", Delivery: 2, Said: []Said{{Type: "recompose.event.command.failed.v1", Kind: "conflict"}}})
	m.Message(Message{Function: "rebuild", Delivery: 6, End: EndDead, Said: []Said{{Type: "recompose.event.command.failed.v1", Kind: "f77db5cd"}}, Dead: "permanent"})
	m.Message(Message{Function: "watchjob", Delivery: 1, Said: []Said{{Type: "recompose.event.job.completed.v1", Outcome: "failed"}}})
	m.Message(Message{Function: "watchjob", Delivery: 1, End: EndDelayed})
	m.Message(Message{Function: "rebuild", Delivery: 1})
	m.Message(Message{Function: "an-id", Delivery: 1, End: "an-id"})
	got := page(t, m)
	for line, value := range map[string]string{
		`recompose_messages_total{end="job.accepted",function="rebuild"}`:            "1",
		`recompose_messages_total{end="command.failed",function="rebuild"}`:          "1",
		`recompose_messages_total{end="dead",function="rebuild"}`:                    "1",
		`recompose_messages_total{end="nothing",function="rebuild"}`:                 "1",
		`recompose_messages_total{end="job.completed",function="watchjob"}`:          "1",
		`recompose_messages_total{end="delayed",function="watchjob"}`:                "1",
		`recompose_messages_total{end="other",function="other"}`:                     "1",
		`recompose_message_redeliveries_total{function="rebuild"}`:                   "2",
		`recompose_message_redeliveries_total{function="watchjob"}`:                  "0",
		`recompose_message_handling_seconds_bucket{function="rebuild",le="1"}`:       "4",
		`recompose_message_handling_seconds_count{function="rebuild"}`:               "4",
		`recompose_commands_failed_total{function="rebuild",kind="conflict"}`:        "1",
		`recompose_commands_failed_total{function="rebuild",kind="other"}`:           "1",
		`recompose_jobs_completed_total{outcome="failed"}`:                           "1",
		`recompose_dead_letters_total{class="permanent",function="rebuild"}`:         "1",
		`recompose_commands_failed_total{function="rebuild",kind="unknown_outcome"}`: "0",
		`recompose_build_info{version="v1"}`:                                         "1",
	} {
		require.Equal(t, value, got[line], line)
	}
}

func TestSaidIn(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]Said{
		`{"error":{"kind":"conflict"}}`: {Type: events.TypeCommandFailed, Kind: "conflict"},
		`{"outcome":"lost"}`:            {Type: events.TypeJobCompleted, Outcome: "lost"},
		`{}`:                            {Type: events.TypeImagesChecked},
	} {
		require.Equal(t, want, SaidIn(events.Envelope{Type: want.Type, Data: json.RawMessage(data)}))
	}
}

func TestCallsAndWrites(t *testing.T) {
	t.Parallel()
	m := New(options())
	m.Call("rebuild", 200, 2*time.Second)
	m.Call("rebuild", 429, 0)
	m.Call("rebuild", 0, 0)
	m.Call("rebuild", 999, 0)
	m.Call("an-id", 200, 0)
	for _, what := range []string{"unknown", "unknown", "adopted", "resent", "an-id"} {
		m.Write(what)
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

func TestWhatIsReadAtEachScrape(t *testing.T) {
	t.Parallel()
	m := New(options())
	var fail error
	m.Watch(Sources{
		Queue: func(ctx context.Context) (Queue, error) {
			_, bounded := ctx.Deadline()
			require.True(t, bounded)
			return Queue{
				Consumers: []Consumer{{Stream: "RECOMPOSE_NEXT", Consumer: "rebuild", Pending: 3, InHand: 2, Oldest: 90 * time.Second}},
				Streams:   []Stream{{Stream: "RECOMPOSE_DEAD", Messages: 7, Bytes: 700}}, Delayed: 11,
			}, fail
		},
		Limits: func() []Limit {
			return []Limit{
				{Calls: "reads", PerMinute: 50, Configured: 200, Tokens: -1.5, Paused: time.Minute, Throttled: 4, HeldBack: 5},
				{Calls: "writes", Unlimited: true, Paused: -time.Hour},
			}
		},
		State: func(context.Context) State {
			return State{Connected: true, Frozen: true, FrozenFor: time.Hour, ServiceSkew: -20 * time.Minute, NATSSkew: time.Second}
		},
		Checks: func(ctx context.Context) map[string]bool {
			_, bounded := ctx.Deadline()
			require.True(t, bounded)
			return map[string]bool{"nats": true, "ledger": false}
		},
	})
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
		`recompose_api_pause_seconds{calls="reads"}`:              "60",
		`recompose_api_pause_seconds{calls="writes"}`:             "0",
		`recompose_api_throttles_total{calls="reads"}`:            "4",
		`recompose_api_calls_held_back_total{calls="reads"}`:      "5",
		`recompose_nats_connected`:                                "1",
		`recompose_worker_stopped`:                                "0",
		`recompose_writes_frozen_seconds`:                         "3600",
		`recompose_writes_frozen`:                                 "1",
		`recompose_clock_skew_seconds{clock="service"}`:           "-1200",
		`recompose_clock_skew_seconds{clock="nats"}`:              "1",
		`recompose_check_passed{check="nats"}`:                    "1",
		`recompose_check_passed{check="ledger"}`:                  "0",
	} {
		require.Equal(t, value, got[line], line)
	}
	require.NotContains(t, got, `recompose_api_rate_per_minute{calls="writes"}`)

	fail = errors.New("no answer")
	got = page(t, m)
	require.Equal(t, "0", got["recompose_queue_readable"])
	require.NotContains(t, got, "recompose_queue_delayed_messages")
	require.Contains(t, got, "recompose_nats_connected", "a queue that does not answer hides nothing else")
}

func TestWithoutMetricsNothingIsCounted(t *testing.T) {
	t.Parallel()
	var m *Metrics
	m.Message(Message{})
	m.Call("rebuild", 200, 0)
	m.Write("unknown")
	m.TimerLate()
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
