package check_test

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/require"
)

var promQL = parser.NewParser(parser.Options{})

const rulesFile = "../prometheus/recompose.rules.yaml"

// Minutes of each test: the worker handles a chain, then a fault begins, then it is repaired.
const (
	chainAt   = 30
	wrongAt   = 60
	mendedAt  = 115 // before a range of an hour has passed
	end       = 190
	resolveIn = 65 // the longest range of a rule is an hour
)

// fault is what is wrong from wrongAt to mendedAt.
type fault struct {
	selector string                             // of the series of a healthy worker that change
	value    func(float64, int) (value float64) // of a series that has another in health, some minutes after wrongAt
	counter  bool                               // it continues from the last value when the fault is repaired
}

func to(v float64) func(float64, int) float64 { return func(float64, int) float64 { return v } }

func plus(n float64) func(float64, int) float64 {
	return func(healthy float64, _ int) float64 { return healthy + n }
}

func perMinute(n float64) func(float64, int) float64 {
	return func(healthy float64, minutes int) float64 { return healthy + n*float64(minutes+1) }
}

// Each fault makes its alert fire in time and no other one; all alerts are silent before and after.
var faults = map[string]struct {
	fault
	after int // minutes until it fires, at the latest; it is silent until one before
}{
	"RecomposeNoWorker":       {fault{selector: `{__name__=~".+"}`, value: to(math.Float64frombits(value.StaleNaN))}, 5},
	"RecomposeNotReady":       {fault{selector: `recompose_check_passed{check="ledger"}`, value: to(0)}, 5},
	"RecomposeKeyRefused":     {fault{selector: `recompose_worker_stopped`, value: to(1)}, 0},
	"RecomposeNotConnected":   {fault{selector: `recompose_nats_connected`, value: to(0)}, 2},
	"RecomposeRedeliveries":   {fault{selector: `recompose_message_redeliveries_total{function="rebuild"}`, value: perMinute(2), counter: true}, 5},
	"RecomposeClockSkew":      {fault{selector: `recompose_clock_skew_seconds{clock="nats"}`, value: to(-90)}, 5},
	"RecomposeUnknownOutcome": {fault{selector: `recompose_commands_failed_total{function="rebuild",kind="unknown_outcome"}`, value: plus(1), counter: true}, 0},
	"RecomposeCommandsFailed": {fault{selector: `recompose_commands_failed_total{function="rebuild",kind="conflict"}`, value: perMinute(1), counter: true}, 0},
	"RecomposeJobsLost":       {fault{selector: `recompose_jobs_completed_total{outcome="lost"}`, value: plus(1), counter: true}, 0},
	"RecomposeRolloutHalted":  {fault{selector: `recompose_rollouts_halted_total{why="max_failed"}`, value: plus(1), counter: true}, 0},
	"RecomposeDeadLetters":    {fault{selector: `recompose_dead_letters_total{function="watchjob",class="permanent"}`, value: plus(1), counter: true}, 0},
	"RecomposeFrozen":         {fault{selector: `recompose_writes_frozen_seconds`, value: perMinute(120)}, 30},
	"RecomposeQueueStuck":     {fault{selector: `recompose_queue_oldest_message_age_seconds{consumer="rebuild"}`, value: perMinute(60)}, 10},
	"RecomposeEntranceFull":   {fault{selector: `recompose_stream_messages{stream="RECOMPOSE_COMMANDS"}`, value: to(90000)}, 0},
	"RecomposeThrottled":      {fault{selector: `recompose_api_rate_per_minute{calls="writes"}`, value: to(25)}, 15},
	"RecomposeTimersLate":     {fault{selector: `recompose_timers_late_total`, value: plus(1), counter: true}, 0},
}

// More faults for the same alerts.
var moreFaults = []struct {
	alert string
	fault
	after int
}{
	{"RecomposeNotConnected", fault{selector: `recompose_queue_readable`, value: to(0)}, 2},
	{"RecomposeJobsLost", fault{selector: `recompose_jobs_completed_total{outcome="timed_out"}`, value: plus(1), counter: true}, 0},
	{"RecomposeEntranceFull", fault{selector: `recompose_stream_bytes{stream="RECOMPOSE_COMMANDS"}`, value: to(250 << 20)}, 0},
	{"RecomposeClockSkew", fault{selector: `recompose_clock_skew_seconds{clock="service"}`, value: to(1200)}, 5},
}

func TestEveryAlertFiresAndResolves(t *testing.T) {
	t.Parallel()
	var names []string
	for _, r := range readRules(t, teststorage.New(t)).AlertingRules() {
		names = append(names, r.Name())
	}
	require.ElementsMatch(t, names, slices.Collect(maps.Keys(faults)), "each alert has a fault here, once")
	for alert, c := range faults {
		t.Run(alert, func(t *testing.T) { t.Parallel(); fires(t, alert, c.fault, c.after) })
	}
	for _, c := range moreFaults {
		t.Run(c.alert+" "+c.selector, func(t *testing.T) { t.Parallel(); fires(t, c.alert, c.fault, c.after) })
	}
}

func fires(t *testing.T, alert string, f fault, after int) {
	t.Helper()
	for minute, firing := range evaluate(t, load(t, f)) {
		switch {
		case minute < wrongAt+after, minute > mendedAt+resolveIn:
			require.Empty(t, firing, "in minute %d", minute)
		case minute >= wrongAt+after && minute < mendedAt:
			require.Equal(t, []string{alert}, firing, "in minute %d", minute)
		}
	}
}

// The metrics of a healthy worker, before and after a chain, raise no alert.
func TestAHealthyWorkerRaisesNoAlert(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, worker.before, worker.after, "the chain is counted")
	for minute, firing := range evaluate(t, load(t, fault{})) {
		require.Empty(t, firing, "in minute %d", minute)
	}
}

// load stores the series of a worker with a fault, one sample a minute.
func load(t *testing.T, f fault) *teststorage.TestStorage {
	t.Helper()
	db := teststorage.New(t)
	app := db.AppenderV2(t.Context())
	healthy := map[uint64]float64{}
	for _, s := range worker.before {
		healthy[s.labels.Hash()] = s.value
	}
	changed := 0
	for _, s := range worker.after {
		wrong := f.selector != "" && selects(t, f.selector, s.labels)
		if wrong {
			changed++
		}
		last := s.value
		for minute := range end {
			v := s.value
			switch {
			case minute < chainAt:
				v = healthy[s.labels.Hash()]
			case wrong && minute >= wrongAt && minute < mendedAt:
				v = f.value(s.value, minute-wrongAt)
				last = v
			case wrong && f.counter && minute >= mendedAt:
				v = last
			}
			_, err := app.Append(0, targetOf(s.labels), 0, at(minute).UnixMilli(), v, nil, nil, storage.AppendV2Options{})
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	require.True(t, changed > 0 || f.selector == "", "a worker has no series %s", f.selector)
	return db
}

func at(minute int) time.Time { return time.Unix(0, 0).Add(time.Duration(minute) * time.Minute) }

// targetOf is a series with the labels that Prometheus gives its target.
func targetOf(l labels.Labels) labels.Labels {
	b := labels.NewBuilder(l)
	b.Set("job", "recompose")
	b.Set("instance", "10.0.0.1:8088")
	return b.Labels()
}

func selects(t *testing.T, selector string, l labels.Labels) bool {
	t.Helper()
	matchers, err := promQL.ParseMetricSelector(selector)
	require.NoError(t, err, selector)
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// readRules reads the file as Prometheus reads it.
func readRules(t *testing.T, storage *teststorage.TestStorage) *rules.Group {
	t.Helper()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(engine, storage), AppendableV2: storage, Queryable: storage, Context: t.Context(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: slog.New(slog.DiscardHandler), Parser: promQL,
	})
	groups, faults := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, rulesFile)
	require.Empty(t, faults)
	require.Len(t, groups, 1)
	for _, g := range groups {
		for _, r := range g.AlertingRules() {
			r.SetRestored(true)
		}
		return g
	}
	return nil
}

// evaluate returns the alerts that fire, by the minute.
func evaluate(t *testing.T, storage *teststorage.TestStorage) [][]string {
	t.Helper()
	group := readRules(t, storage)
	var firing [][]string
	for minute := range end {
		group.Eval(t.Context(), at(minute))
		var names []string
		for _, r := range group.AlertingRules() {
			require.NoError(t, r.LastError(), r.Name())
			for _, a := range r.ActiveAlerts() {
				a.Annotations.Range(func(l labels.Label) {
					require.NotRegexp(t, `<no value>|<error|\( ?\)|^ | of (and|fail|beco)`, l.Value, "%s: %s", r.Name(), l.Name)
				})
				if a.State == rules.StateFiring && !slices.Contains(names, r.Name()) {
					names = append(names, r.Name())
				}
			}
		}
		firing = append(firing, names)
	}
	return firing
}

// Each rule has a severity and texts, and selects only series that a worker has.
func TestEveryRuleIsAboutMetricsOfAWorker(t *testing.T) {
	t.Parallel()
	for _, r := range readRules(t, teststorage.New(t)).AlertingRules() {
		isAboutAWorker(t, r.Query().String())
		require.Contains(t, []string{"critical", "warning"}, r.Labels().Get("severity"), r.Name())
		require.NotEmpty(t, r.Annotations().Get("summary"), r.Name())
		require.NotEmpty(t, r.Annotations().Get("description"), r.Name())
	}
}

// isAboutAWorker requires of each selector in an expression that it selects series of a worker, and of each grouping
// that its labels are theirs.
func isAboutAWorker(t *testing.T, expression string) {
	t.Helper()
	expr, err := promQL.ParseExpr(expression)
	require.NoError(t, err, expression)
	names := []string{"job", "namespace", "instance"} // of the target
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok {
			found := false
			for _, s := range worker.after {
				if !slices.ContainsFunc(v.LabelMatchers, func(m *labels.Matcher) bool { return !m.Matches(targetOf(s.labels).Get(m.Name)) }) {
					found = true
					s.labels.Range(func(l labels.Label) { names = append(names, l.Name) })
				}
			}
			require.True(t, found, "%s: a worker has no series %s", expression, v)
		}
		return nil
	})
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok {
			require.Subset(t, names, a.Grouping, expression)
		}
		return nil
	})
}
