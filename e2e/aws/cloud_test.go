//go:build e2e

package aws_test

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	snstypes "github.com/aws/aws-sdk-go-v2/service/sns/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"recompose/events"
	"recompose/shared/emulator"
)

// visibility replaces the template's visibility timeouts, which are minutes: it is how long the message of a killed
// sandbox stays invisible. It is shorter than some handlers run.
const visibility = 3 * time.Second

// mostReceives replaces the template's maxReceiveCount of 10. There a message is received once more when its handler has
// ended or was killed. Here it is received while its handlers run or are frozen, and could reach 10 before one of them ends.
const mostReceives = 100

// settings of a cloud; zero values have a default.
type settings struct {
	desktops   int
	window     time.Duration // the greatest age of a signature; the recovery of an interrupted write takes as long
	visibility time.Duration
	longer     time.Duration // is added where the time of a message grows with the fleet: a list of it, a step of its rollout
	speed      float64       // of the service's jobs
	pace       float64       // of the polling for them
	level      string        // of the log
	log        io.Writer     // nil: the test's
	freezes    bool          // a sandbox is frozen between invocations, as on Lambda
	more       []string      // variables of all functions
	adopts     *cloud        // an earlier stack, whose table and service this one uses
	unfiltered bool          // no filter of a function's subscription is in force yet
	separate   bool          // the approval of rollouts has a topic of its own
}

// template is the part of template.yaml that these tests use.
type template struct {
	Resources map[string]struct {
		Properties struct {
			FilterPolicy map[string]any `yaml:"FilterPolicy"`
			Timeout      int            `yaml:"Timeout"`
			Events       struct {
				Queue struct {
					Properties struct {
						BatchSize int32 `yaml:"BatchSize"`
					} `yaml:"Properties"`
				} `yaml:"Queue"`
			} `yaml:"Events"`
		} `yaml:"Properties"`
	} `yaml:"Resources"`
}

// cloud is the deployment of template.yaml on independent servers, with an emulator of the service.
type cloud struct {
	settings
	template template
	sqs      *sqs.Client
	sns      *sns.Client
	db       string // endpoint of DynamoDB
	endpoint string // of the others
	topic    string
	approval string            // the topic for approvals, if it is separate
	queues   map[string]string // logical id → URL
	servers  []*server         // of SQS and SNS, and of DynamoDB
	service  *emulator.Server
	web      *httptest.Server // of the service
	address  string           // of the service, for the functions

	mu    sync.Mutex
	boxes map[*sandbox]bool // running ones
}

func startCloud(t *testing.T, s settings) *cloud {
	t.Helper()
	s.window, s.visibility = cmp.Or(s.window, window), cmp.Or(s.visibility, visibility)
	s.speed, s.pace, s.level = cmp.Or(s.speed, 300), cmp.Or(s.pace, 20), cmp.Or(s.level, "error")
	if s.log == nil {
		s.log = t.Output()
	}
	c := &cloud{settings: s, queues: map[string]string{}, boxes: map[*sandbox]bool{}}
	text, err := os.ReadFile("../../template.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &c.template))

	c.servers = []*server{startServer(t, "sqs")}
	if s.adopts != nil {
		c.servers = append(c.servers, s.adopts.servers[1])
	} else {
		c.servers = append(c.servers, startServer(t, "dynamodb"))
		createTable(t, c.servers[1].url)
	}
	c.endpoint, c.db = c.servers[0].url, c.servers[1].url
	c.sqs = sqs.New(sqs.Options{Region: region, BaseEndpoint: &c.endpoint, Credentials: credentials()})
	c.sns = sns.New(sns.Options{Region: region, BaseEndpoint: &c.endpoint, Credentials: credentials()})
	made, err := c.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("Topic")})
	require.NoError(t, err)
	c.topic = *made.TopicArn
	for _, n := range names {
		dead := c.queue(t, n+"DeadLetterQueue", nil)
		redrive, err := json.Marshal(map[string]any{"deadLetterTargetArn": dead, "maxReceiveCount": mostReceives})
		require.NoError(t, err)
		seconds := int(s.visibility.Seconds())
		if n == "ListDesktops" || n == "Rollout" {
			seconds += int(s.longer.Seconds())
		}
		arn := c.queue(t, n+"Queue", map[string]string{"VisibilityTimeout": strconv.Itoa(seconds), "RedrivePolicy": string(redrive)})
		filter := c.template.Resources[n+"Subscription"].Properties.FilterPolicy
		if s.unfiltered {
			filter = nil
		}
		c.subscribe(t, c.topic, arn, filter)
		if s.separate && n == "Rollout" {
			made, err := c.sns.CreateTopic(t.Context(), &sns.CreateTopicInput{Name: aws.String("ApprovalTopic")})
			require.NoError(t, err)
			c.approval = *made.TopicArn
			c.subscribe(t, c.approval, arn, c.template.Resources["ApprovalSubscription"].Properties.FilterPolicy)
		}
	}
	unrouted := c.queue(t, "UnroutedQueue", nil)
	c.subscribe(t, c.topic, unrouted, c.template.Resources["UnroutedSubscription"].Properties.FilterPolicy)
	if s.separate {
		c.subscribe(t, c.approval, unrouted, c.template.Resources["ApprovalUnroutedSubscription"].Properties.FilterPolicy)
	}
	c.subscribe(t, c.topic, c.queue(t, "Everything", nil), nil)

	if s.adopts != nil {
		c.service, c.web, c.address = s.adopts.service, s.adopts.web, s.adopts.address
		return c
	}
	c.service, err = emulator.New(emulator.Options{Desktops: s.desktops, Speed: s.speed, Pace: s.pace, SignatureWindow: s.window, JournalSize: 1 << 20})
	require.NoError(t, err)
	c.web = httptest.NewServer(c.service)
	c.address = c.web.URL
	t.Cleanup(func() { c.web.Close(); require.NoError(t, c.service.Close()) })
	return c
}

// window is shorter than the service's, so that the recovery of an interrupted write is quick.
const window = 30 * time.Second

func (c *cloud) queue(t *testing.T, name string, attributes map[string]string) (arn string) {
	t.Helper()
	made, err := c.sqs.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
	require.NoError(t, err)
	c.queues[name] = *made.QueueUrl
	got, err := c.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: made.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{"QueueArn"}})
	require.NoError(t, err)
	return got.Attributes["QueueArn"]
}

// chosen is a filter with its conditions decided: YAML reads !If as a list of the condition and both values.
func (s settings) chosen(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, one := range v {
			v[name] = s.chosen(one)
		}
	case []any:
		var all []any
		for _, one := range v {
			if choice, ok := one.([]any); ok && len(choice) == 3 && choice[0] == "SeparatesApproval" {
				if one = choice[2]; s.separate {
					one = choice[1]
				}
			}
			if one != "AWS::NoValue" {
				all = append(all, s.chosen(one))
			}
		}
		return all
	}
	return v
}

func (c *cloud) subscribe(t *testing.T, topic, queue string, filter map[string]any) {
	t.Helper()
	attributes := map[string]string{"RawMessageDelivery": "true"}
	if filter != nil {
		text, err := json.Marshal(c.chosen(filter))
		require.NoError(t, err)
		attributes["FilterPolicyScope"], attributes["FilterPolicy"] = "MessageAttributes", string(text)
	}
	_, err := c.sns.Subscribe(t.Context(), &sns.SubscribeInput{TopicArn: &topic, Protocol: aws.String("sqs"), Endpoint: &queue, Attributes: attributes})
	require.NoError(t, err)
}

// environment returns the variables that the template gives a function, and the addresses of Lambda, the secret and
// the service.
func (c *cloud) environment(name string) []string {
	return append([]string{
		"AWS_REGION=" + region, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_ENDPOINT_URL=" + c.endpoint, "AWS_ENDPOINT_URL_DYNAMODB=" + c.db,
		"RECOMPOSE_TOPIC_ARN=" + c.topic, "RECOMPOSE_TABLE=" + table, "RECOMPOSE_SANDBOXES=2",
		"RECOMPOSE_QUEUE_URL=" + c.queues[name+"Queue"], "RECOMPOSE_DEAD_LETTER_QUEUE_URL=" + c.queues[name+"DeadLetterQueue"],
		"HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey,
		"HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID, "RECOMPOSE_WORKSPACE_ENDPOINT=" + c.address,
		"RECOMPOSE_SIGNATURE_WINDOW=" + c.window.String(), "RECOMPOSE_READS_PER_MINUTE=100000", "RECOMPOSE_WRITES_PER_MINUTE=100000",
		"RECOMPOSE_LOG_LEVEL=" + c.level,
	}, c.more...)
}

// publish publishes a command to the topic, as a sender does.
func (c *cloud) publish(t *testing.T, e events.Envelope) {
	t.Helper()
	require.NoError(t, c.send(t.Context(), e))
}

func (c *cloud) send(ctx context.Context, e events.Envelope) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = c.sns.Publish(ctx, &sns.PublishInput{TopicArn: &c.topic, Message: aws.String(string(body)),
		MessageAttributes: map[string]snstypes.MessageAttributeValue{"type": {DataType: aws.String("String"), StringValue: &e.Type}}})
	return err
}

// published receives the events published since the last call. It waits a second for the first.
func (c *cloud) published(t *testing.T) []events.Envelope {
	t.Helper()
	var all []events.Envelope
	for {
		wait := int32(1)
		if len(all) > 0 {
			wait = 0
		}
		url := c.queues["Everything"]
		got, err := c.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait})
		require.NoError(t, err)
		for _, m := range got.Messages {
			e, err := events.Decode(nil, []byte(*m.Body), events.Bare{})
			require.NoError(t, err)
			if strings.HasPrefix(e.Type, "recompose.event.") {
				all = append(all, e)
			}
			_, err = c.sqs.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle})
			require.NoError(t, err)
		}
		if len(got.Messages) == 0 {
			return all
		}
	}
}

// follow waits until the chains of these commands have ended, and returns all published events.
func (c *cloud) follow(t *testing.T, within time.Duration, commands ...events.Envelope) []events.Envelope {
	t.Helper()
	var all []events.Envelope
	var open []events.Pending
	for end := time.Now().Add(within); time.Now().Before(end); {
		all, open = append(all, c.published(t)...), nil
		for _, root := range commands {
			open = append(open, events.Open(events.Root{ID: root.ID}, all)...)
		}
		if len(open) == 0 {
			return all
		}
	}
	require.Empty(t, open, "not ended")
	return all
}

// accepted counts the writes of one call that the service accepted.
func (c *cloud) accepted(call string) (n int) {
	for _, r := range c.service.Requests(0, 0) {
		if r.Call == call && r.Effect == emulator.EffectJob {
			n++
		}
	}
	return n
}

// waiting counts the messages of a queue that can be received.
func (c *cloud) waiting(t *testing.T, name string) string {
	t.Helper()
	return c.count(t, name, sqstypes.QueueAttributeNameApproximateNumberOfMessages)
}

func (c *cloud) count(t *testing.T, name string, what sqstypes.QueueAttributeName) string {
	t.Helper()
	url := c.queues[name]
	got, err := c.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &url, AttributeNames: []sqstypes.QueueAttributeName{what}})
	require.NoError(t, err)
	return got.Attributes[string(what)]
}
