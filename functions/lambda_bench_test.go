package functions_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/testkit/awstest"
)

// starts is how often each program is started.
const starts = 30

// BenchmarkColdStart measures from the start of a process to its first request for work, and the size of each program,
// beside a program that does nothing, built the same way. The secret is read over loopback.
func BenchmarkColdStart(b *testing.B) {
	hello := filepath.Join(b.TempDir(), "bootstrap")
	build := exec.Command("go", "build", "-trimpath", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", hello, "./testdata/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(b, err, string(out))
	k := newCloud(b, emulator.Options{Desktops: 1})
	paths := map[string]string{"hello": hello}
	for _, name := range functions.Names() {
		paths[name] = bootstrap(b, name)
	}
	names := append([]string{"hello"}, functions.Names()...)
	for b.Loop() {
		took := map[string][]time.Duration{}
		for range starts { // in turn, so that other load on this machine slows all programs alike
			for _, name := range names {
				took[name] = append(took[name], k.coldStart(b, name, paths[name]))
			}
		}
		median := func(name string) float64 {
			slices.Sort(took[name])
			return float64(took[name][starts/2]) / float64(time.Millisecond)
		}
		for _, name := range names {
			info, err := os.Stat(paths[name])
			require.NoError(b, err)
			b.ReportMetric(median(name), name+"-ms")
			b.ReportMetric(float64(info.Size())/(1<<20), name+"-MiB")
			if name != "hello" {
				b.ReportMetric(median(name)/median("hello"), name+"/hello")
			}
		}
	}
}

func (k *cloud) coldStart(tb testing.TB, name, program string) time.Duration {
	tb.Helper()
	env := k.environment(name)
	env["RECOMPOSE_LOG_LEVEL"] = "info"
	env["RECOMPOSE_WORKSPACE_ENDPOINT"] = "https://workspace.example.org" // a cold start calls a loopback endpoint first, to find out whether it is an emulator
	begun := time.Now()
	s, err := k.Start(program, env)
	require.NoError(tb, err)
	defer s.Close()
	select {
	case <-s.Ready():
		return time.Since(begun)
	case <-s.Ended():
		require.FailNow(tb, "it does not start", s.Log())
	}
	return 0
}

// BenchmarkBatch measures a warm batch of ten messages, each a read of the emulator in this process, and gives the time
// of one message.
func BenchmarkBatch(b *testing.B) {
	k := newCloud(b, emulator.Options{Desktops: 10})
	s := k.start(b, events.FnGetDesktop, map[string]string{"RECOMPOSE_READS_PER_MINUTE": "1000000", "RECOMPOSE_LOG_LEVEL": "warn"})
	n := 0
	batch := func() {
		var records []awstest.Record
		for _, id := range k.world.DesktopIDs() {
			n++
			records = append(records, command(b, events.FnGetDesktop, fmt.Sprint("c", n), events.GetDesktop{DesktopID: id}))
		}
		require.Empty(b, invoke(b, s, time.Minute, records...))
	}
	batch()
	b.ResetTimer()
	for b.Loop() {
		batch()
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/10, "µs/message")
}
