// Package queuetest says how every transport must behave, as tests that each transport runs against itself.
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

// Transport is a transport under test: fresh for each test, with nothing stored, and set up so that tests are quick.
// A message that failed comes again within some 10 milliseconds. The methods end the test where they cannot do what they
// are for.
type Transport interface {
	// Start runs a worker with these functions and returns when it takes messages. What the functions need from the
	// transport is made first if it is not there.
	Start(t *testing.T, fns ...queue.Function) Worker
	// Send puts a message in at the entrance of a function and returns when it is stored, or why it was refused.
	Send(function string, m Message) error
	// Events are the stored events, in order.
	Events(t *testing.T) []events.Envelope
	// DeadLetters are the messages given up on, in order.
	DeadLetters(t *testing.T) []DeadLetter
	// Pending counts the messages that functions have not let go: waiting, delayed or in hand.
	Pending(t *testing.T) int
	// BreakEvents makes storing events fail until repair is called.
	BreakEvents(t *testing.T) (repair func())
	// Restart stops what stores the messages and starts it again. No worker runs meanwhile.
	Restart(t *testing.T)

	// Lease is how long a message stays with a worker that is gone. About a second.
	Lease() time.Duration
	// Delay is the shortest time by which the transport delays a message.
	Delay() time.Duration
	// Concurrency is how many messages a worker has in hand at a time for one function.
	Concurrency() int
	// Traits are in what transports may differ.
	Traits() Traits
}

// Traits are in what transports may differ. Every test holds for each of them; what it asks for follows from these.
type Traits struct {
	// Renews tells that a worker keeps a message for as long as it handles it, however short the lease. Behind Lambda
	// nothing does: a deployment gives each queue a lease that is longer than an invocation can be.
	Renews bool
	// Keeps tells that events wait for functions that are set up only later. A topic keeps nothing: what reacts must be
	// set up before.
	Keeps bool
	// Bytes tells that a body may be any bytes. SQS takes characters of XML alone and refuses others at once.
	Bytes bool
}

// Worker is one running worker.
type Worker interface {
	// Stop ends the worker in order and returns its error.
	Stop() error
	// Kill ends the worker as a crash would: from now on nothing of what it does reaches the transport. It does not
	// wait for handlers.
	Kill()
	// Ended is closed when the worker has ended, for whatever reason.
	Ended() <-chan struct{}
}

// Message is a message as a sender puts it in.
type Message struct {
	ID      string // given to the transport beside the message; "" for none
	Headers map[string]string
	Body    []byte
}

// DeadLetter is what the transport keeps of a message given up on.
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
		{"bare data is the command of its entrance", bare},
		{"a bare write without an id is refused", bareWrite},
		{"a message whose id cannot be read is a dead letter alone", unreadable},
		{"invalid data ends in command.failed and the worker lives on", invalid},
		{"a permanent error is a dead letter and command.failed", permanent},
		{"events are stored before the message is let go", storedFirst},
		{"a retry brings the same message again and not early", retried},
		{"waiting spends no deliveries", waiting},
		{"two sources with one id are both kept when delayed", twoSources},
		{"two data under one id are both kept when delayed, and both answered", twoData},
		{"a panic is one message's and becomes a dead letter", panics},
		{"an unexpected error is delivered again", unexpected},
		{"handling may outlast the lease", long},
		{"a worker that stops finishes what it has in hand", graceful},
		{"a killed worker's message comes to another", killed},
		{"workers share the work", shared},
		{"functions send commands to functions", next},
		{"an event is what each function that reacts makes of it", reactions},
		{"a chain goes on after a restart", chainRestart},
		{"a delayed message outlives a restart", delayRestart},
		{"a function can stop its worker", stops},
		{"a command redriven at once is delayed like the first", redriven},
		{"a message may have 256 KiB and not more", sizes},
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

// bench is what a test works with.
type bench struct {
	Transport
	t    *testing.T
	open chan struct{}
	once sync.Once
}

// release lets handlers go on that wait for open.
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

// idle waits until nothing is under way.
func (b *bench) idle() {
	b.t.Helper()
	b.eventually("all messages are let go", func() bool { return b.Pending(b.t) == 0 })
}

// said waits until there are n events and nothing is under way, and returns them.
func (b *bench) said(n int) []events.Envelope {
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

// receive takes from a channel, or ends the test.
func receive[T any](b *bench, c <-chan T, what string) T {
	b.t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		require.FailNow(b.t, "nothing came: "+what)
		panic("not reached")
	}
}

// calls is a function's handler that tells of each call and then does as it is told.
type calls struct {
	c  chan queue.Command
	do func(ctx context.Context, c queue.Command) ([]queue.Outcome, error)
}

func newCalls(do func(context.Context, queue.Command) ([]queue.Outcome, error)) *calls {
	if do == nil {
		do = says
	}
	return &calls{c: make(chan queue.Command, 1000), do: do}
}

func (c *calls) handle(ctx context.Context, cmd queue.Command) ([]queue.Outcome, error) {
	c.c <- cmd
	return c.do(ctx, cmd)
}

// says ends a command in an event.
func says(context.Context, queue.Command) ([]queue.Outcome, error) {
	return []queue.Outcome{{Type: events.TypeDesktopDescribed, About: []string{"done"}, Data: map[string]bool{"done": true}}}, nil
}

const fn = "getdesktop" // the function of most tests; what it does here is the test's

func function(name string, c *calls) queue.Function {
	return queue.Function{Name: name, Type: events.CommandType(name), Handle: c.handle}
}

// command is a command in structured mode.
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
