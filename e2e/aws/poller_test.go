//go:build e2e

package aws_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"recompose/events"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"
)

// trouble is the faults that a poller injects: how often, as a share of all batches.
type trouble struct {
	kill   float64       // a sandbox is killed while it handles the batch
	freeze float64       // a sandbox is frozen while it handles the batch
	twice  float64       // two sandboxes get the same batch at once
	within time.Duration // after the begin of an invocation, a sandbox is killed or frozen
	frozen time.Duration // for at most this time
	seed   uint64

	mu       sync.Mutex
	on       bool
	rnd      *rand.Rand
	kills    int
	freezes  int
	doubles  int
	returned int            // messages that were redelivered while they were being handled
	handling map[string]int // message → how many sandboxes handle it
}

// dice returns a number that the seed decides. The caller holds x.mu.
func (x *trouble) dice() float64 {
	if x.rnd == nil {
		x.rnd = rand.New(rand.NewPCG(x.seed, 3))
	}
	return x.rnd.Float64()
}

// doubled decides whether a batch is delivered twice.
func (x *trouble) doubled() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.on || x.dice() >= x.twice {
		return false
	}
	x.doubles++
	return true
}

// strike may kill or freeze a sandbox that gets a batch.
func (x *trouble) strike(box *sandbox) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.on {
		return
	}
	after := time.Duration(x.dice() * float64(x.within))
	switch dice := x.dice(); {
	case dice < x.kill:
		x.kills++
		time.AfterFunc(after, box.kill)
	case dice < x.kill+x.freeze:
		x.freezes++
		long := time.Duration(x.dice() * float64(x.frozen))
		time.AfterFunc(after, func() {
			box.signal(syscall.SIGSTOP)
			time.AfterFunc(long, func() { box.signal(syscall.SIGCONT) })
		})
	}
}

// turn switches all faults on or off.
func (x *trouble) turn(on bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.on = on
}

// begin switches the faults on when the functions have found that the service accepts their key.
func (c *cloud) begin(t *testing.T, x *trouble) {
	t.Helper()
	data, err := json.Marshal(events.GetDesktop{DesktopID: c.service.DesktopIDs()[0]})
	require.NoError(t, err)
	first := events.Envelope{ID: "first", Source: "e2e", Type: events.TypeGetDesktop, Time: time.Now(), Correlation: "first", Data: data}
	c.publish(t, first)
	c.follow(t, time.Minute, first)
	x.turn(true)
}

// taken records that a sandbox handles messages, until the returned function is called.
func (x *trouble) taken(messages []sqstypes.Message, twice bool) func() {
	add := func(n int) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.handling == nil {
			x.handling = map[string]int{}
		}
		for _, m := range messages {
			if n > 0 && !twice && x.handling[*m.MessageId] > 0 {
				x.returned++
			}
			x.handling[*m.MessageId] += n
		}
	}
	add(1)
	return func() { add(-1) }
}

// poll simulates Lambda's event source mapping of every function until the test ends; sandboxes is the number of
// concurrent batches.
func (c *cloud) poll(t *testing.T, x *trouble, sandboxes int) {
	t.Helper()
	program(t, names[0]) // built before a message can be received
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var all sync.WaitGroup
	t.Cleanup(func() { stop(); all.Wait() })
	for _, n := range names {
		for range sandboxes {
			p := &poller{cloud: c, name: n, trouble: x, batch: c.template.Resources[n+"Function"].Properties.Events.Queue.Properties.BatchSize}
			all.Go(func() { p.run(ctx, t) })
		}
	}
}

// poller delivers batches of one queue to sandboxes of one function.
type poller struct {
	cloud   *cloud
	name    string
	trouble *trouble
	batch   int32
	boxes   [2]*sandbox // the second is for a batch that is delivered twice
	second  sync.Mutex  // held while the second handles a batch
	doubles sync.WaitGroup
}

func (p *poller) run(ctx context.Context, t *testing.T) {
	defer func() {
		for _, b := range p.boxes {
			if b != nil {
				p.cloud.remove(b) // even if it handles a batch
			}
		}
		p.doubles.Wait()
	}()
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
		done := p.trouble.taken(got.Messages, false)
		p.twice(ctx, t, got.Messages, event)
		box := p.box(t, 0)
		p.trouble.strike(box)
		answer, err := box.invoke(ctx, event)
		done()
		switch {
		case err == nil:
			p.remove(ctx, t, url, got.Messages, answer)
		case ctx.Err() == nil && !box.asked.Load(): // its cold start failed, and logged why; Lambda starts another
			box.kill()
		case ctx.Err() == nil && !box.killed.Load():
			t.Errorf("%s: %v", p.name, err)
			return
		}
	}
}

// twice may deliver a batch to a second sandbox as well, without waiting for the result.
func (p *poller) twice(ctx context.Context, t *testing.T, messages []sqstypes.Message, event []byte) {
	if !p.second.TryLock() {
		return // it still handles one
	}
	if !p.trouble.doubled() {
		p.second.Unlock()
		return
	}
	box, back := p.box(t, 1), p.trouble.taken(messages, true)
	p.doubles.Go(func() {
		defer p.second.Unlock()
		defer back()
		_, _ = box.invoke(ctx, event)
	})
}

// box returns a running sandbox; it replaces one that has ended.
func (p *poller) box(t *testing.T, i int) *sandbox {
	if p.boxes[i] != nil && p.boxes[i].killed.Load() {
		p.cloud.remove(p.boxes[i])
		p.boxes[i] = nil
	}
	if p.boxes[i] == nil {
		p.boxes[i] = p.cloud.startSandbox(t, p.name)
	}
	return p.boxes[i]
}

// event returns a batch in the form of Lambda's event.
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

// remove deletes the messages that the function did not list as failed.
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
