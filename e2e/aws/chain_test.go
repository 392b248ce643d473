//go:build e2e

package aws_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/safety"
)

// capture is a command that makes an image of the first desktop and rebuilds the others from it.
func (c *cloud) capture(t *testing.T, id string, from string, then []string) events.Envelope {
	t.Helper()
	data, err := json.Marshal(map[string]any{
		"desktop_id": from, "image_name": "golden " + id, "execute_sysprep": true,
		"then": map[string]any{"rebuild": map[string]any{"desktop_ids": then}},
	})
	require.NoError(t, err)
	return events.Envelope{ID: id, Source: "e2e", Type: events.TypeDesktopToImage, Time: time.Now(), Correlation: id, Data: data}
}

// verified counts the desktops of a chain that were verified to run the new image.
func verified(t *testing.T, published []events.Envelope) (n int) {
	t.Helper()
	seen := map[string]bool{}
	for _, e := range published {
		if e.Type != events.TypeImagesChecked || seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		var checked struct{ Matched, Mismatched, Missing []string }
		require.NoError(t, json.Unmarshal(e.Data, &checked))
		require.Empty(t, checked.Mismatched)
		require.Empty(t, checked.Missing)
		n += len(checked.Matched)
	}
	return n
}

// One message makes an image, and a fleet is rebuilt from it and verified, by the programs that sam build makes.
func TestCaptureRebuildVerify(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 151})
	c.poll(t, &trouble{}, 2)
	ids := c.service.DesktopIDs()
	command := c.capture(t, "one", ids[0], ids[1:])
	c.publish(t, command)
	published := c.follow(t, 2*time.Minute, command)
	for _, e := range published {
		require.NotEqual(t, events.TypeCommandFailed, e.Type, string(e.Data))
	}
	require.Equal(t, 150, verified(t, published))
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage))
	require.Equal(t, 2, c.accepted(emulator.CallRebuild), "100 desktops and 50")

	ids = nil
	for _, e := range published {
		ids = append(ids, e.ID)
	}
	c.publish(t, command)
	var repeated []events.Envelope
	for end := time.Now().Add(time.Minute); len(repeated) == 0 && time.Now().Before(end); {
		repeated = c.published(t)
	}
	require.NotEmpty(t, repeated)
	for _, e := range repeated {
		require.Contains(t, ids, e.ID, "the same events, and no others")
	}
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage), "sent twice, published twice, done once")
	require.Equal(t, 2, c.accepted(emulator.CallRebuild))
}

// A message for which there is no function stays in a queue with an alarm.
func TestAMessageWithoutAFunction(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 1})
	for _, known := range []string{events.TypeGetDesktop, events.TypeCommandFailed, events.TypeImagesChecked} {
		c.publish(t, events.Envelope{ID: "x", Source: "e2e", Type: known, Data: json.RawMessage(`{}`)})
	}
	require.Equal(t, "0", c.waiting(t, "UnroutedQueue"))
	require.Equal(t, "1", c.waiting(t, "GetDesktopQueue"))
	c.publish(t, events.Envelope{ID: "x", Source: "e2e", Type: "recompose.command.rebiuld.v1", Data: json.RawMessage(`{}`)})
	require.Equal(t, "1", c.waiting(t, "UnroutedQueue"))
}

// Until its filter is in force, each function also receives the messages for the others: everything still ends as
// usual, once.
func TestAChainBeforeAnyFilterIsInForce(t *testing.T) {
	t.Parallel()
	log := &output{}
	c := startCloud(t, settings{desktops: 4, unfiltered: true, level: "warn", log: log})
	c.poll(t, &trouble{}, 1)
	ids := c.service.DesktopIDs()
	chain := c.capture(t, "one", ids[0], ids[1:])
	data, err := json.Marshal(events.GetDesktop{DesktopID: ids[0]})
	require.NoError(t, err)
	read := events.Envelope{ID: "two", Source: "e2e", Type: events.TypeGetDesktop, Time: time.Now(), Correlation: "two", Data: data}
	c.publish(t, chain)
	c.publish(t, read)
	published := append(c.follow(t, 2*time.Minute, chain, read), c.published(t)...)
	ends := map[string]map[string]bool{}
	for _, e := range published {
		require.NotEqual(t, events.TypeCommandFailed, e.Type, string(e.Data))
		if e.Causation != "" {
			if ends[e.Causation+" "+e.Type] == nil {
				ends[e.Causation+" "+e.Type] = map[string]bool{}
			}
			ends[e.Causation+" "+e.Type][e.ID] = true
		}
	}
	for what, ids := range ends {
		require.Len(t, ids, 1, what)
	}
	require.Equal(t, 3, verified(t, published))
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage))
	require.Equal(t, 1, c.accepted(emulator.CallRebuild))
	require.Positive(t, log.has("dropped: the message is for another function"))
	for _, n := range names {
		require.Equal(t, "0", c.waiting(t, n+"DeadLetterQueue"))
	}
}

// A new stack with the table of an earlier, deleted one knows what the earlier one has done and what operators set.
func TestAStackContinuesWithTheLedgerOfAnEarlierOne(t *testing.T) {
	t.Parallel()
	earlier := startCloud(t, settings{desktops: 3})
	ids := earlier.service.DesktopIDs()
	done := earlier.capture(t, "done", ids[0], ids[1:])
	ends := map[string]bool{}
	t.Run("the earlier stack", func(t *testing.T) { // its functions end with the subtest
		earlier.poll(t, &trouble{}, 1)
		earlier.publish(t, done)
		for _, e := range earlier.follow(t, 2*time.Minute, done) {
			ends[e.ID] = true
		}
	})
	people := operators(t, earlier.db)
	require.NoError(t, people.SetFreeze(t.Context(), safety.Freeze{Reason: "the stacks change", By: "e2e", At: time.Now()}))

	c := startCloud(t, settings{adopts: earlier, visibility: 30 * time.Second})
	c.poll(t, &trouble{}, 1)
	c.publish(t, done)
	for _, e := range c.follow(t, 2*time.Minute, done) {
		require.Contains(t, ends, e.ID, "the events published before, and no others: %s", e.Type)
	}
	fresh := c.capture(t, "new", ids[1], ids[:1])
	c.publish(t, fresh)
	require.Eventually(t, func() bool {
		return c.count(t, "DesktopToImageQueue", sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed) == "1"
	}, time.Minute, 100*time.Millisecond, "the freeze is in force in the new stack")
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage))
	require.NoError(t, people.Thaw(t.Context()))
	published := slices.DeleteFunc(c.follow(t, 3*time.Minute, fresh), func(e events.Envelope) bool { return e.Correlation != fresh.ID })
	require.Equal(t, 1, verified(t, published))
	require.Equal(t, 2, c.accepted(emulator.CallDesktopToImage))
	require.Equal(t, 2, c.accepted(emulator.CallRebuild))
}

// Messages are sent twice and delivered twice or concurrently, and sandboxes are killed while they handle them: each
// command still has at most one accepted write, and every chain ends with its fleet verified.
func TestKilledSandboxesAndDuplicates(t *testing.T) {
	t.Parallel()
	const chains, fleet = 6, 4
	c := startCloud(t, settings{desktops: chains * fleet})
	x := &trouble{kill: 0.12, twice: 0.3, within: 60 * time.Millisecond}
	c.poll(t, x, 2)
	c.begin(t, x)
	ids := c.service.DesktopIDs()
	var commands []events.Envelope
	for i := range chains {
		mine := ids[i*fleet : (i+1)*fleet]
		commands = append(commands, c.capture(t, fmt.Sprint("chain ", i), mine[0], mine[1:]))
	}
	for range 2 {
		for _, command := range commands {
			c.publish(t, command)
		}
	}
	published := c.follow(t, 5*time.Minute, commands...)
	x.mu.Lock()
	kills, doubles := x.kills, x.doubles
	x.mu.Unlock()
	t.Logf("%d sandboxes killed, %d batches delivered twice at once, %d events", kills, doubles, len(published))
	for _, e := range published {
		require.NotEqual(t, events.TypeCommandFailed, e.Type, string(e.Data))
	}
	require.Positive(t, kills)
	require.Positive(t, doubles)
	require.Equal(t, chains, c.accepted(emulator.CallDesktopToImage))
	require.Equal(t, chains, c.accepted(emulator.CallRebuild))
	require.Equal(t, chains*(fleet-1), verified(t, published))
}

// While writes are frozen, a write waits as a delayed message in its queue, and nothing is done; after the thaw it is
// done once.
func TestFreeze(t *testing.T) {
	t.Parallel()
	c := startCloud(t, settings{desktops: 2, visibility: 30 * time.Second})
	people := operators(t, c.db)
	require.NoError(t, people.SetFreeze(t.Context(), safety.Freeze{Reason: "a test", By: "e2e", At: time.Now()}))
	c.poll(t, &trouble{}, 2)
	ids := c.service.DesktopIDs()
	command := c.capture(t, "frozen", ids[0], ids[1:])
	c.publish(t, command)
	require.Eventually(t, func() bool {
		return c.count(t, "DesktopToImageQueue", sqstypes.QueueAttributeNameApproximateNumberOfMessagesDelayed) == "1"
	}, time.Minute, 100*time.Millisecond)
	require.Zero(t, c.accepted(emulator.CallDesktopToImage))
	require.NoError(t, people.Thaw(t.Context()))
	published := c.follow(t, 3*time.Minute, command)
	require.Equal(t, 1, verified(t, published))
	require.Equal(t, 1, c.accepted(emulator.CallDesktopToImage))
	require.Equal(t, 1, c.accepted(emulator.CallRebuild))
}
