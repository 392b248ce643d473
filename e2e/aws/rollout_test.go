//go:build e2e

package aws_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/rollout"
	"recompose/shared/testkit/chaostest"
)

// spec is a rollout to these desktops, in one wave.
func (c *cloud) spec(t *testing.T, name string, ids []string) rollout.Spec {
	t.Helper()
	spec := rollout.Defaults()
	spec.Name = name
	spec.Image.ImageID, spec.Image.ImageType = chaostest.OtherImage(t, c.service.State())
	spec.Targets.DesktopIDs = ids
	spec.Strategy = rollout.Strategy{Canary: 1, Waves: []string{"100%"}, MaxUnavailable: len(ids)}
	spec.Approval = rollout.Approval{}
	return spec
}

func (c *cloud) verb(t *testing.T, id, typ string, data events.RolloutCommand) {
	t.Helper()
	c.publish(t, chaostest.Command(t, id, typ, data))
}

// head is the state of a rollout; zero if there is none.
func (c *cloud) head(t *testing.T, name string) *rollout.Head {
	t.Helper()
	h, err := rollout.ReadHead(t.Context(), openLedger(t, c.db).Values(), name)
	if errors.Is(err, rollout.ErrNone) {
		return &rollout.Head{}
	}
	require.NoError(t, err)
	return h
}

// rollBeside starts a rollout to these desktops. Only its thresholds end it early.
func (c *cloud) rollBeside(t *testing.T, ids []string) {
	t.Helper()
	spec := c.spec(t, "beside", ids)
	spec.Strategy = rollout.Strategy{Waves: []string{"25%", "50%", "100%"}, MaxUnavailable: max(100, len(ids)+1), MaxFailed: rollout.Amount{Number: len(ids)}}
	raw, err := json.Marshal(spec)
	require.NoError(t, err)
	c.verb(t, "beside", events.TypeRolloutStart, events.RolloutCommand{Spec: raw})
}

// rolledBeside waits for the end of that rollout, and checks that it rebuilt each desktop once at most, and that those
// that are done run the image.
func (c *cloud) rolledBeside(t *testing.T, most time.Duration, ids []string) rollout.Counts {
	t.Helper()
	var h *rollout.Head
	phase := func(phases ...string) func() bool {
		return func() bool { h = c.head(t, "beside"); return len(h.Open) == 0 && slices.Contains(phases, h.Phase) }
	}
	if !assert.Eventually(t, phase(rollout.Completed, rollout.Halted, rollout.Aborted), most, 500*time.Millisecond, "the rollout does not end") {
		require.FailNow(t, "not the end", "%s %q: %v, open %v, waiting %+v, tick %+v, %d steps", h.Phase, h.Reason, h.Counts(), h.Open, h.Waiting, h.Tick, h.Revision)
	}
	require.NotEqual(t, rollout.Aborted, h.Phase, h.Reason)
	if h.Phase == rollout.Halted { // every desktop of a wave failed
		c.verb(t, "beside-abort", events.TypeRolloutAbort, events.RolloutCommand{Name: "beside", Reason: h.Reason})
		require.Eventually(t, phase(rollout.Aborted), time.Minute, 500*time.Millisecond, "the rollout is not aborted")
	}
	jobs, runs, state := map[string]int{}, 0, c.service.State()
	for _, job := range state.Jobs {
		for _, sub := range job.SubJobs {
			jobs[sub.Entities.DesktopID]++
		}
	}
	for _, d := range state.Desktops {
		if slices.Contains(ids, d.DesktopID) && d.Metadata["metering.image_id"] == h.Image.ID {
			runs++
		}
	}
	for _, id := range ids {
		require.LessOrEqual(t, jobs[id], 1, id)
	}
	counts := h.Counts()
	require.LessOrEqual(t, counts[rollout.Done], runs)
	sum := 0
	for _, n := range counts {
		sum += n
	}
	require.Equal(t, len(ids), sum, "%v", counts)
	return counts
}

// ofRollout reports whether an event is of a rollout, whose batches end more than once where they did nothing at first.
func ofRollout(e events.Envelope) bool {
	return e.Rollout != "" || e.Source == events.Source(events.FnRollout)
}

// wakeRollouts does what the rule of the template does once a minute, at the speed of these tests.
func (c *cloud) wakeRollouts(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var waking sync.WaitGroup
	t.Cleanup(func() { stop(); waking.Wait() })
	waking.Go(func() {
		tick := time.NewTicker(6 * time.Second)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			url := c.queues["RolloutQueue"]
			body := fmt.Sprintf(`{"specversion":"1.0","id":"wake-%d","source":"eventbridge/rollout","type":"recompose.internal.rollout.wake.v1",`+
				`"time":%q,"data":{}}`, n, time.Now().UTC().Format(time.RFC3339))
			_, err := c.sqs.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body})
			if err != nil && ctx.Err() == nil {
				t.Log("a wake-up is lost:", err) // the server is down
			}
		}
	})
}

// Where the approval has a topic of its own, the program approves there, and an approval on the other topic reaches no
// function.
func TestAnApprovalOfAPersonTakesItsOwnTopic(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 3, separate: true})
	c.poll(t, &trouble{}, 1)
	p := c.person(t)
	spec := c.spec(t, "november", c.service.DesktopIDs())
	spec.Approval = rollout.Approval{Required: true, Within: rollout.Duration(time.Hour)}
	raw, err := json.Marshal(spec)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "spec.json")
	require.NoError(t, os.WriteFile(file, raw, 0o600))
	require.Contains(t, p.run(t, "rollout", "start", "-f", file, "--aws", "recompose", "--yes", "--timeout", "2m"), "To approve it")
	h := c.head(t, "november")
	require.Equal(t, rollout.Planned, h.Phase)

	c.verb(t, "foreign", events.TypeRolloutApprove, events.RolloutCommand{Name: "november", PlanSHA256: h.Digest})
	require.Eventually(t, func() bool { return c.waiting(t, "UnroutedQueue") == "1" }, time.Minute, 100*time.Millisecond)
	require.Equal(t, rollout.Planned, c.head(t, "november").Phase)
	p.run(t, "rollout", "approve", "november", "--plan-sha256", h.Digest, "--aws", "recompose", "--yes", "--wait", "--timeout", "3m")
	h = c.head(t, "november")
	require.Equal(t, rollout.Completed, h.Phase)
	require.Equal(t, rollout.Counts{rollout.Done: 3}, h.Counts())
	require.Equal(t, "1", c.waiting(t, "UnroutedQueue"), "every other verb has a function")
}
