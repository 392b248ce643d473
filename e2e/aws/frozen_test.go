//go:build e2e

package aws_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

// stage is a cloud and a rebuild of all its desktops. Lease and fence pass during a test, and a message is redelivered
// after a second.
func stage(t *testing.T) (*cloud, events.Envelope, *output) {
	t.Helper()
	log := &output{}
	c := startCloud(t, settings{desktops: 2, window: chaosWindow, visibility: time.Second, level: "info", log: log})
	image, kind := chaostest.OtherImage(t, c.service.State())
	return c, chaostest.Command(t, "c", events.TypeRebuild, events.Rebuild{DesktopIDs: c.service.DesktopIDs(), ImageID: image, ImageType: kind}), log
}

// only receives the one message of a queue, without deleting it.
func (c *cloud) only(t *testing.T, p *poller) []byte {
	t.Helper()
	url := c.queues[p.name+"Queue"]
	got, err := c.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: &url, WaitTimeSeconds: 10,
		MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{"All"}})
	require.NoError(t, err)
	require.Len(t, got.Messages, 1)
	return p.event(got.Messages)
}

// done checks that the command has one end that is true, and one accepted write in the given number of calls.
func (c *cloud) done(t *testing.T, command events.Envelope, calls int) {
	t.Helper()
	published := c.settle(t, time.Minute, []string{command.ID})
	chaostest.Once(t, published, []string{command.ID})
	account := chaostest.Take(t, published, c.service.State(), map[string][]string{command.ID: c.service.DesktopIDs()})
	account.Honest()
	require.Equal(t, 1, account.Counted(c.service.Requests(0, 0)))
	require.Len(t, c.calls(emulator.CallRebuild), calls)
	require.Equal(t, events.Succeeded, account.Rebuilt[c.service.DesktopIDs()[0]][0].Outcome)
}

func (c *cloud) calls(name string) (all []emulator.Request) {
	for _, r := range c.service.Requests(0, 0) {
		if r.Call == name {
			all = append(all, r)
		}
	}
	return all
}

// freeze stops a sandbox, and waits until all its threads are stopped.
func (s *sandbox) freeze(t *testing.T) {
	t.Helper()
	s.signal(syscall.SIGSTOP)
	pid := s.cmd.Process.Pid
	require.Eventually(t, func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if len(threads) == 0 { // no such folder on this system
			state, _ := exec.CommandContext(t.Context(), "ps", "-o", "stat=", "-p", fmt.Sprint(pid)).Output()
			return strings.HasPrefix(strings.TrimSpace(string(state)), "T")
		}
		return !slices.ContainsFunc(threads, func(thread string) bool {
			line, err := os.ReadFile(thread)
			_, state, _ := strings.Cut(string(line), ") ")
			return err == nil && !strings.HasPrefix(state, "T")
		})
	}, 10*time.Second, time.Millisecond, "a thread still runs")
}

// A sandbox is frozen between its intent and its call, and its message is redelivered in the meantime: after lease and
// fence another sandbox does the work, and the first one sends nothing after its thaw.
func TestASandboxFrozenBeforeItsCallSendsNothing(t *testing.T) {
	t.Parallel()
	c, command, log := stage(t)
	list := filepath.Join(t.TempDir(), "allowed") // read directly before the call
	ids := strings.Join(c.service.DesktopIDs(), "\n")
	require.NoError(t, os.WriteFile(list, []byte(ids), 0o600))
	old := c.startSandbox(t, "Rebuild", "RECOMPOSE_ALLOW_DESKTOPS_FILE="+list)
	t.Cleanup(func() { c.remove(old) })
	_, err := old.invoke(t.Context(), []byte(`{"Records": []}`)) // the sandbox has read its settings
	require.NoError(t, err)
	require.NoError(t, os.Remove(list))
	require.NoError(t, syscall.Mkfifo(list, 0o600))

	c.publish(t, command)
	event := c.only(t, &poller{cloud: c, name: "Rebuild"})
	woken := make(chan error, 1)
	go func() {
		_, err := old.invoke(context.WithoutCancel(t.Context()), event)
		woken <- err
	}()
	var pipe *os.File
	require.Eventually(t, func() bool {
		pipe, err = os.OpenFile(list, os.O_WRONLY|syscall.O_NONBLOCK, 0) // an error until a process reads
		return err == nil
	}, 30*time.Second, 10*time.Millisecond, "the sandbox does not reach its call")
	old.freeze(t)
	_, err = pipe.WriteString(ids)
	require.NoError(t, err)
	require.NoError(t, pipe.Close())
	c.poll(t, &trouble{}, 1)
	require.Eventually(t, func() bool { return len(c.calls(emulator.CallRebuild)) == 1 }, 30*time.Second, 10*time.Millisecond, "no other sandbox makes the call")
	old.signal(syscall.SIGCONT)
	require.NoError(t, <-woken)
	c.done(t, command, 1)
	require.Equal(t, 1, log.has("is proved absent and is made once more"))
}

// The call of a frozen sandbox is still in transit when another one has done the work: the service refuses its
// signature, and the sandbox, after its thaw, publishes the same event as the other.
func TestALateCallIsRefused(t *testing.T) {
	t.Parallel()
	c, command, log := stage(t)
	open, held := make(chan struct{}), atomic.Bool{}
	way := chaostest.NewWay(t, c.web.URL, func(ctx context.Context) {
		if held.CompareAndSwap(false, true) { // only the first
			chaostest.Until(open)(ctx)
		}
	})
	c.address = way.URL
	const sandboxes = 3
	c.poll(t, &trouble{}, sandboxes)
	c.publish(t, command)
	require.Eventually(t, held.Load, 30*time.Second, 10*time.Millisecond, "no call was made")
	var frozen []*sandbox
	c.mu.Lock()
	for b := range c.boxes {
		if b.name == "Rebuild" && b.busy() {
			b.freeze(t)
			frozen = append(frozen, b)
		}
	}
	c.mu.Unlock()
	require.NotEmpty(t, frozen) // two if the message was redelivered already
	require.Less(t, len(frozen), sandboxes)
	require.Eventually(t, func() bool { return len(c.calls(emulator.CallRebuild)) == 1 }, 30*time.Second, 10*time.Millisecond, "no other sandbox makes the call")
	require.Equal(t, emulator.EffectJob, c.calls(emulator.CallRebuild)[0].Effect)
	close(open)
	require.Eventually(t, func() bool { return len(c.calls(emulator.CallRebuild)) == 2 }, 30*time.Second, 10*time.Millisecond)
	require.Equal(t, 401, c.calls(emulator.CallRebuild)[1].Status, "its signature has expired")
	for _, b := range frozen {
		b.signal(syscall.SIGCONT)
	}
	c.done(t, command, 2)
	require.Equal(t, 1, log.has("is proved absent and is made once more"))
}
