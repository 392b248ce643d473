package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/testkit/chaostest"
)

const lossCommands = 20

// lossRig is one `recompose up` on a folder that a test may harm while the program is stopped.
type lossRig struct {
	dir, natsAt, emulatorAt string
	up                      *process
	health                  string
	image                   events.Image
	desktops                []string
}

func newLossRig(t *testing.T) *lossRig {
	t.Helper()
	r := &lossRig{dir: t.TempDir(), natsAt: freePort(t), emulatorAt: freePort(t)}
	r.start(t)
	var state emulator.State
	getJSON(t, "http://"+r.emulatorAt+"/_emulator/state", &state)
	r.image.ImageID, r.image.ImageType = chaostest.OtherImage(t, state)
	for _, d := range state.Desktops {
		r.desktops = append(r.desktops, d.DesktopID)
	}
	return r
}

func (r *lossRig) start(t *testing.T) {
	t.Helper()
	r.begin(t)
	r.up.prints(t, "Ctrl-C ends it")
}

// begin starts it, and waits for its health page alone.
func (r *lossRig) begin(t *testing.T) {
	t.Helper()
	r.up = start(t, []string{"RECOMPOSE_HTTP_LISTEN=127.0.0.1:0"}, binary(t, "recompose"), "up", "--data", r.dir, "--nats-listen", r.natsAt,
		"--emulator-listen", r.emulatorAt, "--desktops", fmt.Sprint(lossCommands), "--speed", "2000")
	r.up.prints(t, "/readyz")
	r.health = r.up.field(t, "health")
}

func (r *lossRig) stop(t *testing.T) {
	t.Helper()
	require.Equal(t, exitDone, r.up.interrupt(t))
}

func (r *lossRig) env() []string { return []string{"NATS_URL=nats://" + r.natsAt} }

// named is env with the service.
func (r *lossRig) named() []string {
	return append(r.env(), "RECOMPOSE_WORKSPACE_ENDPOINT=http://"+r.emulatorAt, "HUAWEICLOUD_SDK_PROJECT_ID="+emulator.DefaultProjectID)
}

// store is the folder of a stream.
func (r *lossRig) store(stream string) string {
	return filepath.Join(r.dir, "emulator", "nats", "jetstream", "$G", "streams", stream)
}

func (r *lossRig) connect(t *testing.T) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect("nats://" + r.natsAt)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return nc, js
}

// send sends commands, the same ones each time: only Nats-Msg-Id is new, so that no two minutes hide the second sending.
func (r *lossRig) send(t *testing.T, from, to int) {
	t.Helper()
	nc, js := r.connect(t)
	defer nc.Close()
	for i := from; i < to; i++ {
		var cmd events.Rebuild
		cmd.RebuildCurrent = true
		cmd.ImageID, cmd.ImageType, cmd.DesktopIDs = r.image.ImageID, r.image.ImageType, []string{r.desktops[i]}
		data, err := json.Marshal(cmd)
		require.NoError(t, err)
		id := fmt.Sprint("c", i)
		body, err := json.Marshal(events.Envelope{ID: id, Source: "test", Type: events.TypeRebuild, Time: time.Now(), Correlation: id, Data: data})
		require.NoError(t, err)
		_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: events.TypeRebuild, Data: body, Header: nats.Header{
			"Content-Type": {events.ContentType}, "Nats-Msg-Id": {fmt.Sprint(id, "/", time.Now().UnixNano())},
		}})
		require.NoError(t, err)
	}
}

// ends counts the chains that have ended.
func (r *lossRig) ends(t *testing.T) int {
	t.Helper()
	nc, js := r.connect(t)
	defer nc.Close()
	c, err := js.OrderedConsumer(t.Context(), "RECOMPOSE_EVENTS", jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	defer func() { // else the looks of one test reach the stream's limit of consumers
		require.NoError(t, js.DeleteConsumer(context.WithoutCancel(t.Context()), "RECOMPOSE_EVENTS", c.CachedInfo().Name))
	}()
	published := map[string][]events.Envelope{}
	for pending := c.CachedInfo().NumPending; pending > 0; {
		m, err := c.Next()
		require.NoError(t, err)
		meta, err := m.Metadata()
		require.NoError(t, err)
		pending = meta.NumPending
		var e events.Envelope
		require.NoError(t, json.Unmarshal(m.Data(), &e))
		published[e.Correlation] = append(published[e.Correlation], e)
	}
	n := 0
	for i := range lossCommands {
		id := fmt.Sprint("c", i)
		if len(published[id]) > 0 && len(events.Open(events.Root{ID: id}, published[id])) == 0 {
			n++
		}
	}
	return n
}

// waiting is how many commands and delayed messages there are.
func (r *lossRig) waiting(t *testing.T, stream string) uint64 {
	t.Helper()
	nc, js := r.connect(t)
	defer nc.Close()
	s, err := js.Stream(t.Context(), stream)
	require.NoError(t, err)
	return s.CachedInfo().State.Msgs
}

func (r *lossRig) writes(t *testing.T) int {
	t.Helper()
	return len(acceptedWrites(t, "http://"+r.emulatorAt))
}

// lost waits until the worker shows that its ledger does not fit.
func (r *lossRig) lost(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { return r.up.err.has("--accept-ledger-loss") }, "no log line names the way out")
	require.Contains(t, r.up.err.String(), "level=ERROR")
	eventually(t, func() bool {
		status, text := page(t, r.health)
		return status == http.StatusServiceUnavailable && strings.Contains(text, "--accept-ledger-loss")
	}, "the health page does not name the way out")
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(to))
	require.NoError(t, os.CopyFS(to, os.DirFS(from)))
}

// blocks are the files that hold a stream's messages.
func blocks(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "msgs", "*.blk"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// change changes the content of files in place.
func change(t *testing.T, files []string, to func([]byte) []byte) {
	t.Helper()
	for _, f := range files {
		content, err := os.ReadFile(f)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(f, to(content), 0o600))
	}
}

func TestALedgerThatIsGoneCutOrOlderIsNoNewLedger(t *testing.T) {
	t.Parallel()
	garble := func(from, part int) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := len(b) * from / part; i < len(b)*(from+1)/part; i++ {
				b[i] ^= 0x5a
			}
			return b
		}
	}
	index := func(folder string) string { return filepath.Join(folder, "msgs", "index.db") }
	for name, harm := range map[string]func(t *testing.T, folder string){
		"deleted": func(t *testing.T, folder string) { require.NoError(t, os.RemoveAll(folder)) },
		"its messages deleted": func(t *testing.T, folder string) {
			require.NoError(t, os.RemoveAll(filepath.Join(folder, "msgs")))
		},
		"truncated": func(t *testing.T, folder string) {
			change(t, blocks(t, folder), func(b []byte) []byte { return b[:len(b)/3] })
		},
		"emptied": func(t *testing.T, folder string) {
			change(t, blocks(t, folder), func([]byte) []byte { return nil })
		},
		"truncated, without its index": func(t *testing.T, folder string) {
			change(t, blocks(t, folder), func(b []byte) []byte { return b[:len(b)/3] })
			require.NoError(t, os.RemoveAll(index(folder)))
		},
		"garbled": func(t *testing.T, folder string) { change(t, blocks(t, folder), garble(0, 1)) },
		"garbled in the middle": func(t *testing.T, folder string) {
			change(t, blocks(t, folder), garble(4, 9))
		},
		"garbled in the middle, without its index": func(t *testing.T, folder string) {
			change(t, blocks(t, folder), garble(4, 9))
			require.NoError(t, os.RemoveAll(index(folder)))
		},
		"its description garbled": func(t *testing.T, folder string) {
			change(t, []string{filepath.Join(folder, "meta.inf")}, garble(0, 1))
		},
		"an older copy": nil, // made while there were fewer records
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newLossRig(t)
			folder, older := r.store("KV_RECOMPOSE_LEDGER"), filepath.Join(t.TempDir(), "older")
			half := lossCommands / 2
			r.send(t, 0, half)
			eventually(t, func() bool { return r.ends(t) == half }, "the first commands do not end")
			r.stop(t)
			copyTree(t, folder, older)
			r.start(t)
			require.NotContains(t, r.up.err.String(), "level=ERROR", "a ledger that is as it was fits")
			r.send(t, half, lossCommands)
			eventually(t, func() bool { return r.ends(t) == lossCommands }, "the commands do not end")
			require.Equal(t, lossCommands, r.writes(t))
			r.stop(t)

			if harm == nil {
				copyTree(t, older, folder)
			} else {
				harm(t, folder)
			}
			r.begin(t)
			r.lost(t)
			kept := finish(t, r.named(), "setup", "--accept-service") // the record of the service may be lost with the ledger
			require.Equal(t, exitFailed, kept.code, kept.out)
			require.Contains(t, kept.errOut, "--accept-ledger-loss")
			r.up.prints(t, "Ctrl-C ends it")
			r.send(t, 0, lossCommands)
			eventually(t, func() bool { return r.waiting(t, "RECOMPOSE_COMMANDS") == 0 }, "the commands are not taken")
			r.lost(t)
			require.Equal(t, lossCommands, r.writes(t), "no command was done a second time")

			refused := finish(t, r.env(), "setup")
			require.Equal(t, exitFailed, refused.code)
			require.Contains(t, refused.errOut, "--accept-ledger-loss")
			r.stop(t)
			r.start(t)
			r.lost(t) // a restart forgets nothing
			require.Equal(t, lossCommands, r.writes(t))
		})
	}
}

// ready waits until the worker is ready.
func (r *lossRig) ready(t *testing.T) {
	t.Helper()
	eventually(t, func() bool { status, _ := page(t, r.health); return status == http.StatusOK }, "it does not become ready")
}

// notReady waits until the health page is not ready and has these texts. All checks of one page share a time limit, so on a
// busy machine one page may report that instead.
func (r *lossRig) notReady(t *testing.T, texts ...string) {
	t.Helper()
	eventually(t, func() bool {
		status, text := page(t, r.health)
		return status == http.StatusServiceUnavailable &&
			!slices.ContainsFunc(texts, func(want string) bool { return !strings.Contains(text, want) })
	}, "the health page is ready, or has not all of %q", texts)
}

func TestALossIsAcceptedByAnOperator(t *testing.T) {
	t.Parallel()
	r := newLossRig(t)
	r.ready(t)
	fine := finish(t, r.env(), "setup", "--accept-ledger-loss")
	require.Equal(t, exitDone, fine.code, fine.errOut)
	require.Contains(t, fine.out, "nothing to accept")
	r.send(t, 0, 2)
	eventually(t, func() bool { return r.ends(t) == 2 }, "the commands do not end")

	nc, js := r.connect(t) // under a worker that runs
	defer nc.Close()
	s, err := js.Stream(t.Context(), "KV_RECOMPOSE_LEDGER")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	r.send(t, 0, 1)
	r.send(t, 2, 3)
	r.lost(t)
	require.Equal(t, 2, r.writes(t))
	require.Equal(t, exitDone, finish(t, append(r.env(), "TZ=UTC"), "send", "getdesktop", "--desktop-id", r.desktops[0], "--wait").code, "reads continue")

	require.Equal(t, exitUsage, finish(t, r.env(), "setup", "--verify", "--accept-ledger-loss").code)
	require.Equal(t, exitUsage, finish(t, r.env(), "setup", "--aws", "stack").code)
	nameless := finish(t, r.env(), "setup", "--accept-ledger-loss")
	require.Equal(t, exitUsage, nameless.code, nameless.out)
	require.Contains(t, nameless.errOut, "RECOMPOSE_WORKSPACE_ENDPOINT")
	accepted := finish(t, r.named(), "setup", "--accept-ledger-loss")
	require.Equal(t, exitDone, accepted.code, accepted.errOut)
	require.Contains(t, accepted.out, "A command whose record is lost can be done a second time")
	require.Contains(t, accepted.out, "frozen since")
	listed := finish(t, r.env(), "events", "--json", "--since", "1h")
	require.Contains(t, listed.out, `"type":"`+events.TypeLedgerAccepted+`"`)
	require.Contains(t, listed.out, `"by":"`)
	r.ready(t)
	r.send(t, 3, 4)
	eventually(t, func() bool { return r.waiting(t, "RECOMPOSE_COMMANDS") == 0 }, "the command is not taken")
	require.Equal(t, 2, r.writes(t), "a freeze may be lost with the ledger: no write before thaw")
	thawed := finish(t, r.env(), "thaw")
	require.Equal(t, exitDone, thawed.code, thawed.errOut)
	eventually(t, func() bool { return r.writes(t) == 5 }, "what waited is not begun: the one that was done before, and two new ones")
	r.stop(t)
	r.start(t)
	r.ready(t)
	require.NotContains(t, r.up.err.String(), "level=ERROR")
}

func TestARetentionThatIsTooShortMakesTheWorkerNotReady(t *testing.T) {
	t.Parallel()
	r := newLossRig(t)
	r.ready(t)
	nc, js := r.connect(t)
	defer nc.Close()
	for stream, changed := range map[string]string{"KV_RECOMPOSE_LEDGER": "max_age (ttl) is 1h0m0s", "RECOMPOSE_EVENTS": "max_age is 1h0m0s, should be 720h0m0s"} {
		s, err := js.Stream(t.Context(), stream)
		require.NoError(t, err)
		c := s.CachedInfo().Config
		c.MaxAge = time.Hour
		_, err = js.UpdateStream(t.Context(), c)
		require.NoError(t, err)
		r.notReady(t, changed, "recompose setup")
		if stream == "KV_RECOMPOSE_LEDGER" {
			r.send(t, 0, 1)
			eventually(t, func() bool { return r.up.err.has(changed) }, "it is not logged")
			r.stop(t)
			r.start(t) // a worker does not put it back: records may be gone
			r.notReady(t, changed)
			require.Zero(t, r.writes(t))
			nc, js = r.connect(t)
			defer nc.Close()
		}
		set := finish(t, r.env(), "setup")
		require.Equal(t, exitDone, set.code, set.errOut)
		r.ready(t)
	}
	eventually(t, func() bool { return r.ends(t) == 1 }, "what waited is not done")
}
