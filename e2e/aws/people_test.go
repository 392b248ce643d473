//go:build e2e

package aws_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/testkit/awstest"
)

// person is an operator of the stack with the program recompose.
type person struct {
	program string
	env     []string
}

// person deploys the stack's outputs, of which only CloudFormation is not an independent server.
func (c *cloud) person(t *testing.T) *person {
	t.Helper()
	formation := awstest.New()
	t.Cleanup(formation.Close)
	outputs := map[string]string{"TopicArn": c.topic, "TableName": table}
	if c.approval != "" {
		outputs["ApprovalTopicArn"] = c.approval
	}
	for name, url := range c.queues {
		if strings.HasSuffix(name, "Queue") {
			outputs[name+"Url"] = url
		}
	}
	formation.SetStack("recompose", awstest.Stack{Outputs: outputs, Parameters: map[string]string{
		"WorkspaceEndpoint": c.address, "ProjectId": emulator.DefaultProjectID,
	}})
	p := &person{program: filepath.Join(t.TempDir(), "recompose"), env: []string{
		"AWS_REGION=" + region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true", "HOME=" + t.TempDir(),
		"AWS_ENDPOINT_URL=" + c.endpoint, "AWS_ENDPOINT_URL_DYNAMODB=" + c.db, "AWS_ENDPOINT_URL_CLOUDFORMATION=" + formation.URL,
	}}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "../../cmd/recompose").CombinedOutput()
	require.NoError(t, err, string(out))
	return p
}

// run runs the program, which must succeed, and returns its output.
func (p *person) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.program, args...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "recompose %s: %s", strings.Join(args, " "), out)
	return string(out)
}

// The program sends one command, follows it to a verified fleet and reports it; then it deletes the queue that it used
// for that.
func TestAPersonSendsAndFollows(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 4})
	c.poll(t, &trouble{}, 1)
	p := c.person(t)
	ids := c.service.DesktopIDs()
	fleet := filepath.Join(t.TempDir(), "fleet.txt")
	require.NoError(t, os.WriteFile(fleet, []byte(strings.Join(ids[1:], "\n")), 0o600))
	look := func() string {
		return p.run(t, "send", "getdesktop", "--aws", "recompose", "--desktop-id", ids[0], "--wait", "--timeout", "2m")
	}
	require.Contains(t, look(), "REAL (no worker has recorded yet")
	require.Contains(t, look(), "EMULATOR\n", "a function has recorded the service")
	send := func() string {
		return p.run(t, "send", "desktoptoimage", "--aws", "recompose", "--id", "one", "--desktop-id", ids[0], "--image-name", "golden",
			"--execute-sysprep=true", "--then-rebuild", fleet, "--wait", "--timeout", "2m")
	}
	require.Contains(t, send(), "3 rebuilt, 3 verified, 0 failed, 0 skipped\nsucceeded\n")
	require.Contains(t, send(), "3 rebuilt, 3 verified, 0 failed, 0 skipped\nsucceeded\n", "the same report")
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage), "and done once")
	require.Equal(t, 1, c.accepted(emulator.CallRebuild))
	queues, err := c.sqs.ListQueues(t.Context(), &sqs.ListQueuesInput{QueueNamePrefix: aws.String(awsqueue.FollowerPrefix)})
	require.NoError(t, err)
	require.Empty(t, queues.QueueUrls)
	subscriptions, err := c.sns.ListSubscriptionsByTopic(t.Context(), &sns.ListSubscriptionsByTopicInput{TopicArn: &c.topic})
	require.NoError(t, err)
	require.Len(t, subscriptions.Subscriptions, len(names)+2)
}

// Dead letters are listed, redriven and dropped, and writes are frozen, on queues and a table of independent servers.
func TestAPersonFreezesAndRedrives(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 2})
	p := c.person(t)
	ids := c.service.DesktopIDs()
	require.Contains(t, p.run(t, "freeze", "--aws", "recompose", "--reason", "a test"), "now       frozen since")
	frozen, err := operators(t, c.db).Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "a test", frozen.Reason)
	require.Contains(t, p.run(t, "thaw", "--aws", "recompose"), "now       not frozen")

	for i, body := range []string{`{"desktop_id":"` + ids[0] + `"}`, "x"} { // as SNS stores messages that it cannot deliver
		name := []string{"GetDesktop", "WatchJob"}[i] + "DeadLetterQueue"
		_, err := c.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(c.queues[name]), MessageBody: &body})
		require.NoError(t, err)
	}
	require.Contains(t, p.run(t, "dead", "list", "--aws", "recompose"), "2 dead letters")
	require.Contains(t, p.run(t, "dead", "redrive", "--function", "getdesktop", "--aws", "recompose"), "1 dead letter redriven")
	require.Contains(t, p.run(t, "dead", "drop", "--all", "--aws", "recompose"), "1 dead letter dropped")
	require.Contains(t, p.run(t, "dead", "list", "--aws", "recompose"), "0 dead letters")
	require.Equal(t, "1", c.waiting(t, "GetDesktopQueue"))
	c.poll(t, &trouble{}, 1)
	require.Eventually(t, func() bool { return len(c.published(t)) == 1 }, time.Minute, 10*time.Millisecond, "the redriven command has ended")
}
