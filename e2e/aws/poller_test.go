//go:build e2e

package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// chaos is what a poller does to the functions.
type chaos struct {
	kill   float64       // how often a sandbox is killed with a batch in hand
	twice  float64       // how often two sandboxes get the same batch at once
	within time.Duration // of an invocation's begin a sandbox is killed

	mu      sync.Mutex
	kills   int
	doubles int
}

func (x *chaos) does(p float64, count *int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if rand.Float64() >= p {
		return false
	}
	*count++
	return true
}

const sandboxes = 2 // of a function at a time

// poll is Lambda's event source mapping of every function, until the test ends.
func (c *cloud) poll(t *testing.T, x *chaos) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	t.Cleanup(func() { stop(); all.Wait() })
	for _, n := range names {
		for range sandboxes {
			p := &poller{cloud: c, name: n, chaos: x, batch: c.template.Resources[n+"Function"].Properties.Events.Queue.Properties.BatchSize,
				timeout: time.Duration(c.template.Resources[n+"Function"].Properties.Timeout) * time.Second, program: program(t, n)}
			all.Go(func() { p.run(ctx, t) })
		}
	}
}

// poller brings batches of one queue to sandboxes of one function.
type poller struct {
	cloud   *cloud
	name    string
	program string
	chaos   *chaos
	batch   int32
	timeout time.Duration
}

func (p *poller) run(ctx context.Context, t *testing.T) {
	boxes := [2]*sandbox{p.start(t), p.start(t)} // the second is for a batch that is handed over twice
	defer func() { boxes[0].kill(); boxes[1].kill() }()
	url := p.cloud.queues[p.name+"Queue"]
	for ctx.Err() == nil {
		got, err := p.cloud.sqs.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: p.batch, WaitTimeSeconds: 1,
			MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}})
		if err != nil || len(got.Messages) == 0 {
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			continue
		}
		event := p.event(got.Messages)
		var both sync.WaitGroup
		if p.chaos.does(p.chaos.twice, &p.chaos.doubles) {
			both.Go(func() { _, _ = boxes[1].invoke(event) })
		}
		killed := p.chaos.does(p.chaos.kill, &p.chaos.kills)
		if killed {
			doomed := boxes[0].cmd.Process
			time.AfterFunc(rand.N(p.chaos.within), func() { _ = doomed.Kill() })
		}
		answer, err := boxes[0].invoke(event)
		both.Wait()
		if err == nil {
			p.remove(ctx, t, url, got.Messages, answer)
		} else if !killed || !errors.Is(err, errSandbox) {
			t.Errorf("%s: %v", p.name, err)
			return
		}
		if killed {
			boxes[0].kill()
			boxes[0] = p.start(t)
		}
	}
}

func (p *poller) start(t *testing.T) *sandbox {
	return startSandbox(t, p.program, p.timeout, p.cloud.environment(p.name))
}

// event is a batch as Lambda hands it over.
func (p *poller) event(messages []sqstypes.Message) []byte {
	var e lambda.SQSEvent
	for _, m := range messages {
		one := lambda.SQSMessage{MessageId: *m.MessageId, ReceiptHandle: *m.ReceiptHandle, Body: *m.Body, Attributes: m.Attributes,
			MessageAttributes: map[string]lambda.SQSMessageAttribute{}, EventSource: "aws:sqs", AWSRegion: region,
			EventSourceARN: "arn:aws:sqs:" + region + ":000000000000:" + p.name + "Queue"}
		for name, a := range m.MessageAttributes {
			one.MessageAttributes[name] = lambda.SQSMessageAttribute{StringValue: a.StringValue, DataType: *a.DataType}
		}
		e.Records = append(e.Records, one)
	}
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return body
}

// remove deletes what the function did not list as failed.
func (p *poller) remove(ctx context.Context, t *testing.T, url string, messages []sqstypes.Message, answer []byte) {
	var r lambda.SQSEventResponse
	if err := json.Unmarshal(answer, &r); err != nil {
		t.Errorf("%s answers %s: %v", p.name, answer, err)
		return
	}
	failed := map[string]bool{}
	for _, f := range r.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	for _, m := range messages {
		if failed[*m.MessageId] {
			continue
		}
		_, err := p.cloud.sqs.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle})
		if err != nil && ctx.Err() == nil && !strings.Contains(err.Error(), "ReceiptHandle") { // of an earlier receive
			t.Error(err)
		}
	}
}
