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

// trouble is what a poller does to the functions: how often, of all batches.
type trouble struct {
	kill   float64       // a sandbox is killed with the batch in hand
	freeze float64       // a sandbox is frozen with the batch in hand
	twice  float64       // two sandboxes get the same batch at once
	within time.Duration // of an invocation's begin a sandbox is killed or frozen
	frozen time.Duration // at most
	seed   uint64

	mu       sync.Mutex
	on       bool
	rnd      *rand.Rand
	kills    int
	freezes  int
	doubles  int
	returned int            // messages that came back while somebody still had them in hand
	hand     map[string]int // message → how many have it in hand
}

// dice is one of the numbers that the seed decides. x.mu is held.
func (x *trouble) dice() float64 {
	if x.rnd == nil {
		x.rnd = rand.New(rand.NewPCG(x.seed, 3))
	}
	return x.rnd.Float64()
}

// doubled decides whether a batch is handed over twice.
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
		time.AfterFunc(after, box.doom)
	case dice < x.kill+x.freeze:
		x.freezes++
		long := time.Duration(x.dice() * float64(x.frozen))
		time.AfterFunc(after, func() {
			box.signal(syscall.SIGSTOP)
			time.AfterFunc(long, func() { box.signal(syscall.SIGCONT) })
		})
	}
}

// turn begins or ends all trouble.
func (x *trouble) turn(on bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.on = on
}

// begin begins the trouble when the functions have found that the service takes their key.
func (c *cloud) begin(t *testing.T, x *trouble) {
	t.Helper()
	data, err := json.Marshal(events.GetDesktop{DesktopID: c.service.DesktopIDs()[0]})
	require.NoError(t, err)
	first := events.Envelope{ID: "first", Source: "e2e", Type: events.TypeGetDesktop, Time: time.Now(), Correlation: "first", Data: data}
	c.publish(t, first)
	c.follow(t, time.Minute, first)
	x.turn(true)
}

// taken notes that somebody has messages in hand, until the function that it gives is called.
func (x *trouble) taken(messages []sqstypes.Message, again bool) func() {
	add := func(n int) {
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.hand == nil {
			x.hand = map[string]int{}
		}
		for _, m := range messages {
			if n > 0 && !again && x.hand[*m.MessageId] > 0 {
				x.returned++
			}
			x.hand[*m.MessageId] += n
		}
	}
	add(1)
	return func() { add(-1) }
}

// poll is Lambda's event source mapping of every function, until the test ends: so many sandboxes take batches at a time.
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

// poller brings batches of one queue to sandboxes of one function.
type poller struct {
	cloud   *cloud
	name    string
	trouble *trouble
	batch   int32
	boxes   [2]*sandbox // the second is for a batch that is handed over twice
	second  sync.Mutex  // held while the second has a batch in hand
	doubles sync.WaitGroup
}

func (p *poller) run(ctx context.Context, t *testing.T) {
	defer func() {
		for _, b := range p.boxes {
			if b != nil {
				p.cloud.remove(b) // whatever it has in hand
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
		case ctx.Err() == nil && !box.doomed.Load():
			t.Errorf("%s: %v", p.name, err)
			return
		}
	}
}

// twice may hand a batch to another sandbox, too, without waiting for what comes of it.
func (p *poller) twice(ctx context.Context, t *testing.T, messages []sqstypes.Message, event []byte) {
	if !p.second.TryLock() {
		return // it still has one in hand
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

// box is a sandbox, in the place of one that is gone.
func (p *poller) box(t *testing.T, i int) *sandbox {
	if p.boxes[i] != nil && p.boxes[i].doomed.Load() {
		p.cloud.remove(p.boxes[i])
		p.boxes[i] = nil
	}
	if p.boxes[i] == nil {
		p.boxes[i] = p.cloud.startSandbox(t, p.name)
	}
	return p.boxes[i]
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
