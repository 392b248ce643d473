package awsqueue_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sns"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/testkit/awstest"
	"recompose/shared/testkit/queuetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Transport { return newTransport(t, true) })
}

// TestConformanceWithoutRawDelivery runs the same where the topic puts messages in an envelope of its own.
func TestConformanceWithoutRawDelivery(t *testing.T) {
	t.Parallel()
	queuetest.Run(t, func(t *testing.T) queuetest.Transport { return newTransport(t, false) })
}

// transport is queues and a topic over HTTP, with a mapping for each function that a worker has.
type transport struct {
	server *awstest.Server
	raw    bool
}

func newTransport(t *testing.T, raw bool) *transport {
	tr := &transport{server: awstest.New(), raw: raw}
	t.Cleanup(func() { tr.server.Close() })
	return tr
}

func testLog() *slog.Logger {
	if os.Getenv("RECOMPOSE_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (tr *transport) Lease() time.Duration     { return time.Second }
func (tr *transport) Delay() time.Duration     { return time.Second }
func (tr *transport) Concurrency() int         { return 4 }
func (tr *transport) Traits() queuetest.Traits { return queuetest.Traits{} }

// cutoff is the network of a worker, which a crash cuts.
type cutoff struct {
	http.RoundTripper
	cut atomic.Bool
}

func (c *cutoff) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.cut.Load() {
		return nil, errors.New("this worker is gone")
	}
	return c.RoundTripper.RoundTrip(r)
}

// options are those of a handler on the server.
func options(server *awstest.Server, function string, network http.RoundTripper) awsqueue.Options {
	c := aws.Config{Region: awstest.Region, HTTPClient: &http.Client{Transport: network}, Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "key", SecretAccessKey: "secret"}, nil
		})}
	return awsqueue.Options{
		QueueURL: server.QueueURL(function), DeadLetterQueueURL: server.QueueURL(function + "-dead"), TopicARN: awstest.TopicARN,
		SQS:         sqs.NewFromConfig(c, func(o *sqs.Options) { o.BaseEndpoint = aws.String(server.URL) }),
		SNS:         sns.NewFromConfig(c, func(o *sns.Options) { o.BaseEndpoint = aws.String(server.URL) }),
		Concurrency: 10, Redeliver: []time.Duration{0}, StoreFor: 2 * time.Second, Log: testLog(),
	}
}

// setUp makes what a function needs.
func setUp(server *awstest.Server, f queue.Function, raw bool, lease time.Duration) {
	server.CreateQueue(f.Name, lease)
	server.CreateQueue(f.Name+"-dead", lease)
	server.Subscribe(f.Name, raw, slices.Concat(f.Types, f.Reacts)...)
}

func (tr *transport) Start(t *testing.T, fns ...queue.Function) queuetest.Worker {
	ctx, cancel := context.WithCancel(context.Background())
	network := &cutoff{RoundTripper: http.DefaultTransport.(*http.Transport).Clone()}
	gone, kill := context.WithCancel(context.Background())
	w := &worker{cancel: cancel, kill: kill, ended: make(chan struct{}), network: network}
	var mappings sync.WaitGroup
	for _, f := range fns {
		setUp(tr.server, f, tr.raw, tr.Lease())
		o := options(tr.server, f.Name, network)
		o.Key = w
		h, err := awsqueue.New(f, o)
		require.NoError(t, err)
		m := awstest.Mapping{Server: tr.server, Queue: f.Name, InFlight: tr.Concurrency(), Invoke: func(_ context.Context, event []byte) ([]byte, error) {
			answer, err := invoke(gone, h, event)
			if network.cut.Load() {
				err = errors.New("this worker is gone")
			}
			return answer, err
		}}
		mappings.Go(func() { m.Run(ctx) })
	}
	go func() { mappings.Wait(); close(w.ended) }()
	t.Cleanup(func() { cancel(); <-w.ended; kill() })
	return w
}

// invoke calls a handler as the runtime does.
func invoke(ctx context.Context, h *awsqueue.Handler, event []byte) ([]byte, error) {
	var batch lambda.SQSEvent
	if err := json.Unmarshal(event, &batch); err != nil {
		return nil, err
	}
	answer, err := h.Handle(ctx, batch)
	if err != nil {
		return nil, err
	}
	return json.Marshal(answer)
}

// worker is also the key of its handlers. A sandbox that was stopped holds its messages; a worker ends.
type worker struct {
	network *cutoff
	cancel  func()
	kill    func()
	ended   chan struct{}
	mu      sync.Mutex
	err     error
}

func (w *worker) Check(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *worker) Refuse(_ context.Context, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = &queue.StopError{Err: err}
	w.cancel()
}

func (w *worker) Stop() error {
	w.cancel()
	<-w.ended
	return w.Check(context.Background())
}

func (w *worker) Kill() {
	w.network.cut.Store(true)
	w.cancel()
	w.kill()
}

func (w *worker) Ended() <-chan struct{} { return w.ended }

func (tr *transport) Send(function string, m queuetest.Message) error {
	attributes := map[string]string{}
	maps.Copy(attributes, m.Headers)
	if m.ID != "" {
		attributes["id"] = m.ID
	}
	if m.Type != "" {
		attributes["type"] = m.Type
	}
	if len(m.Body) >= events.MaxMessage { // a body of as much as a command may have leaves no room for attributes
		if len(m.Body) > events.MaxMessage {
			return errors.New("larger than a message may be")
		}
		attributes = nil
	}
	return tr.server.Send(function, string(m.Body), attributes)
}

// Events are what the topic took, once each: readers go by the id.
func (tr *transport) Events(t *testing.T) []events.Envelope {
	var es []events.Envelope
	seen := map[string]bool{}
	for _, m := range tr.server.Published() {
		var e events.Envelope
		require.NoError(t, json.Unmarshal([]byte(m.Body), &e))
		require.Equal(t, e.Type, m.Attributes["type"])
		require.Equal(t, e.ID, m.Attributes["id"])
		require.Equal(t, e.Correlation, m.Attributes["correlationid"])
		require.Equal(t, e.Rollout, m.Attributes["rollout"])
		if events.IsEvent(e.Type) && !seen[e.Identity()] {
			seen[e.Identity()] = true
			es = append(es, e)
		}
	}
	return es
}

func (tr *transport) DeadLetters(t *testing.T) []queuetest.DeadLetter {
	var dead []queuetest.DeadLetter
	for _, name := range tr.server.Queues() {
		if !strings.HasSuffix(name, "-dead") {
			continue
		}
		for _, m := range tr.server.Messages(name) {
			d := queuetest.DeadLetter{
				ID: m.Attributes[awsqueue.AttrDeadID], Function: m.Attributes[awsqueue.AttrFunction], Class: m.Attributes[awsqueue.AttrClass],
				Reason: m.Attributes[awsqueue.AttrReason], Body: []byte(m.Body), Headers: map[string]string{},
			}
			require.Equal(t, d.Function+"-dead", name)
			var original map[string][]string
			if text := m.Attributes[awsqueue.AttrOriginal]; text != "" {
				require.NoError(t, json.Unmarshal([]byte(text), &original))
			}
			for k, v := range original {
				d.Headers[k] = v[0]
			}
			dead = append(dead, d)
		}
	}
	return dead
}

func (tr *transport) Pending(*testing.T) int {
	n := 0
	for _, name := range tr.server.Queues() {
		if !strings.HasSuffix(name, "-dead") {
			n += len(tr.server.Messages(name))
		}
	}
	return n
}

func (tr *transport) BreakEvents(*testing.T) func() {
	tr.server.Fail(func(action string, _ int) int {
		if action == "PublishBatch" {
			return http.StatusInternalServerError
		}
		return 0
	})
	return func() { tr.server.Fail(nil) }
}

func (tr *transport) Restart(*testing.T) { tr.server.Reopen() }
