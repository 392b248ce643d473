//go:build e2e

package aws_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

// output is the output of the sandboxes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

// has counts the occurrences of a text.
func (o *output) has(text string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Count(o.b.String(), text)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.b.Bytes()[max(0, o.b.Len()-12000):])
}

// storm injects faults in an order that its seed decides.
type storm struct {
	*cloud
	t      *testing.T
	rnd    *rand.Rand
	frozen map[*sandbox]time.Time // until when
	seen   int64                  // number of the journal's last entry that was read
	more   []chaostest.Kind

	kills, freezes, interrupts, faulty, cuts, outages int
}

// run injects one fault after the other until the end.
func (s *storm) run(until time.Time) {
	s.t.Helper()
	for time.Now().Before(until) {
		<-time.After(chaostest.Between(s.rnd, 20*time.Millisecond, 400*time.Millisecond)) // the pace of the storm
		for b, end := range s.frozen {
			if time.Now().After(end) {
				s.thaw(b)
			}
		}
		switch dice := s.rnd.IntN(100); {
		case dice < 20:
			s.strike(true, names...)
		case dice < 40:
			s.strike(false, names...)
		case dice < 60:
			s.interruptWrites()
		case dice < 64:
			s.web.CloseClientConnections()
			s.cuts++
		case dice < 68:
			s.outage(s.servers[s.rnd.IntN(len(s.servers))])
		default:
			s.faults(chaostest.Faults(s.rnd, s.window, s.more...)...)
			s.faulty++
		}
	}
}

// strike kills or freezes one of the sandboxes of these functions that handle a batch.
func (s *storm) strike(deadly bool, functions ...string) {
	if boxes := s.inHand(functions...); len(boxes) > 0 {
		s.hit(boxes[s.rnd.IntN(len(boxes))], deadly)
	}
}

// inHand returns the sandboxes of these functions that handle a batch and are not frozen.
func (s *storm) inHand(functions ...string) []*sandbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	var boxes []*sandbox
	for _, f := range functions {
		for b := range s.boxes {
			if _, frozen := s.frozen[b]; b.name == f && b.busy() && !frozen && !b.killed.Load() {
				boxes = append(boxes, b)
			}
		}
	}
	return boxes
}

// hit kills a sandbox, or freezes it: for a moment, or until lease and fence of its work are over.
func (s *storm) hit(b *sandbox, deadly bool) {
	if deadly {
		b.kill()
		s.kills++
		return
	}
	b.signal(syscall.SIGSTOP)
	s.frozen[b] = time.Now().Add(chaostest.Between(s.rnd, 100*time.Millisecond, 2*s.window))
	s.freezes++
}

func (s *storm) thaw(b *sandbox) {
	b.signal(syscall.SIGCONT)
	delete(s.frozen, b)
}

// interruptWrites delays the answers to writes, waits until the service has accepted one, and then kills or freezes all
// sandboxes that write but one, before they can have received the answer.
func (s *storm) interruptWrites() {
	s.t.Helper()
	s.faults(chaostest.SlowWrites(s.rnd, s.window)...)
	s.taken()
	for deadline := time.Now().Add(time.Second); !s.taken(); {
		if time.Now().After(deadline) {
			return // no write to interrupt
		}
		<-time.After(10 * time.Millisecond) // between two polls
	}
	boxes, deadly := s.inHand("Rebuild", "DesktopToImage"), s.rnd.IntN(2) == 0
	if len(boxes) == 0 {
		return
	}
	spared := s.rnd.IntN(len(boxes))
	for i, b := range boxes {
		if i != spared {
			s.hit(b, deadly)
		}
	}
	s.interrupts++
}

// taken reports whether the service has accepted a write since the last call.
func (s *storm) taken() (took bool) {
	for _, r := range s.service.Requests(s.seen, 0) {
		s.seen = r.N
		took = took || r.Effect == emulator.EffectJob
	}
	return took
}

// outage stops SQS and SNS, or DynamoDB, for a while.
func (s *storm) outage(of *server) {
	s.t.Helper()
	require.NoError(s.t, of.cmd.Process.Signal(syscall.SIGSTOP))
	<-time.After(chaostest.Between(s.rnd, 100*time.Millisecond, 2*time.Second))
	require.NoError(s.t, of.cmd.Process.Signal(syscall.SIGCONT))
	s.outages++
}

// faults replaces the emulator's faults.
func (s *storm) faults(faults ...emulator.Fault) {
	s.t.Helper()
	require.NoError(s.t, s.service.SetFaults(faults))
}

// endFaults ends all faults.
func (s *storm) endFaults() {
	s.t.Helper()
	s.faults()
	for b := range s.frozen {
		s.thaw(b)
	}
}
