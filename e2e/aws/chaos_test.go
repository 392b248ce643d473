//go:build e2e

package aws_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/testkit/chaostest"
)

var (
	chaosSeed = flag.Uint64("chaos.seed", 0, "what the chaos test does; zero: another each time, and it says which")
	chaosTime = flag.Duration("chaos.time", 20*time.Second, "how long the chaos test breaks things")
)

const (
	chaosWindow = 6 * time.Second
	chaosFences = 8 * time.Second // chaosWindow and more: what was signed before is refused after it
)

// TestChaos holds the real programs to the promise on AWS, too: each command has at most one accepted write and exactly
// one end, and every end tells the truth, whatever is killed, frozen, cut, repeated, reordered, handed over twice or
// while somebody has it in hand, or answered falsely meanwhile.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("seed: go test -tags e2e ./e2e/aws -run '^TestChaos$' -chaos.seed %d -chaos.time %v", seed, *chaosTime)
	size := 100 + int(max(0, *chaosTime-20*time.Second)/time.Second)*2
	log := &output{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.tail())
		}
	})
	c := startCloud(t, settings{desktops: chaostest.DesktopsOf(size), window: chaosWindow, visibility: time.Second,
		speed: 600, pace: "10", level: "info", log: log, freezes: true})
	rnd := rand.New(rand.NewPCG(seed, 1))
	corpus := chaostest.NewCorpus(t, rnd, c.service.State(), size)
	c.address = chaostest.NewWay(t, c.web.URL, chaostest.Late(seed, chaosFences)).URL
	x := &trouble{kill: 0.03, freeze: 0.02, twice: 0.2, within: 100 * time.Millisecond, frozen: 2 * chaosWindow, seed: seed}
	c.poll(t, x, 4)
	c.begin(t, x)

	sending, stop := context.WithTimeout(t.Context(), *chaosTime+time.Minute)
	defer stop()
	sent := make(chan error, 1)
	go func() {
		for _, m := range corpus.Messages {
			if err := c.send(sending, m.Envelope); err != nil {
				sent <- err
				return
			}
			<-time.After(*chaosTime * 2 / 3 / time.Duration(len(corpus.Messages))) // they come one after the other
		}
		sent <- nil
	}()
	s := &storm{cloud: c, t: t, rnd: rnd, frozen: map[*sandbox]time.Time{}}
	s.more = chaostest.FalseRefusals()
	s.run(time.Now().Add(*chaosTime))
	x.turn(false)
	s.calm()
	require.NoError(t, <-sent)
	calmed := time.Now()
	said := c.settle(t, *chaosTime+3*time.Minute, corpus.Roots)

	account := chaostest.Take(t, said, c.service.State(), corpus.Writes)
	x.mu.Lock()
	defer x.mu.Unlock()
	t.Logf("seed %d: %d commands, %d events; killed %d sandboxes, froze %d; lay in ambush %d times, changed faults %d times, cut connections %d times, "+
		"stopped a server %d times; %d batches for two at once, %d messages came back while in hand; calm after %v; "+
		"not known at first %d, adopted %d, sent again %d; held %d, calls refused for their signature %d; jobs %d; ends of desktops: %s",
		seed, len(corpus.Roots), len(said), s.kills+x.kills, s.freezes+x.freezes, s.ambushes, s.faulty, s.cuts, s.outages, x.doubles, x.returned,
		time.Since(calmed).Round(time.Second), log.has("outcome was never recorded"), log.has("its job adopted"), log.has("is made once more"),
		log.has("held: no message"), len(c.refusals()), len(account.Jobs), account.Tally())
	require.Positive(t, x.doubles)
	require.Positive(t, x.returned, "a message that comes back while its handler runs")
	require.Positive(t, s.kills)
	require.Positive(t, s.freezes)
	chaostest.Once(t, said, corpus.Roots)
	account.Honest()
	t.Logf("accepted writes in the journal: %d", account.Counted(c.service.Requests(0, 0)))
	for _, n := range names {
		for _, m := range c.dead(t, n) {
			require.Contains(t, m.MessageAttributes, "Recompose-Reason", "SQS gave up on a message of %s: %s", n, *m.Body)
		}
	}
}

// settle waits until the chains have ended and nothing is on its way any more, and gives all that was said.
func (c *cloud) settle(t *testing.T, most time.Duration, roots []string) []events.Envelope {
	t.Helper()
	var said []events.Envelope
	for deadline := time.Now().Add(most); ; {
		said = append(said, c.said(t)...)
		open, rest := chaostest.Open(said, roots), ""
		if len(open) == 0 {
			rest = c.busy(t)
		}
		if len(open) == 0 && rest == "" {
			return append(said, c.said(t)...)
		}
		if time.Now().After(deadline) {
			require.FailNow(t, "it does not come to an end", "open: %v\n%s", open, cmp.Or(rest, c.busy(t)))
		}
	}
}

// busy tells what is still on its way; "" is nothing.
func (c *cloud) busy(t *testing.T) string {
	t.Helper()
	var all []string
	for _, n := range names {
		for _, what := range []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages,
			sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible, sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed} {
			if n, of := c.count(t, n+"Queue", what), n; n != "0" {
				all = append(all, fmt.Sprintf("%s: %s is %s", of, what, n))
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.boxes {
		if b.busy() {
			all = append(all, b.name+" has a batch in hand")
		}
	}
	return strings.Join(all, "\n")
}

// dead takes the dead letters of a function.
func (c *cloud) dead(t *testing.T, name string) (all []sqstypes.Message) {
	t.Helper()
	url := c.queues[name+"DeadLetterQueue"]
	for {
		got, err := c.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10, VisibilityTimeout: 600,
			MessageAttributeNames: []string{"All"}})
		require.NoError(t, err)
		if len(got.Messages) == 0 {
			return all
		}
		all = append(all, got.Messages...)
	}
}
