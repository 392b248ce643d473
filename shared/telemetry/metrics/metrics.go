// Package metrics counts what a worker does, for Prometheus. It alone imports the client library. It has a registry of its
// own, and its labels take their values from short lists: never an id, a name or an address.
package metrics

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options say what cannot be known here.
type Options struct {
	Version   string   // of the program
	Functions []string // tokens of the functions
}

// Metrics are the metrics of one process. All methods may be used at the same time and do nothing on a nil *Metrics.
type Metrics struct {
	registry *prometheus.Registry
	known    map[string][]string // label: its values

	messages, redeliveries  *prometheus.CounterVec
	handling                *prometheus.HistogramVec
	failed, jobs, dead      *prometheus.CounterVec
	calls                   *prometheus.CounterVec
	callSeconds             *prometheus.HistogramVec
	unknown, adopted, again prometheus.Counter
	late                    prometheus.Counter
}

const namespace = "recompose"

// New makes the metrics, with a zero for everything that can be counted, so that an alarm sees the first of it.
func New(o Options) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), known: map[string][]string{
		"function": o.Functions, "end": ends, "kind": kinds, "outcome": outcomes, "operation": operations, "class": classes,
	}}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(h)
		return h
	}
	m.messages = counters("messages_total", "Deliveries handled, by function and how each ended.", "function", "end")
	m.redeliveries = counters("message_redeliveries_total", "Deliveries that were not the first of their message.", "function")
	m.handling = histograms("message_handling_seconds", "Time to handle a delivery and store what came of it.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}, "function")
	m.failed = counters("commands_failed_total", "Commands that ended in command.failed, by function and kind.", "function", "kind")
	m.jobs = counters("jobs_completed_total", "Ends of jobs said in job.completed, by outcome.", "outcome")
	m.dead = counters("dead_letters_total", "Messages given up on, by function and class.", "function", "class")
	m.calls = counters("api_calls_total", "HTTP calls of the service, by operation and status; status none is no answer.", "operation", "status")
	m.callSeconds = histograms("api_call_seconds", "Time from sending a call to its whole answer.",
		[]float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30}, "operation")
	m.unknown = counter("writes_unknown_total", "Writes whose outcome was not known, and was looked for.")
	m.adopted = counter("writes_adopted_total", "Jobs found at the service and adopted by the command that must have started them.")
	m.again = counter("writes_resent_total", "Writes made again after their first call was proved absent.")
	m.late = counter("timers_late_total", "Delayed messages that the server did not move in time and this worker moved.")
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "1, with the version of the program."}, []string{"version"})
	info.WithLabelValues(o.Version).Set(1)
	m.registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.zero()
	return m
}

func (m *Metrics) zero() {
	for _, f := range m.known["function"] {
		m.redeliveries.WithLabelValues(f)
		m.handling.WithLabelValues(f)
		for _, end := range m.known["end"] {
			m.messages.WithLabelValues(f, end)
		}
		for _, kind := range m.known["kind"] {
			m.failed.WithLabelValues(f, kind)
		}
		for _, class := range m.known["class"] {
			m.dead.WithLabelValues(f, class)
		}
	}
	for _, outcome := range m.known["outcome"] {
		m.jobs.WithLabelValues(outcome)
	}
	for _, operation := range m.known["operation"] {
		m.calls.WithLabelValues(operation, "200")
		m.callSeconds.WithLabelValues(operation)
	}
}

// value is a label's value, or "other" where the list does not have it.
func (m *Metrics) value(label, value string) string {
	if slices.Contains(m.known[label], value) {
		return value
	}
	return other
}

// Message is one delivery that was handled.
type Message struct {
	Function string
	Delivery int           // of this message, from 1
	Took     time.Duration // handling and storing
	End      string        // one of the ends of this package; "" where Said tells it
	Said     []Said        // events that were stored
	Dead     string        // class of the dead letter, "" without one
}

// Said is an event that a function said.
type Said struct {
	Type    string // of the event, such as recompose.event.job.completed.v1
	Kind    string // of command.failed
	Outcome string // of job.completed
}

// Message counts a delivery.
func (m *Metrics) Message(d Message) {
	if m == nil {
		return
	}
	function := m.value("function", d.Function)
	m.handling.WithLabelValues(function).Observe(d.Took.Seconds())
	if d.Delivery > 1 {
		m.redeliveries.WithLabelValues(function).Inc()
	}
	end := d.End
	for _, s := range d.Said {
		name := short(s.Type)
		switch name {
		case "command.failed":
			m.failed.WithLabelValues(function, m.value("kind", s.Kind)).Inc()
		case "job.completed":
			m.jobs.WithLabelValues(m.value("outcome", s.Outcome)).Inc()
		}
		if end == "" {
			end = name
		}
	}
	if end == "" {
		end = EndNothing
	}
	m.messages.WithLabelValues(function, m.value("end", end)).Inc()
	if d.Dead != "" {
		m.dead.WithLabelValues(function, m.value("class", d.Dead)).Inc()
	}
}

// short is the name of an event type: job.completed of recompose.event.job.completed.v1.
func short(typ string) string {
	name := strings.TrimPrefix(typ, "recompose.event.")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[:i]
	}
	return name
}

// Call counts an HTTP call of the service; status 0 is no answer.
func (m *Metrics) Call(operation string, status int, took time.Duration) {
	if m == nil {
		return
	}
	operation = m.value("operation", operation)
	word := "none"
	switch {
	case status >= 100 && status <= 599:
		word = strconv.Itoa(status)
	case status != 0:
		word = other
	}
	m.calls.WithLabelValues(operation, word).Inc()
	m.callSeconds.WithLabelValues(operation).Observe(took.Seconds())
}

// Write counts what became of a write whose outcome was not known: unknown, adopted or resent.
func (m *Metrics) Write(what string) {
	if m == nil {
		return
	}
	switch what {
	case "unknown":
		m.unknown.Inc()
	case "adopted":
		m.adopted.Inc()
	case "resent":
		m.again.Inc()
	}
}

// TimerLate counts a delayed message that the server did not move in time.
func (m *Metrics) TimerLate() {
	if m != nil {
		m.late.Inc()
	}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

// Watch adds the metrics that are read when somebody asks for them. Where there are several, each is asked once a
// scrape, within a few seconds.
func (m *Metrics) Watch(s Sources) { m.registry.MustRegister(newScrape(s)) }

// Sources tell how things stand at the moment. What is nil is left out.
type Sources struct {
	// Queue tells how much waits. An error leaves the metrics of the queue out of this scrape.
	Queue func(ctx context.Context) (Queue, error)
	// Limits tells how the rate limits of calls stand.
	Limits func() []Limit
	// State tells how the worker stands.
	State func(ctx context.Context) State
	// Checks makes the checks of readiness: by their names, whether they pass.
	Checks func(ctx context.Context) map[string]bool
}

// Queue is what waits on the streams.
type Queue struct {
	Consumers []Consumer
	Streams   []Stream
	Delayed   uint64 // messages that wait for their time
}

// Consumer is what waits for one function on one stream.
type Consumer struct {
	Stream, Consumer string
	Pending          uint64        // messages that nobody has in hand
	InHand           uint64        // messages that workers have in hand, or that wait to be handed over again
	Oldest           time.Duration // age of the oldest of all these; 0 without one
}

// Stream is what a stream stores.
type Stream struct {
	Stream          string
	Messages, Bytes uint64
}

// Limit is a rate limit of calls.
type Limit struct {
	Calls                 string // reads or writes
	PerMinute, Configured float64
	Tokens                float64
	Paused                time.Duration // for so long nothing goes
	Throttled, HeldBack   uint64
	Unlimited             bool
}

// State is how the worker stands.
type State struct {
	Connected bool // to NATS
	Stopped   bool // it takes no messages because the service refuses its credentials
	Frozen    bool // writes are frozen

	FrozenFor             time.Duration // for how long; 0 where it cannot be read
	ServiceSkew, NATSSkew time.Duration // how far their clocks are ahead of ours
}
