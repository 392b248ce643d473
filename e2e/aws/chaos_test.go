//go:build e2e

package aws_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

var (
	chaosSeed    = flag.Uint64("chaos.seed", 0, "seed of the chaos test; zero: a random one, which is logged")
	chaosTime    = flag.Duration("chaos.time", 20*time.Second, "how long the chaos test injects faults")
	chaosRollout = flag.Int("chaos.rollout", 20, "desktops of the rollout that runs beside the commands of the chaos test")
)

const (
	chaosWindow = 6 * time.Second
	chaosFences = 8 * time.Second // longer than chaosWindow: after it, the service refuses earlier signatures
)

// TestChaos checks the guarantee on AWS with the real programs: each command has at most one accepted write and
// exactly one end, and every end is true. In the meantime sandboxes are killed and frozen, connections are cut,
// messages are repeated, reordered and delivered twice or while they are being handled, and the service returns false
// answers.
func TestChaos(t *testing.T) {
	t.Parallel()
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	t.Logf("seed: go test -tags e2e ./e2e/aws -run '^TestChaos$' -chaos.seed %d -chaos.time %v -chaos.rollout %d", seed, *chaosTime, *chaosRollout)
	size := 100 + int(max(0, *chaosTime-20*time.Second)/time.Second)*2
	log := &output{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(log.tail())
		}
	})
	rolled := *chaosRollout
	c := startCloud(t, settings{desktops: rolled + chaostest.DesktopsOf(size), window: chaosWindow, visibility: time.Second,
		longer: time.Duration(rolled) * 8 * time.Millisecond, speed: 600, pace: 10, level: "info", log: log, freezes: true})
	rnd := rand.New(rand.NewPCG(seed, 1))
	ids, state := c.service.DesktopIDs()[:rolled], c.service.State()
	state.Desktops = slices.DeleteFunc(state.Desktops, func(d emulator.Desktop) bool { return slices.Contains(ids, d.DesktopID) })
	corpus := chaostest.NewCorpus(t, rnd, state, size)
	c.address = chaostest.NewWay(t, c.web.URL, chaostest.Late(seed, chaosFences)).URL
	x := &trouble{kill: 0.03, freeze: 0.02, twice: 0.2, within: 100 * time.Millisecond, frozen: 2 * chaosWindow, seed: seed}
	c.poll(t, x, 4)
	c.begin(t, x)
	c.wakeRollouts(t)
	c.rollBeside(t, ids)

	sending, stop := context.WithTimeout(t.Context(), 2**chaosTime+time.Minute) // a loaded server takes long for each
	defer stop()
	sent := make(chan error, 1)
	go func() {
		for _, m := range corpus.Messages {
			if err := c.send(sending, m.Envelope); err != nil {
				sent <- err
				return
			}
			<-time.After(*chaosTime * 2 / 3 / time.Duration(len(corpus.Messages))) // sent one after the other
		}
		sent <- nil
	}()
	s := &storm{cloud: c, t: t, rnd: rnd, frozen: map[*sandbox]time.Time{}}
	s.more = chaostest.FalseRefusals()
	s.run(time.Now().Add(*chaosTime))
	x.turn(false)
	s.endFaults()
	require.NoError(t, <-sent)
	ended := time.Now()
	rollouts := c.rolledBeside(t, *chaosTime+3*time.Minute, ids)
	published := slices.DeleteFunc(c.settle(t, *chaosTime+3*time.Minute, corpus.Roots), ofRollout)

	state = c.service.State()
	state.Jobs = slices.DeleteFunc(state.Jobs, func(j emulator.Job) bool {
		return slices.ContainsFunc(j.SubJobs, func(s emulator.SubJob) bool { return slices.Contains(ids, s.Entities.DesktopID) })
	})
	account := chaostest.Take(t, published, state, corpus.Writes)
	x.mu.Lock()
	defer x.mu.Unlock()
	t.Logf("seed %d: %d commands, %d events; killed %d sandboxes, froze %d; interrupted writes %d times, changed faults %d times, cut connections %d times, "+
		"stopped a server %d times; %d batches delivered twice, %d messages redelivered during their handling; settled after %v; "+
		"unknown at first %d, adopted %d, repeated %d; held %d, calls refused for their signature %d; jobs %d; ends of desktops: %s; rollout: %v",
		seed, len(corpus.Roots), len(published), s.kills+x.kills, s.freezes+x.freezes, s.interrupts, s.faulty, s.cuts, s.outages, x.doubles, x.returned,
		time.Since(ended).Round(time.Second), log.has("outcome was never recorded"), log.has("its job adopted"), log.has("is made once more"),
		log.has("held: no message"), len(c.refusals()), len(account.Jobs), account.Tally(), rollouts)
	require.Positive(t, x.doubles)
	require.Positive(t, x.returned, "a message that is redelivered while its handler runs")
	require.Positive(t, s.kills)
	require.Positive(t, s.freezes)
	chaostest.Once(t, published, corpus.Roots)
	account.Honest()
	journal := slices.DeleteFunc(c.service.Requests(0, 0), func(r emulator.Request) bool {
		return slices.ContainsFunc(r.DesktopIDs, func(id string) bool { return slices.Contains(ids, id) })
	})
	t.Logf("accepted writes in the journal: %d", account.Counted(journal))
	for _, n := range names {
		for _, m := range c.dead(t, n) {
			require.Contains(t, m.MessageAttributes, "Recompose-Reason", "SQS gave up on a message of %s: %s", n, *m.Body)
		}
	}
}

// settle waits until the chains have ended and no message is pending, and returns all published events.
func (c *cloud) settle(t *testing.T, most time.Duration, roots []string) []events.Envelope {
	t.Helper()
	var published []events.Envelope
	for deadline := time.Now().Add(most); ; {
		published = append(published, c.published(t)...)
		open, rest := chaostest.Open(published, roots), ""
		if len(open) == 0 {
			rest = c.busy(t)
		}
		if len(open) == 0 && rest == "" {
			return append(published, c.published(t)...)
		}
		if time.Now().After(deadline) {
			require.FailNow(t, "the chains do not end", "open: %v\n%s", open, cmp.Or(rest, c.busy(t)))
		}
	}
}

// busy describes what is still pending; "" is nothing.
func (c *cloud) busy(t *testing.T) string {
	t.Helper()
	var all []string
	for _, n := range names {
		for _, what := range []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameApproximateNumberOfMessages,
			sqstypes.QueueAttributeNameApproximateNumberOfMessagesNotVisible, sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed} {
			if n == "Rollout" && what == sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed {
				continue // the last tick of a rollout that is over
			}
			if n, of := c.count(t, n+"Queue", what), n; n != "0" {
				all = append(all, fmt.Sprintf("%s: %s is %s", of, what, n))
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for b := range c.boxes {
		if b.busy() {
			all = append(all, b.name+" handles a batch")
		}
	}
	return strings.Join(all, "\n")
}

// dead receives the dead letters of a function.
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
