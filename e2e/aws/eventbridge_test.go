//go:build e2e

package aws_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

// in returns the value under a path of a template.
func in(o any, path ...string) any {
	for _, p := range path {
		o = o.(object)[p]
	}
	return o
}

// put sends a body to the queue of a function without any attribute, as EventBridge does.
func (c *cloud) put(t *testing.T, name, body string) {
	t.Helper()
	url := c.queues[name+"Queue"]
	_, err := c.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body})
	require.NoError(t, err)
}

var placeholder = regexp.MustCompile(`<[A-Za-z0-9_.-]+>`)

// transformed is the result of EventBridge's input transformer for an event, according to its documentation: a
// placeholder that is a whole value of the template becomes the value as JSON, and one within a string becomes text.
func transformed(t *testing.T, transformer object, rule string, event object) string {
	t.Helper()
	value := func(name string) any {
		if name == "aws.events.rule-name" {
			return rule
		}
		path, ok := in(transformer, "InputPathsMap", name).(string)
		require.True(t, ok, "no path for %s", name)
		return in(event, strings.Split(strings.TrimPrefix(path, "$."), ".")...)
	}
	template := transformer["InputTemplate"].(string)
	var out strings.Builder
	quoted, last := false, 0
	for _, at := range placeholder.FindAllStringIndex(template, -1) {
		before := template[last:at[0]]
		quoted = quoted != (strings.Count(before, `"`)%2 == 1)
		out.WriteString(before)
		v := value(template[at[0]+1 : at[1]-1])
		if quoted {
			out.WriteString(v.(string))
		} else {
			text, err := json.Marshal(v)
			require.NoError(t, err)
			out.Write(text)
		}
		last = at[1]
	}
	return out.String() + template[last:]
}

// The transformer of deploy/aws/rule.yaml turns an event of EventBridge into a command, which is carried out once,
// even if EventBridge sends it several times.
func TestARuleOfEventBridgeSendsARebuild(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 3})
	image, kind := chaostest.OtherImage(t, c.service.State())
	rule := in(parseFile(t, "deploy/aws/rule.yaml"), "Resources", "Rule", "Properties").(object)
	target := rule["Targets"].([]any)[0].(object)
	now := time.Now().UTC().Truncate(time.Second)
	event := object{
		"version": "0", "id": "7bf73129-1428-4cd3-a780-95db273d1602", "detail-type": in(rule, "EventPattern", "detail-type").([]any)[0],
		"source": in(rule, "EventPattern", "source").([]any)[0], "account": "123456789012", "time": now.Format(time.RFC3339), "region": region,
		"resources": []any{}, "detail": object{"image_id": image, "image_type": kind, "desktop_ids": c.service.DesktopIDs()},
	}
	body := transformed(t, target["InputTransformer"].(object), "approved", event)
	e, err := events.Decode(nil, []byte(body), events.Bare{})
	require.NoError(t, err, body)
	require.Equal(t, events.TypeRebuild, e.Type)
	require.Equal(t, event["id"], e.ID)
	require.Equal(t, "eventbridge/approved", e.Source)
	require.True(t, now.Equal(e.Time), "a late command expires")

	c.poll(t, &trouble{}, 1)
	c.put(t, "Rebuild", body)
	c.put(t, "Rebuild", body)
	published := c.follow(t, 2*time.Minute, e)
	for _, e := range published {
		require.NotEqual(t, events.TypeCommandFailed, e.Type, string(e.Data))
	}
	require.Equal(t, 3, verified(t, published))
	require.Equal(t, 1, c.accepted(emulator.CallRebuild))
}

// The schedule of deploy/aws/nightly.yaml makes one image a night, even if EventBridge Scheduler sends twice, and
// another one in the next night.
func TestAScheduleMakesAGoldenImageANight(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 2})
	c.poll(t, &trouble{}, 1)
	input := in(parseFile(t, "deploy/aws/nightly.yaml"), "Resources", "Schedule", "Properties", "Target", "Input", "Fn::Sub").(string)
	night := func(at time.Time, execution string) (events.Envelope, string) {
		t.Helper()
		body := strings.NewReplacer("${ImageName}", "nightly", "${DesktopId}", c.service.DesktopIDs()[0], "${AWS::StackName}", "golden",
			"<aws.scheduler.scheduled-time>", at.UTC().Format(time.RFC3339), "<aws.scheduler.execution-id>", execution).Replace(input)
		require.NotRegexp(t, `<|\$\{`, body)
		e, err := events.Decode(nil, []byte(body), events.Bare{})
		require.NoError(t, err, body)
		require.Equal(t, events.TypeDesktopToImage, e.Type)
		return e, body
	}
	now := time.Now()
	first, body := night(now.Add(-time.Hour), "d32c5kddcf5bb8c3")
	_, attempt := night(now.Add(-time.Hour), "e43d6leedg6cc9d4") // EventBridge Scheduler gives each attempt a new id
	c.put(t, "DesktopToImage", body)
	c.put(t, "DesktopToImage", body)
	c.follow(t, 2*time.Minute, first)
	c.put(t, "DesktopToImage", attempt)
	var failed []string
	require.Eventually(t, func() bool {
		for _, e := range c.published(t) {
			if e.Type == events.TypeCommandFailed {
				var d events.CommandFailed
				require.NoError(t, json.Unmarshal(e.Data, &d))
				failed = append(failed, d.Error.Kind)
			}
		}
		return len(failed) > 0
	}, time.Minute, time.Millisecond)
	require.Equal(t, events.KindIDReused, failed[0])
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage))

	second, body := night(now, "f54e7mffeh7ddae5")
	c.put(t, "DesktopToImage", body)
	for _, e := range c.follow(t, 2*time.Minute, second) {
		require.NotEqual(t, events.TypeCommandFailed, e.Type, string(e.Data))
	}
	require.Equal(t, 2, c.accepted(emulator.CallDesktopToImage))
}
