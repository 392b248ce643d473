package lambdaboot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/telemetry/health"
	"recompose/shared/telemetry/metrics"
	"recompose/shared/workspace"
)

// meterLine is a printed line, as far as the tests look at it.
type meterLine map[string]any

func (l meterLine) directive() directive {
	var meta struct{ CloudWatchMetrics []directive }
	text, _ := json.Marshal(l["_aws"])
	_ = json.Unmarshal(text, &meta)
	return meta.CloudWatchMetrics[0]
}

func newMeter(t *testing.T) (*meter, func() []meterLine) {
	t.Helper()
	var out bytes.Buffer
	m := &meter{out: &out, now: time.Now, topic: "the-topic", function: "rebuild"}
	return m, func() []meterLine {
		t.Helper()
		var all []meterLine
		for line := range strings.Lines(out.String()) {
			var l meterLine
			require.NoError(t, json.Unmarshal([]byte(line), &l))
			all = append(all, l)
		}
		out.Reset()
		return all
	}
}

// keyOf is a key of which Check gives an error.
type keyOf struct{ err error }

func (k keyOf) Check(context.Context) error         { return k.err }
func (k keyOf) Refuse(_ context.Context, why error) {}

// The metrics of a function have the same names and labels as those of a worker on NATS.
func TestMetricsHaveTheNamesOfThoseOnNATS(t *testing.T) {
	t.Parallel()
	worker := metrics.New(metrics.Options{Functions: []string{"rebuild"}})
	worker.Watch(
		func() (*workspace.Client, *natsqueue.Queue, *safety.Safety) { return nil, nil, nil },
		func(context.Context) []health.Check { return []health.Check{{Name: "ledger", OK: true}} },
	)
	page := httptest.NewRecorder()
	worker.Handler().ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))

	m, printed := newMeter(t)
	m.frozen = func(context.Context) (*safety.Freeze, error) { return &safety.Freeze{At: time.Now()}, nil }
	m.handled(t.Context(), awsqueue.Handled{Dead: queue.ClassPermanent, Events: []events.Envelope{
		{Type: events.TypeCommandFailed, Data: json.RawMessage(`{"error": {"kind": "conflict"}}`)},
		{Type: events.TypeJobCompleted, Data: json.RawMessage(`{"outcome": "lost"}`)},
		{Type: events.TypeImagesChecked, Data: json.RawMessage(`{}`)},
	}})
	for _, result := range []string{"unknown", "adopted", "resent"} {
		m.recovered(result)
	}
	m.key(false)
	m.invoked(t.Context())
	names := map[string]bool{}
	for _, line := range printed() {
		require.Equal(t, "the-topic", line["topic"])
		require.Equal(t, "rebuild", line["function"])
		d := line.directive()
		for _, one := range d.Metrics {
			names[one.Name] = true
			require.Regexp(t, `(?m)^`+one.Name+`(\{.*\})? `, page.Body.String())
			for _, set := range d.Dimensions {
				require.Equal(t, dimTopic, set[0])
				for _, label := range set[1:] {
					require.Regexp(t, `(?m)^`+one.Name+`\{.*`+label+`="`, page.Body.String())
				}
			}
		}
	}
	require.Len(t, names, 10)
}

func TestTheKeyInAnInvocation(t *testing.T) {
	t.Parallel()
	refused := &safety.Refusal{Reason: "401"}
	for name, c := range map[string]struct {
		errs  []error
		pull  bool
		want  any // nil: not known
		held  bool
		unfit bool
	}{
		"it is taken":                         {errs: []error{nil, nil}, want: 0.0},
		"another process was refused":         {errs: []error{refused}, want: 1.0},
		"this one was refused":                {errs: []error{&workspace.Error{Class: workspace.Unauthorized}}, want: 1.0},
		"it is found out, and was refused":    {errs: []error{queue.RetryAfter(time.Second, refused)}, want: 1.0},
		"one of several messages was refused": {errs: []error{nil, refused, nil}, want: 1.0},
		"a call was refused":                  {errs: []error{nil}, pull: true, want: 1.0},
		"the table cannot be read":            {errs: []error{errors.New("no answer")}, held: true},
		"the service is another one":          {errs: []error{nil, &service.OtherError{}}, want: 0.0, held: true},
		"another process is checking":         {errs: []error{queue.RetryAfter(time.Second, errors.New("under way"))}},
		"the ledger is not complete":          {errs: []error{nil}, want: 0.0, unfit: true},
		"no message was handled":              {},
	} {
		m, printed := newMeter(t)
		m.unfit = func() bool { return c.unfit }
		for _, err := range c.errs {
			require.Equal(t, err, meteredKey{keyOf{err}, m}.Check(t.Context()), name)
		}
		if c.pull {
			meteredKey{keyOf{}, m}.Refuse(t.Context(), refused)
		}
		m.invoked(t.Context())
		var got, passed any
		for _, line := range printed() {
			got, passed = line["recompose_worker_stopped"], line["recompose_check_passed"]
		}
		require.Equal(t, c.want, got, name)
		switch {
		case c.held || c.unfit:
			require.Equal(t, 0.0, passed, name)
		case c.want != nil:
			require.Equal(t, 1.0, passed, name)
		default:
			require.Nil(t, passed, name)
		}
		m.invoked(t.Context())
		require.Empty(t, printed(), "%s: an invocation is reported once", name)
	}
}

func TestTheFreezeInAnInvocation(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		freeze        *safety.Freeze
		err           error
		frozen, since any
	}{
		"not frozen":       {frozen: 0.0, since: 0.0},
		"frozen":           {freeze: &safety.Freeze{At: at.Add(-time.Hour)}, frozen: 1.0, since: 3600.0},
		"a clock behind":   {freeze: &safety.Freeze{At: at.Add(time.Hour)}, frozen: 1.0, since: 0.0},
		"it is unreadable": {err: errors.New("damaged"), frozen: 1.0},
	} {
		m, printed := newMeter(t)
		m.now = func() time.Time { return at }
		m.frozen = func(context.Context) (*safety.Freeze, error) { return c.freeze, c.err }
		m.invoked(t.Context())
		lines := printed()
		require.Len(t, lines, 1)
		require.Equal(t, []any{c.frozen, c.since}, []any{lines[0]["recompose_writes_frozen"], lines[0]["recompose_writes_frozen_seconds"]}, name)

		near, cancel := context.WithTimeout(t.Context(), readWithin)
		m.invoked(near)
		cancel()
		require.Empty(t, printed(), "a slow read would keep the answer of the invocation from Lambda")

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		m.invoked(ended)
		require.Empty(t, printed(), "past the deadline nothing can be read, and nothing is claimed")
	}
}
