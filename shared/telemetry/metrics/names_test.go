package metrics

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// registered are the metrics of recompose that a worker has, with their labels, by the registry itself.
func registered() map[string][]string {
	m := New(options())
	m.Watch(noWorker, noChecks)
	descs := make(chan *prometheus.Desc)
	go func() { m.registry.Describe(descs); close(descs) }()
	all := map[string][]string{}
	form := regexp.MustCompile(`^Desc\{fqName: "(recompose_\w+)", .*, variableLabels: \{(.*)\}\}$`)
	for d := range descs {
		if match := form.FindStringSubmatch(d.String()); match != nil {
			all[match[1]] = strings.FieldsFunc(match[2], func(r rune) bool { return r == ',' || r == ' ' })
		}
	}
	return all
}

// TestEveryMetricIsDocumented compares the registry with the table in docs/operations.md.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	there := slices.Collect(maps.Keys(registered()))
	text, err := os.ReadFile("../../../docs/operations.md")
	require.NoError(t, err)
	var documented []string
	for _, match := range regexp.MustCompile("(?m)^\\| `(recompose_[a-z_]+)`").FindAllStringSubmatch(string(text), -1) {
		documented = append(documented, match[1])
	}
	require.ElementsMatch(t, there, documented)
	for _, name := range there {
		require.Regexp(t, `(_total|_seconds|_bytes|_info|_messages|_per_minute|_tokens|_readable|_connected|_stopped|_frozen|_passed)$`, name)
	}
}

// What rules, dashboard and documents name is what a worker registers: the metrics, and the labels in their selectors.
// That the expressions find something on a real worker is tested in deploy/check.
func TestRulesDashboardAndDocumentsNameMetricsThatExist(t *testing.T) {
	t.Parallel()
	metrics := registered()
	require.Contains(t, metrics, "recompose_commands_failed_total")
	require.Equal(t, []string{"stream", "consumer", "state"}, metrics["recompose_queue_messages"])
	selector := regexp.MustCompile(`\b(recompose_\w+)(?:\{([^}]*)\})?`)
	label := regexp.MustCompile(`(\w+) *(?:=~|!~|!=|=)`)
	seen := map[string]map[string]bool{}
	for _, path := range []string{"deploy/prometheus/recompose.rules.yaml", "deploy/grafana/recompose.json", "docs/operations.md"} {
		text, err := os.ReadFile("../../../" + path)
		require.NoError(t, err)
		seen[path] = map[string]bool{}
		for _, found := range selector.FindAllStringSubmatch(string(text), -1) {
			name := strings.TrimSuffix(found[1], "_bucket")
			require.Contains(t, metrics, name, "%s: no such metric", path)
			seen[path][name] = true
			for _, l := range label.FindAllStringSubmatch(found[2], -1) {
				require.Contains(t, append([]string{"job"}, metrics[name]...), l[1], "%s: %s has no such label", path, found[0])
			}
		}
	}
	require.Greater(t, len(seen["deploy/prometheus/recompose.rules.yaml"]), 10)
	require.Greater(t, len(seen["deploy/grafana/recompose.json"]), 20)
}
