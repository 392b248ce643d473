package functions_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// point is a value of a CloudWatch metric.
type point struct {
	namespace, name string
	dimensions      map[string]string
	value           float64
}

// points returns the metrics that CloudWatch makes from printed lines in its embedded metric format, by the
// specification of the format: a value for each metric and each set of dimensions of each directive. CloudWatch
// silently ignores lines that break the specification; here they fail the test.
func points(t *testing.T, log string) []point {
	t.Helper()
	var all []point
	for line := range strings.Lines(log) {
		var root map[string]any
		if json.Unmarshal([]byte(line), &root) != nil || root["_aws"] == nil {
			continue
		}
		require.LessOrEqual(t, len(line), 256*1024)
		var meta struct {
			Timestamp         int64
			CloudWatchMetrics []struct {
				Namespace  string
				Dimensions [][]string
				Metrics    []struct{ Name, Unit string }
			}
		}
		raw, err := json.Marshal(root["_aws"])
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, &meta))
		require.WithinDuration(t, time.Now(), time.UnixMilli(meta.Timestamp), 5*time.Minute, "milliseconds; much older ones are dropped")
		require.NotEmpty(t, meta.CloudWatchMetrics)
		for _, d := range meta.CloudWatchMetrics {
			require.NotEmpty(t, d.Namespace)
			require.NotEmpty(t, d.Dimensions)
			require.NotEmpty(t, d.Metrics)
			require.LessOrEqual(t, len(d.Metrics), 100)
			for _, set := range d.Dimensions {
				require.LessOrEqual(t, len(set), 30)
				dimensions := map[string]string{}
				for _, name := range set {
					value, isText := root[name].(string)
					require.True(t, isText && value != "" && len(value) <= 1024, "%s: the target of a dimension is a text: %s", name, line)
					dimensions[name] = value
				}
				for _, m := range d.Metrics {
					value, isNumber := root[m.Name].(float64)
					require.True(t, isNumber, "%s: the target of a metric is a number: %s", m.Name, line)
					require.Contains(t, []string{"Count", "Seconds", "None"}, m.Unit)
					all = append(all, point{d.Namespace, m.Name, dimensions, value})
				}
			}
		}
	}
	return all
}

// alarm is an alarm of the template on metrics that functions print.
type alarm struct {
	namespace, name, statistic string
	below                      bool // it rings under the threshold
	dimensions                 map[string]string
	threshold                  int
}

// rings reports whether these points, as those of one period, are over the threshold. Name and dimensions must be those
// of the alarm: otherwise CloudWatch sees another metric.
func (a alarm) rings(t *testing.T, points []point) bool {
	t.Helper()
	var values []float64
	for _, p := range points {
		same := len(p.dimensions) == len(a.dimensions)
		for name, value := range a.dimensions {
			same = same && p.dimensions[name] == value
		}
		if same && p.namespace == a.namespace && p.name == a.name {
			values = append(values, p.value)
		}
	}
	if len(values) == 0 {
		return false // missing data does not ring
	}
	switch a.statistic {
	case "Minimum":
		require.True(t, a.below)
		return slices.Min(values) < float64(a.threshold)
	case "Maximum":
		return slices.Max(values) > float64(a.threshold)
	case "Sum":
		sum := 0.0
		for _, v := range values {
			sum += v
		}
		return sum > float64(a.threshold)
	}
	require.Fail(t, "unknown statistic", a.statistic)
	return false
}

// alarmsOnMetrics returns the alarms of the template on printed metrics, by name.
func alarmsOnMetrics(t *testing.T, topic string) map[string]alarm {
	t.Helper()
	all := map[string]alarm{}
	for name, r := range readTemplate(t).at("Resources").(map[string]any) {
		if p := at(r, "Properties"); at(r, "Type") == "AWS::CloudWatch::Alarm" && at(p, "Namespace") == "recompose" {
			a := alarm{
				namespace: "recompose", name: at(p, "MetricName").(string), statistic: at(p, "Statistic").(string),
				dimensions: map[string]string{}, threshold: at(p, "Threshold").(int),
			}
			a.below = at(p, "ComparisonOperator") == "LessThanThreshold"
			if !a.below {
				require.Equal(t, "GreaterThanThreshold", at(p, "ComparisonOperator"))
				require.Equal(t, 1, at(p, "EvaluationPeriods"))
			}
			for _, d := range at(p, "Dimensions").([]any) {
				value, isText := at(d, "Value").(string)
				if !isText {
					require.Equal(t, attribute("Topic", "TopicName"), at(d, "Value"), name)
					value = topic
				}
				a.dimensions[at(d, "Name").(string)] = value
			}
			all[name] = a
		}
	}
	return all
}
