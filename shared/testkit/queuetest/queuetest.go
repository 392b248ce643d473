// Package queuetest specifies the behaviour of every transport, as tests that each transport runs against itself.
package queuetest

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

// Transport is a transport under test: fresh for each test, empty, and configured so that tests are quick. A failed
// message is redelivered within some 10 milliseconds. A method fails the test if it cannot do its work.
type Transport interface {
	// Start runs a worker with these functions and returns when it receives messages. It first creates what the
	// functions need from the transport.
	Start(t *testing.T, fns ...queue.Function) Worker
	// Send puts a message into the queue of a function. It returns when the message is stored, or the reason for its
	// refusal.
	Send(function string, m Message) error
	// Events returns the stored events, in order.
	Events(t *testing.T) []events.Envelope
	// DeadLetters returns the dead letters, in order.
	DeadLetters(t *testing.T) []DeadLetter
	// Pending counts the messages that functions have not acknowledged: waiting, delayed or in flight.
	Pending(t *testing.T) int
	// BreakEvents makes storing events fail until repair is called.
	BreakEvents(t *testing.T) (repair func())
	// Restart stops the message store and starts it once more. No worker runs in the meantime.
	Restart(t *testing.T)

	// Lease is the time after which the message of a worker that died is redelivered. About a second.
	Lease() time.Duration
	// Delay is the shortest time by which the transport delays a message.
	Delay() time.Duration
	// Concurrency is how many messages a worker handles at a time for one function.
	Concurrency() int
	// Traits returns the properties in which transports may differ.
	Traits() Traits
}

// Traits are the properties in which transports may differ. Every test applies to each of them; its expectations
// follow from these.
type Traits struct {
	// Renews reports that a worker keeps a message while it handles it, even if the lease is shorter. Lambda does not
	// extend leases: a deployment gives each queue a lease that is longer than the longest invocation.
	Renews bool
	// Keeps reports that events are kept for functions that are set up later. A topic keeps nothing: reacting functions
	// must be set up before.
	Keeps bool
	// Bytes reports that a body may be any bytes. SQS accepts only characters of XML and refuses others at once.
	Bytes bool
}

// Worker is one running worker.
type Worker interface {
	// Stop ends the worker in order and returns its error.
	Stop() error
	// Kill ends the worker as a crash would: from now on none of its calls reaches the transport. It does not wait for
	// handlers.
	Kill()
	// Ended is closed when the worker has ended for any reason.
	Ended() <-chan struct{}
}

// Message is a message as a sender sends it.
type Message struct {
	ID      string // the transport's message id; "" for none
	Type    string // by which it is routed; "" for the function's own, or for none
	Headers map[string]string
	Body    []byte
}

// DeadLetter is what the transport keeps of a dead letter.
type DeadLetter struct {
	ID       string
	Function string
	Class    string
	Reason   string
	Body     []byte
	Headers  map[string]string // of the message, under their own names
}

// Run runs the suite. It calls start for a fresh transport in each test; start registers its own cleanup.
func Run(t *testing.T, start func(t *testing.T) Transport) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *bench)
	}{
		{"a command in structured mode is handled", structured},
		{"a command in binary mode is handled", binary},
		{"bare data is the command of its queue's function", bare},
		{"a function may have several types, and a sender's right to one is no right to another", severalTypes},
		{"a bare write without an id is refused", bareWrite},
		{"a message without a readable id becomes a dead letter without an event", unreadable},
		{"invalid data ends in command.failed and the worker continues", invalid},
		{"a permanent error is a dead letter and command.failed", permanent},
		{"events are stored before the message is acknowledged", storedFirst},
		{"a retry delays the same message and does not come early", retried},
		{"delays do not count as deliveries", waiting},
		{"two sources with one id are both kept when delayed", twoSources},
		{"two commands with one id and different data are both kept when delayed, and both answered", twoData},
		{"a panic affects one message, which becomes a dead letter", panics},
		{"an unexpected error causes a redelivery", unexpected},
		{"handling may outlast the lease", long},
		{"a worker that stops finishes its messages in flight", graceful},
		{"a killed worker's message is redelivered to another", killed},
		{"workers share the work", shared},
		{"functions send commands to functions", next},
		{"a function sends itself commands, at once and for later, which no sender can send", itself},
		{"a command for later outlives a restart", laterRestart},
		{"each reacting function handles an event separately", reactions},
		{"what follows from a command of a rollout belongs to the rollout", rollout},
		{"a chain continues after a restart", chainRestart},
		{"a delayed message outlives a restart", delayRestart},
		{"a function can stop its worker", stops},
		{"a command that is redriven at once is delayed like the first", redriven},
		{"a message may have at most 256 KiB", sizes},
		{"foreign headers do no harm", hostile},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := &bench{Transport: start(t), t: t, open: make(chan struct{})}
			t.Cleanup(sync.OnceFunc(func() { b.release() }))
			c.test(t, b)
		})
	}
}

// within bounds every wait for something that must happen.
const within = 20 * time.Second

// bench is the environment of a test.
type bench struct {
	Transport
	t    *testing.T
	open chan struct{}
	once sync.Once
}

// release releases the handlers that wait for open.
func (b *bench) release() { b.once.Do(func() { close(b.open) }) }

func (b *bench) send(m Message) {
	b.t.Helper()
	require.NoError(b.t, b.Send(fn, m))
}

// eventually waits until ok holds.
func (b *bench) eventually(what string, ok func() bool) {
	b.t.Helper()
	require.Eventually(b.t, ok, within, 10*time.Millisecond, what)
}

// idle waits until no message is pending.
func (b *bench) idle() {
	b.t.Helper()
	b.eventually("all messages are acknowledged", func() bool { return b.Pending(b.t) == 0 })
}

// published waits until there are n events and no message is pending, and returns the events.
func (b *bench) published(n int) []events.Envelope {
	b.t.Helper()
	b.eventually("events are stored: "+strconv.Itoa(n), func() bool { return len(b.Events(b.t)) >= n })
	b.idle()
	es := b.Events(b.t)
	require.Len(b.t, es, n)
	return es
}

// failed reads a command.failed event.
func (b *bench) failed(e events.Envelope) events.CommandFailed {
	b.t.Helper()
	require.Equal(b.t, events.TypeCommandFailed, e.Type)
	var f events.CommandFailed
	require.NoError(b.t, json.Unmarshal(e.Data, &f))
	return f
}

// receive receives from a channel, or fails the test.
func receive[T any](b *bench, c <-chan T, what string) T {
	b.t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		require.FailNow(b.t, "not received: "+what)
		panic("not reached")
	}
}

// calls is a function's handler that sends each command to c and then runs do.
type calls struct {
	c  chan queue.Command
	do func(ctx context.Context, c queue.Command) ([]queue.Outcome, error)
}

func newCalls(do func(context.Context, queue.Command) ([]queue.Outcome, error)) *calls {
	if do == nil {
		do = publish
	}
	return &calls{c: make(chan queue.Command, 1000), do: do}
}

func (c *calls) handle(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
	c.c <- cmd
	return c.do(ctx, cmd)
}

// publish ends a command with an event.
func publish(context.Context, queue.Command) ([]queue.Outcome, error) {
	return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"done"}, Data: map[string]bool{"done": true}}}, nil
}

const fn = "getdesktop" // the function of most tests; each test supplies its handler

func function(name string, c *calls) queue.Function {
	return queue.Function{Name: name, Types: []string{events.CommandType(name)}, Handle: c.handle}
}

// command returns a command in structured mode.
func command(source, id string) Message {
	return envelope(events.Envelope{ID: id, Source: source, Type: events.CommandType(fn), Data: json.RawMessage(`{"desktop_id":"d1"}`)})
}

func envelope(e events.Envelope) Message {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return Message{Headers: map[string]string{"Content-Type": events.ContentType}, Body: body}
}
