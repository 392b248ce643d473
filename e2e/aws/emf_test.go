//go:build e2e

package aws_test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/testkit/chaostest"
)

// read is the output of emf.mjs for a line in CloudWatch's embedded metric format.
type read struct {
	Faults []string
	Points []struct {
		Namespace, Name string
		Dimensions      map[string]string
		Value           float64
	}
}

func (o *output) all() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// readEMF reads the output of the functions with an independent program.
func readEMF(t *testing.T, printed string) []read {
	t.Helper()
	var faults strings.Builder
	cmd := exec.CommandContext(t.Context(), "node", "emf.mjs")
	cmd.Stdin, cmd.Stderr = strings.NewReader(printed), &faults
	out, err := cmd.Output()
	require.NoError(t, err, faults.String())
	var all []read
	for line := range strings.Lines(string(out)) {
		var r read
		require.NoError(t, json.Unmarshal([]byte(line), &r))
		all = append(all, r)
	}
	return all
}

// The metrics that functions print are in CloudWatch's format according to its published schema: all output of a chain
// and of a command that fails.
func TestFunctionsPrintMetricsInTheFormatOfCloudWatch(t *testing.T) {
	t.Parallel()
	log := &output{}
	c := startCloud(t, settings{desktops: 3, log: log})
	c.poll(t, &trouble{}, 1)
	ids := c.service.DesktopIDs()
	chain := c.capture(t, "measured", ids[0], ids[1:])
	bad := chaostest.Command(t, "bad", events.TypeGetDesktop, events.GetDesktop{DesktopID: "no-such-desktop"})
	c.publish(t, chain)
	c.publish(t, bad)
	c.follow(t, 2*time.Minute, chain, bad)
	for _, point := range []string{
		"recompose_jobs_completed_total map[outcome:succeeded topic:Topic] 1", "recompose_jobs_completed_total map[topic:Topic] 1",
		"recompose_commands_failed_total map[kind:not_found topic:Topic] 1", "recompose_commands_failed_total map[topic:Topic] 1",
		"recompose_worker_stopped map[topic:Topic] 0", "recompose_writes_frozen map[topic:Topic] 0", "recompose_writes_frozen_seconds map[topic:Topic] 0",
	} {
		require.Eventually(t, func() bool {
			for _, line := range readEMF(t, log.all()) {
				require.Empty(t, line.Faults)
				for _, p := range line.Points {
					require.Equal(t, "recompose", p.Namespace)
					if fmt.Sprint(p.Name, " ", p.Dimensions, " ", p.Value) == point {
						return true
					}
				}
			}
			return false
		}, time.Minute, 100*time.Millisecond, point)
	}
}

// The reader reports every violation of the format.
func TestTheReaderOfTheFormatReportsFaults(t *testing.T) {
	t.Parallel()
	const good = `{"_aws":{"Timestamp":1795656608966,"CloudWatchMetrics":[{"Namespace":"recompose","Dimensions":[["topic"]],` +
		`"Metrics":[{"Name":"n","Unit":"Count"}]}]},"topic":"t","n":1}`
	lines := []string{good}
	for _, change := range [][2]string{
		{"1795656608966", "1795656608"}, {`"Namespace":"recompose",`, ""}, {`[["topic"]]`, `["topic"]`}, {`[["topic"]]`, `[]`}, {`"Count"`, `"Counts"`},
		{`"Metrics"`, `"metrics"`}, {`"n":1`, `"n":"1"`}, {`"topic":"t"`, `"topic":7`}, {`"topic":"t",`, ""}, {`"n":1}`, `"n":1`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		require.NotEqual(t, good, bad)
		lines = append(lines, bad)
	}
	all := readEMF(t, "no metric\n"+strings.Join(lines, "\n")+"\n")
	require.Len(t, all, len(lines))
	require.Empty(t, all[0].Faults)
	require.Len(t, all[0].Points, 1)
	for i, line := range all[1:] {
		require.NotEmpty(t, line.Faults, lines[i+1])
	}
}
