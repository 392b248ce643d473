package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// scrapeWithin is how long a scrape waits for the queue to tell how much is in it.
const scrapeWithin = 5 * time.Second

// scrape is a collector that asks the sources whenever somebody asks for metrics.
type scrape struct {
	sources Sources

	queueMessages, queueAge, delayed          *prometheus.Desc
	streamMessages, streamBytes               *prometheus.Desc
	rate, configured, tokens, paused          *prometheus.Desc
	throttled, heldBack                       *prometheus.Desc
	connected, stopped, frozen, queueReadable *prometheus.Desc
	skew, frozenFor, checks                   *prometheus.Desc
}

func newScrape(s Sources) *scrape {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &scrape{
		sources:        s,
		queueMessages:  desc("queue_messages", "Messages of a consumer: pending, or in_hand of a worker.", "stream", "consumer", "state"),
		queueAge:       desc("queue_oldest_message_age_seconds", "Age of the oldest message that a consumer has not done with; 0 without one.", "stream", "consumer"),
		delayed:        desc("queue_delayed_messages", "Messages that wait for their time: polls, retries, look-ups, frozen writes."),
		streamMessages: desc("stream_messages", "Messages stored on a stream.", "stream"),
		streamBytes:    desc("stream_bytes", "Bytes stored on a stream.", "stream"),
		queueReadable:  desc("queue_readable", "1 if NATS told how much waits, else 0, and the metrics of queue and streams are missing."),
		rate:           desc("api_rate_per_minute", "Calls a minute that this worker lets through now; throttling shrinks it.", "calls"),
		configured:     desc("api_rate_configured_per_minute", "Calls a minute that are set.", "calls"),
		tokens:         desc("api_rate_tokens", "Calls that may go at once; below zero some wait for their turn.", "calls"),
		paused:         desc("api_pause_seconds", "Time until calls go again, after a Retry-After of the service.", "calls"),
		throttled:      desc("api_throttles_total", "Answers 429 and 503 of the service.", "calls"),
		heldBack:       desc("api_calls_held_back_total", "Calls not sent because their turn was too far off; their messages come again.", "calls"),
		connected:      desc("nats_connected", "1 while this worker is connected to NATS."),
		stopped:        desc("worker_stopped", "1 while this worker takes no messages because the service refuses its credentials."),
		skew:           desc("clock_skew_seconds", "How far the clock of the service or of NATS is ahead of this machine's.", "clock"),
		frozen:         desc("writes_frozen", "1 while writes are frozen."),
		frozenFor:      desc("writes_frozen_seconds", "For how long writes have been frozen; 0 while they are not, or it cannot be read."),
		checks:         desc("check_passed", "1 where a check of /readyz passes, 0 where it fails and the worker is not ready.", "check"),
	}
}

// Describe sends every metric.
func (s *scrape) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.queueMessages, s.queueAge, s.delayed, s.streamMessages, s.streamBytes, s.queueReadable, s.rate, s.configured, s.tokens,
		s.paused, s.throttled, s.heldBack, s.connected, s.stopped, s.frozen, s.frozenFor, s.skew, s.checks,
	} {
		descs <- d
	}
}

// Collect asks the sources.
func (s *scrape) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin) // a collector is given none
	defer cancel()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	if s.sources.State != nil {
		state := s.sources.State(ctx)
		gauge(s.connected, number(state.Connected))
		gauge(s.stopped, number(state.Stopped))
		gauge(s.frozen, number(state.Frozen))
		gauge(s.frozenFor, max(0, state.FrozenFor.Seconds()))
		gauge(s.skew, state.ServiceSkew.Seconds(), "service")
		gauge(s.skew, state.NATSSkew.Seconds(), "nats")
	}
	if s.sources.Checks != nil {
		for name, passed := range s.sources.Checks(ctx) {
			gauge(s.checks, number(passed), name)
		}
	}
	if s.sources.Limits != nil {
		for _, l := range s.sources.Limits() {
			counter(s.throttled, l.Throttled, l.Calls)
			counter(s.heldBack, l.HeldBack, l.Calls)
			gauge(s.paused, max(0, l.Paused.Seconds()), l.Calls)
			if !l.Unlimited {
				gauge(s.rate, l.PerMinute, l.Calls)
				gauge(s.configured, l.Configured, l.Calls)
				gauge(s.tokens, l.Tokens, l.Calls)
			}
		}
	}
	if s.sources.Queue == nil {
		return
	}
	q, err := s.sources.Queue(ctx)
	gauge(s.queueReadable, number(err == nil))
	if err != nil {
		return
	}
	gauge(s.delayed, float64(q.Delayed))
	for _, c := range q.Consumers {
		gauge(s.queueMessages, float64(c.Pending), c.Stream, c.Consumer, "pending")
		gauge(s.queueMessages, float64(c.InHand), c.Stream, c.Consumer, "in_hand")
		gauge(s.queueAge, max(0, c.Oldest.Seconds()), c.Stream, c.Consumer)
	}
	for _, st := range q.Streams {
		gauge(s.streamMessages, float64(st.Messages), st.Stream)
		gauge(s.streamBytes, float64(st.Bytes), st.Stream)
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
