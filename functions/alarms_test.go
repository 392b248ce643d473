package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/safety"
	"recompose/shared/testkit/awstest"
)

// topicName is the topic of the server as template.yaml's alarms name theirs.
var topicName = awstest.TopicARN[strings.LastIndexByte(awstest.TopicARN, ':')+1:]

// printed is what a sandbox prints in one invocation as metrics, and in what it prints last each function reports whether
// it can work.
func printed(t *testing.T, s *awstest.Sandbox, messages ...awstest.Record) []point {
	t.Helper()
	gauges := func() (n int) {
		for _, p := range points(t, s.Log()) {
			if p.name == "recompose_check_passed" {
				n++
			}
		}
		return n
	}
	before, invocations := len(points(t, s.Log())), gauges()
	require.Empty(t, invoke(t, s, time.Minute, messages...))
	require.Eventually(t, func() bool { return gauges() > invocations }, 10*time.Second, time.Millisecond)
	return points(t, s.Log())[before:]
}

// rebuildOf is a rebuild of all desktops.
func (k *cloud) rebuildOf(t *testing.T, id string) awstest.Record {
	t.Helper()
	image := k.world.State().Images[1]
	r := command(t, events.FnRebuild, id, events.Rebuild{
		DesktopIDs: k.world.DesktopIDs(), ImageID: image.ID, ImageType: image.ImageType, RebuildOptions: events.RebuildOptions{RebuildCurrent: true},
	})
	r.MessageID = "message of " + id
	return r
}

// serve runs functions behind their queues until the test ends.
func (k *cloud) serve(t *testing.T, sandboxes map[string]*awstest.Sandbox) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mappings sync.WaitGroup
	t.Cleanup(func() { cancel(); mappings.Wait() })
	for name, s := range sandboxes {
		m := awstest.Mapping{Server: k.Server, Queue: name, Batch: 1, Invoke: func(ctx context.Context, event []byte) ([]byte, error) {
			return s.Invoke(ctx, event, time.Minute)
		}}
		mappings.Go(func() { m.Run(ctx) })
	}
}

// until waits for an event of a type.
func (k *cloud) until(t *testing.T, typ string) {
	t.Helper()
	require.Eventually(t, func() bool { return len(k.events(t)[typ]) > 0 }, time.Minute, 20*time.Millisecond, typ)
}

// The real programs make each alarm on printed metrics ring, and it is quiet before.
func TestEachAlarmRings(t *testing.T) {
	t.Parallel()
	alarms := alarmsOnMetrics(t, topicName)
	drives := map[string]func(t *testing.T, a alarm){
		"KeyRefusedAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1})
			get := func(s *awstest.Sandbox, id string) []point {
				t.Helper()
				return printed(t, s, command(t, events.FnGetDesktop, id, events.GetDesktop{DesktopID: k.world.DesktopIDs()[0]}))
			}
			k.SetSecret(testSecret, fmt.Sprintf(`{"AK": %q, "SK": "not-the-key-0001"}`, emulator.DefaultAccessKey))
			refused := k.start(t, events.FnGetDesktop, nil)
			require.True(t, a.rings(t, get(refused, "a")))
			require.True(t, a.rings(t, get(refused, "b")), "while it lasts, each held message rings")
			require.True(t, a.rings(t, get(k.start(t, events.FnGetDesktop, nil), "c")), "also one that another sandbox has in hand")
			k.SetSecret(testSecret, fmt.Sprintf(`{"AK": %q, "SK": %q}`, emulator.DefaultAccessKey, emulator.DefaultSecretKey))
			require.False(t, a.rings(t, get(k.start(t, events.FnGetDesktop, nil), "a")), "a value ends it, for it keeps its state without one")

			k = newCloud(t, emulator.Options{Desktops: 1})
			k.SetSecret(testSecret, fmt.Sprintf(`{"IAM_USER": %q, "IAM_PASSWORD": "not-the-password", "IAM_DOMAIN": %q, "IAM_ENDPOINT": %q}`,
				emulator.DefaultIAMUser, emulator.DefaultIAMDomain, k.endpoint))
			require.True(t, a.rings(t, get(k.start(t, events.FnGetDesktop, nil), "a")), "a login that IAM refuses rings, too")
		},
		"NotReadyAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1})
			get := command(t, events.FnGetDesktop, "a", events.GetDesktop{DesktopID: k.world.DesktopIDs()[0]})
			require.False(t, a.rings(t, printed(t, k.start(t, events.FnGetDesktop, nil), get)), "it has recorded its service")
			other := k.start(t, events.FnGetDesktop, map[string]string{"HUAWEICLOUD_SDK_PROJECT_ID": "another"})
			require.True(t, a.rings(t, printed(t, other, get)), "it holds its messages")

			s := k.start(t, events.FnRebuild, nil)
			require.False(t, a.rings(t, printed(t, s, k.rebuildOf(t, "c1"))))
			k.Empty("recompose")
			require.True(t, a.rings(t, printed(t, s, k.rebuildOf(t, "c2"))), "the ledger has lost records")
			require.NoError(t, k.ledger(t).Accept(t.Context()))
			require.False(t, a.rings(t, printed(t, s, k.rebuildOf(t, "c2"))))
		},
		"FrozenAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1})
			s, people := k.start(t, events.FnRebuild, nil), k.operators(t)
			for ago, rings := range map[time.Duration]bool{59 * time.Minute: false, 61 * time.Minute: true} {
				require.NoError(t, people.SetFreeze(t.Context(), safety.Freeze{Reason: "a test", By: "ada", At: time.Now().Add(-ago)}))
				require.Equal(t, rings, a.rings(t, printed(t, s, k.rebuildOf(t, "c1"))))
			}
			require.Zero(t, k.rebuilt())
			require.NoError(t, people.Thaw(t.Context()))
			require.False(t, a.rings(t, printed(t, s, k.rebuildOf(t, "c1"))))
			require.Equal(t, 1, k.rebuilt())
		},
		"UnknownOutcomeAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1, Pace: 1000, SignatureWindow: 5 * time.Second})
			require.NoError(t, k.world.SetFaults([]emulator.Fault{{Call: emulator.CallRebuild, Do: emulator.Do{Drop: emulator.DropBefore}}}))
			s := k.start(t, events.FnRebuild, map[string]string{"RECOMPOSE_RESEND": "never", "RECOMPOSE_SIGNATURE_WINDOW": "5s"})
			require.False(t, a.rings(t, printed(t, s, k.rebuildOf(t, "c1"))), "it is still looked for")
			k.serve(t, map[string]*awstest.Sandbox{events.FnRebuild: s})
			k.until(t, events.TypeCommandFailed)
			require.Eventually(t, func() bool { return a.rings(t, points(t, s.Log())) }, time.Minute, 20*time.Millisecond)
		},
		"CommandsFailedAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1})
			s := k.start(t, events.FnGetDesktop, nil)
			require.False(t, a.rings(t, printed(t, s, command(t, events.FnGetDesktop, "a", events.GetDesktop{DesktopID: k.world.DesktopIDs()[0]}))))
			require.True(t, a.rings(t, printed(t, s, command(t, events.FnGetDesktop, "b", events.GetDesktop{DesktopID: "no-such-desktop"}))))
		},
		"JobsLostAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1})
			require.Empty(t, invoke(t, k.start(t, events.FnRebuild, nil), time.Minute, k.rebuildOf(t, "c1")))
			s := k.start(t, events.FnWatchJob, nil)
			m := k.accepted(t)
			require.False(t, a.rings(t, printed(t, s, m)))
			m.Attributes["ApproximateReceiveCount"] = "6" // its sandbox has ended so often in the middle of it
			require.True(t, a.rings(t, printed(t, s, m)))
		},
		"RolloutsHaltedAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 2, Speed: 2000})
			require.NoError(t, k.world.SetFaults([]emulator.Fault{{Call: emulator.CallRebuild, Do: emulator.Do{Job: "fail", ErrorCode: "WKS.00010304"}}}))
			spec, _ := k.smallRollout(t, "halts")
			all := k.serveAll(t)
			k.rolloutCommand(t, events.TypeRolloutStart, "start", events.RolloutCommand{Spec: spec})
			k.until(t, events.TypeRolloutStarted)
			k.until(t, events.TypeRolloutHalted)
			require.Eventually(t, func() bool {
				return a.rings(t, slices.Concat(points(t, all[events.FnRollout].Log()), points(t, all["second"].Log())))
			}, time.Minute, 20*time.Millisecond)
		},
		"JobsTimedOutAlarm": func(t *testing.T, a alarm) {
			k := newCloud(t, emulator.Options{Desktops: 1, Pace: 1000})
			fast := map[string]string{"RECOMPOSE_REBUILD_DEADLINE": "1s"}
			require.Empty(t, invoke(t, k.start(t, events.FnRebuild, fast), time.Minute, k.rebuildOf(t, "c1")))
			s := k.start(t, events.FnWatchJob, fast)
			k.serve(t, map[string]*awstest.Sandbox{events.FnWatchJob: s})
			k.until(t, events.TypeJobCompleted)
			require.Eventually(t, func() bool { return a.rings(t, points(t, s.Log())) }, time.Minute, 20*time.Millisecond)
			require.False(t, alarms["JobsLostAlarm"].rings(t, points(t, s.Log())))
		},
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(alarms)), slices.Collect(maps.Keys(drives)), "no alarm without a proof")
	for name, drive := range drives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drive(t, alarms[name])
		})
	}
}

// The log lines of functions have the fields that the saved query reads.
func TestTheSavedQueryFindsAChain(t *testing.T) {
	t.Parallel()
	query := readTemplate(t).at("Resources", "ChainQuery", "Properties")
	var groups []any
	each(t, func(_ *testing.T, _ template, f deployed) { groups = append(groups, ref(f.id+"Logs")) })
	require.ElementsMatch(t, groups, at(query, "LogGroupNames"))
	text := at(query, "QueryString").(string)
	filter := regexp.MustCompile(`\| filter (\w+) = "`).FindStringSubmatch(text)
	require.NotNil(t, filter)

	k := newCloud(t, emulator.Options{Desktops: 1})
	s := k.start(t, events.FnGetDesktop, map[string]string{"RECOMPOSE_LOG_LEVEL": "debug"})
	printed(t, s, command(t, events.FnGetDesktop, "the-chain", map[string]string{"desktop": "no such field"}))
	there := map[string]bool{}
	for line := range strings.Lines(s.Log()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) == nil && fields[filter[1]] == "the-chain" {
			for name := range fields {
				there[name] = true
			}
		}
	}
	for _, field := range regexp.MustCompile(`\w+`).FindAllString(regexp.MustCompile(`(?m)^fields @timestamp(.*)$`).FindStringSubmatch(text)[1], -1) {
		if field != "outcome" { // of a job
			require.True(t, there[field], "no line of the chain has %s; there are %v", field, slices.Sorted(maps.Keys(there)))
		}
	}
}

// The dashboard shows metrics that exist: printed by functions, or by AWS for resources of the template.
func TestTheDashboardShowsMetricsThatExist(t *testing.T) {
	t.Parallel()
	tp := readTemplate(t)
	require.Equal(t, map[string]any{"Fn::Sub": "${AWS::StackName}-${AWS::Region}"}, tp.at("Resources", "Dashboard", "Properties", "DashboardName"),
		"dashboards are global: stacks of one name in two regions would replace each other's")
	body, ok := at(tp.at("Resources", "Dashboard", "Properties", "DashboardBody"), "Fn::Sub").(string)
	require.True(t, ok)
	body = substitution.ReplaceAllString(body, "$1")
	var board struct {
		Widgets []struct {
			Type                string
			X, Y, Width, Height int
			Properties          struct {
				Alarms  []string
				Metrics [][]any
			}
		}
	}
	require.NoError(t, json.Unmarshal([]byte(body), &board))
	source, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	dimensions := map[string]string{"AWS/SQS": "QueueName", "AWS/Lambda": "FunctionName", "recompose": "topic"}
	search := regexp.MustCompile(`^SEARCH\('\{recompose,topic,(outcome|kind)\} topic="Topic\.TopicName" MetricName="(\w+)"', 'Sum', 300\)$`)
	shown, alarms, of := map[string]bool{}, map[string]bool{}, map[string]bool{}
	taken := map[[2]int]bool{}
	for _, w := range board.Widgets {
		for x := w.X; x < w.X+w.Width; x++ {
			for y := w.Y; y < w.Y+w.Height; y++ {
				require.False(t, taken[[2]int{x, y}] || x >= 24, "widgets lie over each other")
				taken[[2]int{x, y}] = true
			}
		}
		for _, a := range w.Properties.Alarms {
			alarms[strings.TrimSuffix(a, ".Arn")] = true
		}
		for _, m := range w.Properties.Metrics {
			if expression, ok := at(m[0], "expression").(string); ok {
				match := search.FindStringSubmatch(expression)
				require.NotNil(t, match, expression)
				shown[match[2]] = true
				require.Contains(t, string(source), "| `"+match[2]+"` | ")
				continue
			}
			require.Equal(t, dimensions[m[0].(string)], m[2], "%v", m)
			name, _, _ := strings.Cut(m[3].(string), ".")
			require.NotNil(t, tp.at("Resources", name), "%v", m)
			of[name+" "+m[1].(string)] = true
			if m[0] == "recompose" {
				shown[m[1].(string)] = true
				require.Contains(t, string(source), "| `"+m[1].(string)+"` | ")
			}
		}
	}
	each(t, func(t *testing.T, _ template, f deployed) {
		for _, row := range []string{
			"Queue ApproximateNumberOfMessagesVisible", "Queue ApproximateNumberOfMessagesDelayed",
			"DeadLetterQueue ApproximateNumberOfMessagesVisible", "Function Invocations", "Function Errors", "Function Throttles",
			"Function Duration",
		} {
			require.True(t, of[f.id+row], "the dashboard does not show %s%s", f.id, row)
		}
	})
	for name, a := range alarmsOnMetrics(t, topicName) {
		require.True(t, alarms[name], "%s is not shown", name)
		require.True(t, shown[strings.Replace(a.name, "frozen_seconds", "frozen", 1)], "%s is not shown", a.name)
	}
}
