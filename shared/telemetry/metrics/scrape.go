package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/telemetry/health"
	"recompose/shared/workspace"
)

// scrapeWithin is how long a scrape may take to read the queue and the checks.
const scrapeWithin = 5 * time.Second

// Worker returns the parts of a worker. They are nil until the worker is connected and set up.
type Worker func() (*workspace.Client, *natsqueue.Queue, *safety.Safety)

// Watch registers the metrics that are read from a worker at each scrape. ready makes the checks of readiness.
func (m *Metrics) Watch(worker Worker, ready func(context.Context) []health.Check) {
	m.registry.MustRegister(newScrape(worker, ready))
}

// scrape is a collector that reads the worker at each scrape.
type scrape struct {
	worker Worker
	ready  func(context.Context) []health.Check

	queueMessages, queueAge, delayed          *prometheus.Desc
	streamMessages, streamBytes               *prometheus.Desc
	rate, configured, tokens, paused          *prometheus.Desc
	throttled, heldBack                       *prometheus.Desc
	connected, stopped, frozen, queueReadable *prometheus.Desc
	skew, frozenFor, checks                   *prometheus.Desc
}

func newScrape(worker Worker, ready func(context.Context) []health.Check) *scrape {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &scrape{
		worker: worker, ready: ready,
		queueMessages:  desc("queue_messages", "Messages of a consumer: pending, or in_hand of a worker.", "stream", "consumer", "state"),
		queueAge:       desc("queue_oldest_message_age_seconds", "Age of the oldest message that a consumer has not finished; 0 without one.", "stream", "consumer"),
		delayed:        desc("queue_delayed_messages", "Messages that wait for their time: polls, retries, look-ups, frozen writes."),
		streamMessages: desc("stream_messages", "Messages stored on a stream.", "stream"),
		streamBytes:    desc("stream_bytes", "Bytes stored on a stream.", "stream"),
		queueReadable:  desc("queue_readable", "1 if NATS reports how much waits; else 0, and the metrics of queue and streams are missing."),
		rate:           desc("api_rate_per_minute", "Calls a minute that this worker lets through now; throttling shrinks it.", "calls"),
		configured:     desc("api_rate_configured_per_minute", "Calls a minute by the settings.", "calls"),
		tokens:         desc("api_rate_tokens", "Calls that may go at once; below zero some wait for their turn.", "calls"),
		paused:         desc("api_pause_seconds", "Time until calls are allowed, after a Retry-After of the service.", "calls"),
		throttled:      desc("api_throttles_total", "Answers 429 and 503 of the service.", "calls"),
		heldBack:       desc("api_calls_held_back_total", "Calls not sent because their turn was too far off; their messages are delayed.", "calls"),
		connected:      desc("nats_connected", "1 while this worker is connected to NATS."),
		stopped:        desc("worker_stopped", "1 while this worker takes no messages because the service refuses its credentials."),
		skew:           desc("clock_skew_seconds", "How far the clock of the service or of NATS is ahead of this machine's.", "clock"),
		frozen:         desc("writes_frozen", "1 while writes are frozen."),
		frozenFor:      desc("writes_frozen_seconds", "For how long writes have been frozen; 0 while they are not, or the freeze cannot be read."),
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

// Collect reads the worker.
func (s *scrape) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWithin) // Collect is called without a context
	defer cancel()
	api, q, safe := s.worker()
	s.collectState(ctx, metrics, api, q, safe)
	for _, c := range s.ready(ctx) {
		gauge(metrics, s.checks, number(c.OK), c.Name)
	}
	if api != nil {
		s.collectLimits(metrics, api.Limits())
	}
	err := natsqueue.ErrNotSetUp
	var d natsqueue.Depth
	if q != nil {
		d, err = q.Depth(ctx)
	}
	s.collectDepth(metrics, d, err)
}

func (s *scrape) collectState(
	ctx context.Context, metrics chan<- prometheus.Metric, api *workspace.Client, q *natsqueue.Queue, safe *safety.Safety,
) {
	var status natsqueue.Status
	var service, nats, frozenFor time.Duration
	if q != nil {
		status, nats = q.Status(), q.Skew()
	}
	if api != nil {
		service = api.Skew()
	}
	frozen := false
	if safe != nil && status.Connected {
		f, err := safe.Frozen(ctx)
		frozen = err != nil || f != nil // no write begins while the freeze cannot be read
		if f != nil {
			frozenFor = time.Since(f.At)
		}
	}
	gauge(metrics, s.connected, number(status.Connected))
	gauge(metrics, s.stopped, number(status.Stopped != nil))
	gauge(metrics, s.frozen, number(frozen))
	gauge(metrics, s.frozenFor, max(0, frozenFor.Seconds()))
	gauge(metrics, s.skew, service.Seconds(), "service")
	gauge(metrics, s.skew, nats.Seconds(), "nats")
}

func (s *scrape) collectLimits(metrics chan<- prometheus.Metric, limits []workspace.Limit) {
	for _, l := range limits {
		counter(metrics, s.throttled, l.Throttled, l.Calls)
		counter(metrics, s.heldBack, l.HeldBack, l.Calls)
		paused := 0.0
		if !l.PausedUntil.IsZero() {
			paused = max(0, time.Until(l.PausedUntil).Seconds())
		}
		gauge(metrics, s.paused, paused, l.Calls)
		if !l.Unlimited {
			gauge(metrics, s.rate, l.PerMinute, l.Calls)
			gauge(metrics, s.configured, l.Configured, l.Calls)
			gauge(metrics, s.tokens, l.Tokens, l.Calls)
		}
	}
}

// collectDepth leaves out all but queue_readable if the depth could not be read.
func (s *scrape) collectDepth(metrics chan<- prometheus.Metric, d natsqueue.Depth, err error) {
	gauge(metrics, s.queueReadable, number(err == nil))
	if err != nil {
		return
	}
	gauge(metrics, s.delayed, float64(d.Delayed))
	for _, c := range d.Consumers {
		gauge(metrics, s.queueMessages, float64(c.Pending), c.Stream, c.Consumer, "pending")
		gauge(metrics, s.queueMessages, float64(c.AckPending), c.Stream, c.Consumer, "in_hand")
		gauge(metrics, s.queueAge, max(0, c.Oldest.Seconds()), c.Stream, c.Consumer)
	}
	for _, st := range d.Streams {
		gauge(metrics, s.streamMessages, float64(st.Messages), st.Stream)
		gauge(metrics, s.streamBytes, float64(st.Bytes), st.Stream)
	}
}

func gauge(metrics chan<- prometheus.Metric, d *prometheus.Desc, value float64, labels ...string) {
	metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func counter(metrics chan<- prometheus.Metric, d *prometheus.Desc, value uint64, labels ...string) {
	metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
