package awsqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/telemetry/logging"
)

// Options of a Handler. The queues, the topic and the clients are required; every other zero value is a default.
type Options struct {
	QueueURL           string // the function's own
	DeadLetterQueueURL string
	TopicARN           string
	SQS                SQS
	SNS                SNS

	Concurrency int           // messages of a batch handled at a time; zero: one
	StoreFor    time.Duration // how long storing a result is retried; zero: 1 minute
	// Redeliver are the waits before a failed message is redelivered, by receive; the last one repeats. Default 5s,
	// 15s, 30s, 1m, 2m.
	Redeliver []time.Duration
	// Stamp returns the attributes that describe the ledger at this moment, for everything that the function
	// publishes; nil: none.
	Stamp func() map[string]string
	// Key keeps messages from being handled while the service refuses the credentials; nil: Stop only delays its
	// message.
	Key queue.Key
	// Observe is called for each message whose result is stored; nil: none. It must not block.
	Observe func(context.Context, Handled)

	Log *slog.Logger     // default: silent
	Now func() time.Time // default: time.Now
}

// Handled is a message whose result is stored.
type Handled struct {
	Events []events.Envelope // as published; must not be changed
	Dead   string            // class of the dead letter; "" without one
}

// heldFor is how long a message waits that may not be handled now: a little longer than a refused key is held, so
// that it is not redelivered just too early.
const heldFor = 65 * time.Second

// hiddenFor is less than the visibility timeout of each queue, and more than a message waits that the function failed.
const hiddenFor = 5 * time.Minute

// grace is how long before the deadline of an invocation its handlers are cancelled.
const grace = 5 * time.Second

// Handler passes batches to one function. Its methods may be called concurrently.
type Handler struct {
	fn  queue.Function
	o   Options
	out outlet
	log *slog.Logger

	reserve time.Duration // time of the invocation that must be left to start a message

	ahead    atomic.Int64 // how far the clock of SQS is ahead of ours; a time.Duration
	draining chan struct{}
	drain    sync.Once
	hands    sync.RWMutex // read-locked by each batch that is being handled
}

// New makes the handler of a function. It makes no calls; the error names every missing option.
func New(f queue.Function, o Options) (*Handler, error) {
	var faults []error
	for _, required := range []struct{ name, value string }{
		{"the URL of the queue", o.QueueURL}, {"the URL of the dead-letter queue", o.DeadLetterQueueURL}, {"the ARN of the topic", o.TopicARN},
	} {
		if required.value == "" {
			faults = append(faults, errors.New(required.name+" is missing"))
		}
	}
	if o.SQS == nil || o.SNS == nil {
		faults = append(faults, errors.New("the clients of SQS and SNS are missing"))
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("queue of %s: %w", f.Name, errors.Join(faults...))
	}
	reserve := 15 * time.Second
	if f.Writes {
		reserve = time.Minute // a call may take 30 s, and recording its result some more
	}
	o.Concurrency, o.StoreFor = max(o.Concurrency, 1), cmp.Or(o.StoreFor, time.Minute)
	if len(o.Redeliver) == 0 {
		o.Redeliver = []time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute}
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Stamp == nil {
		o.Stamp = func() map[string]string { return nil }
	}
	if o.Observe == nil {
		o.Observe = func(context.Context, Handled) {}
	}
	out := outlet{sqs: o.SQS, sns: o.SNS, topicARN: o.TopicARN, storeFor: o.StoreFor}
	return &Handler{
		fn: limited(f), o: o, out: out, reserve: reserve, log: o.Log.With("function", f.Name), draining: make(chan struct{}),
	}, nil
}

// Drain keeps Handle from starting messages from now on, and waits until those already started are done.
func (h *Handler) Drain() {
	h.drain.Do(func() { close(h.draining) })
	h.hands.Lock()
	h.hands.Unlock() //nolint:staticcheck // locked only to wait
}

// end is what happens to a message of a batch.
type end int

const (
	done       end = iota // Lambda may delete it
	failed                // it is redelivered, and counts as failed
	notStarted            // it is redelivered at once
)

// Handle handles a batch and returns which of its messages are to be redelivered; Lambda may delete all others. It
// returns when no message of the batch is being handled any more. The error is always nil: with an error Lambda would
// redeliver the whole batch.
func (h *Handler) Handle(ctx context.Context, batch lambda.SQSEvent) (lambda.SQSEventResponse, error) {
	h.hands.RLock()
	defer h.hands.RUnlock()
	h.learnClock(batch.Records)
	clock := h.clock(ctx)
	handling, cancel := clock.until(ctx, grace, 4)
	defer cancel()
	storing, cancelStoring := clock.until(ctx, grace/5, 20)
	defer cancelStoring()

	ends := make([]end, len(batch.Records))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(h.o.Concurrency, len(ends)) {
		workers.Go(func() {
			for i := range next {
				ends[i] = h.one(handling, storing, &batch.Records[i], clock)
			}
		})
	}
	for i := range ends {
		next <- i
	}
	close(next)
	workers.Wait()
	return h.answer(storing, batch.Records, ends), nil
}

// one handles one message. A panic affects this message alone.
func (h *Handler) one(ctx, storing context.Context, m *lambda.SQSMessage, clock clock) (e end) {
	log := h.log.With("message_id", m.MessageId)
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "panic in the adapter", "panic", p, "stack", string(debug.Stack()))
			e = failed
		}
	}()
	select {
	case <-h.draining:
		return notStarted
	default:
	}
	now := h.now()
	r := h.read(m, now)
	if typ := r.delivery.Headers.Get(attrType); h.misrouted(typ) {
		log.WarnContext(ctx, "dropped: the message is for another function, which receives it, too; a new filter of a subscription is in force after "+
			"up to 15 minutes", "type", typ, "id", r.delivery.Headers.Get(attrID), logging.KeyCorrelation, r.delivery.Headers.Get(attrCorrelation))
		return done
	}
	if !clock.starts(h.reserve) {
		log.WarnContext(ctx, "not started: the deadline of this invocation is near")
		return h.unstarted(storing, r, log)
	}
	if wait := r.due.Sub(now); wait > 0 {
		return h.hop(storing, r, wait, log)
	}
	if h.o.Key != nil && !h.fn.NoCalls {
		if why := h.o.Key.Check(ctx); why != nil {
			if delay, ok := h.hold(r); ok {
				if retry, later := errors.AsType[*queue.RetryError](why); later {
					delay.After = retry.After
				}
				log = log.With(logging.KeyCorrelation, delay.Envelope.Correlation)
				log.WarnContext(ctx, "held: no message may be handled now", "error", why)
				return h.keep(storing, queue.Result{Delay: delay}, r, log)
			}
		}
	}
	if anew, correlation, ok := h.another(m, r, now); ok {
		log.WarnContext(ctx, "sent anew: SQS has counted receives after which the function was not invoked, or did not answer",
			"receives", r.delivery.Deliveries, logging.KeyCorrelation, correlation)
		return h.sendOn(storing, anew, 0, log)
	}
	p := queue.Processor{Log: h.o.Log, Now: h.now} // Processor adds the name of the function itself
	result := p.Process(ctx, h.fn, r.delivery)
	if result.Stop != nil && h.o.Key != nil {
		h.o.Key.Refuse(storing, result.Stop)
	}
	if result.Retry != nil {
		return failed
	}
	return h.keep(storing, result, r, log.With(logging.KeyCorrelation, result.Correlation()))
}

// misrouted reports whether a message from the topic is for other functions only. The filter of the subscription
// excludes such messages, but SNS may take 15 minutes to put a new filter in force, and a command that is also
// answered here would have two ends.
func (h *Handler) misrouted(typ string) bool {
	switch {
	case events.IsEvent(typ):
		return !slices.Contains(h.fn.Reacts, typ)
	case events.IsCommand(typ):
		return !strings.HasPrefix(typ, strings.TrimSuffix(events.CommandType(h.fn.Name), "v1")) // of any version
	default: // sent to the queue directly, or not a message of recompose
		return false
	}
}

// unstarted returns a message to the queue. A message that is returned often would be given up without ever having
// been handled: it is sent as a new message instead.
func (h *Handler) unstarted(ctx context.Context, r received, log *slog.Logger) end {
	if r.delivery.Deliveries < queue.MaxDeliveries/2+1 {
		return notStarted
	}
	delay, ok := h.hold(r)
	if !ok {
		return notStarted
	}
	delay.After = 0
	return h.keep(ctx, queue.Result{Delay: delay}, r, log)
}

// another returns the new form of a message that would be given up although perhaps no function has begun it: each of its
// receives ended with the visibility timeout of the queue, as while Lambda throttles or the function cannot start. If
// the function crashes each time, the new form is given up.
func (h *Handler) another(m *lambda.SQSMessage, r received, now time.Time) (anew message, correlation string, ok bool) {
	first, err := strconv.ParseInt(m.Attributes["ApproximateFirstReceiveTimestamp"], 10, 64)
	n := r.delivery.Deliveries
	if err != nil || n <= queue.MaxDeliveries || now.Sub(time.UnixMilli(first)) < time.Duration(n-1)*hiddenFor ||
		r.delivery.Headers.Get(attrAnew) != "" {
		return anew, "", false
	}
	delay, ok := h.hold(r)
	if !ok {
		return anew, "", false
	}
	delay.After = 0
	if anew, err = h.delayed(*delay); err != nil {
		return anew, "", false
	}
	anew.attributes[attrAnew] = "1"
	return anew, delay.Envelope.Correlation, true
}

// keep stores a result.
func (h *Handler) keep(ctx context.Context, result queue.Result, r received, log *slog.Logger) end {
	p, err := h.pack(result, r)
	if err == nil {
		err = h.store(ctx, p)
	}
	if err != nil {
		log.ErrorContext(ctx, "the result could not be stored; the message will be redelivered", "delivery", r.delivery.Deliveries, "error", err)
		return failed
	}
	handled := Handled{Events: p.events}
	if result.Dead != nil {
		handled.Dead = result.Dead.Class
	}
	h.o.Observe(ctx, handled)
	return done
}

// hop sends a message on unchanged that is not due yet.
func (h *Handler) hop(ctx context.Context, r received, wait time.Duration, log *slog.Logger) end {
	m := message{body: string(r.delivery.Body), attributes: map[string]string{}}
	for _, name := range []string{queue.AttemptHeader, queue.FailuresHeader, queue.HeldHeader, queue.EpochHeader, attrDue, attrForm, attrAnew} {
		if value := r.delivery.Headers.Get(name); value != "" {
			m.attributes[name] = value
		}
	}
	return h.sendOn(ctx, m, wait, log)
}

// sendOn puts a message in the place of the one that was received.
func (h *Handler) sendOn(ctx context.Context, m message, wait time.Duration, log *slog.Logger) end {
	if err := h.out.send(ctx, h.o.QueueURL, m, wait); err != nil {
		log.ErrorContext(ctx, "a message could not be sent on; it will be redelivered", "error", err)
		return failed
	}
	return done
}

// hold is the delayed form of a message that may not be handled now; false for a message that ends without a call of
// the service.
func (h *Handler) hold(r received) (*queue.Delay, bool) {
	e, err := events.Decode(r.delivery.Headers, r.delivery.Body, r.delivery.Bare)
	if err != nil || h.fn.CheckType(e.Type, r.delivery.Type) != nil || h.fn.IsWake(e.Type) || (r.delivery.Bare.NoID && e.ID == r.delivery.Bare.ID && h.fn.Writes) {
		return nil, false
	}
	count := func(name string) int {
		n, _ := strconv.Atoi(r.delivery.Headers.Get(name)) // the count of a delayed form, else 0
		return n
	}
	return &queue.Delay{
		Function: h.fn.Name, Envelope: e, Identity: e.Identity(),
		Attempt: count(queue.AttemptHeader) + 1, Failures: count(queue.FailuresHeader), Held: count(queue.HeldHeader) + 1, After: heldFor,
		Epoch: r.delivery.Headers.Get(queue.EpochHeader),
	}, true
}

// answer lists the messages to be redelivered, and sets when.
func (h *Handler) answer(ctx context.Context, records []lambda.SQSMessage, ends []end) lambda.SQSEventResponse {
	answer := lambda.SQSEventResponse{BatchItemFailures: []lambda.SQSBatchItemFailure{}}
	var retries []sqstypes.ChangeMessageVisibilityBatchRequestEntry
	for i, e := range ends {
		if e == done {
			continue
		}
		answer.BatchItemFailures = append(answer.BatchItemFailures, lambda.SQSBatchItemFailure{ItemIdentifier: records[i].MessageId})
		if records[i].ReceiptHandle == "" {
			continue
		}
		wait := time.Duration(0)
		if receives, _ := strconv.Atoi(records[i].Attributes["ApproximateReceiveCount"]); e == failed { // 0 where it is missing
			wait = h.o.Redeliver[min(max(receives, 1), len(h.o.Redeliver))-1]
		}
		retries = append(retries, sqstypes.ChangeMessageVisibilityBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), ReceiptHandle: &records[i].ReceiptHandle, VisibilityTimeout: delaySeconds(wait),
		})
	}
	for len(retries) > 0 {
		n := min(len(retries), maxBatch)
		if _, err := h.o.SQS.ChangeMessageVisibilityBatch(ctx, &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &h.o.QueueURL, Entries: retries[:n]}); err != nil {
			h.log.WarnContext(ctx, "failed messages will be redelivered only after the visibility timeout of the queue", "error", err)
		}
		retries = retries[n:]
	}
	return answer
}

// clock has the times of one invocation.
type clock struct {
	deadline time.Time // zero: none
	whole    time.Duration
}

func (h *Handler) clock(ctx context.Context) clock {
	deadline, ok := ctx.Deadline()
	if !ok {
		return clock{}
	}
	c := clock{deadline, time.Until(deadline)}
	if c.whole < h.reserve {
		h.log.WarnContext(ctx, "an invocation has less time than a message should have; give the function a longer timeout",
			"has", c.whole.Round(time.Second), "should_have", h.reserve)
	}
	return c
}

// starts reports whether a message may be started: if reserve is left, or half of the invocation's time, whichever is
// less.
func (c clock) starts(reserve time.Duration) bool {
	return c.deadline.IsZero() || time.Until(c.deadline) >= min(reserve, c.whole/2)
}

// until returns a context that ends before the deadline by before, or by the given part of the whole time, whichever
// is less.
func (c clock) until(ctx context.Context, before time.Duration, part int) (context.Context, context.CancelFunc) {
	if c.deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, c.deadline.Add(-min(before, c.whole/time.Duration(part))))
}
