//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/testkit/chaostest"
)

// arena is a NATS server, an emulator and workers, each a process that a test may kill, freeze and restart. The
// signature window is short, so that lease and fence pass while a test looks, and a message of a dead worker goes to
// another one soon.
type arena struct {
	t       *testing.T
	window  time.Duration
	natsAt  string
	config  string // file of the NATS server
	world   []string
	url     string // of the emulator
	env     []string
	nats    *process
	service *process
	all     []*process // every worker that there ever was
	tend    func()     // called repeatedly until all chains have ended

	nc *nats.Conn
	js jetstream.JetStream

	mu        sync.Mutex
	published []events.Envelope
	last      uint64 // sequence of the newest event in published
}

// settings of an arena.
type settings struct {
	desktops int
	window   time.Duration
	speed    string                // of the emulator
	pace     string                // of the workers' polls
	flags    []string              // more of the emulator
	seed     func(*emulator.State) // changes the generated fleet
}

const handedOverAfter = 3 * time.Second // AckWait: by then a message of a dead worker goes to another

func newArena(t *testing.T, s settings) *arena {
	t.Helper()
	a := &arena{t: t, window: s.window, natsAt: freePort(t)}
	folder, port := t.TempDir(), ""
	_, port, _ = strings.Cut(a.natsAt, ":")
	a.config = filepath.Join(folder, "nats.conf")
	// What the server has acknowledged is on the disk: a kill loses nothing.
	config := fmt.Sprintf("host: 127.0.0.1\nport: %s\njetstream { store_dir: %q, sync_interval: always }\n", port, filepath.Join(folder, "nats"))
	require.NoError(t, os.WriteFile(a.config, []byte(config), 0o600))
	emulatorAt := freePort(t)
	a.url = "http://" + emulatorAt
	a.world = []string{"emulator", "--listen", emulatorAt, "--desktops", fmt.Sprint(s.desktops), "--speed", s.speed, "--pace", s.pace,
		"--signature-window", s.window.String(), "--data", filepath.Join(folder, "emulator"), "--agency"}
	a.world = append(a.world, s.flags...)
	if s.seed != nil {
		a.world = append(a.world, "--seed", seedFile(t, s))
	}
	a.env = []string{
		"NATS_URL=nats://" + a.natsAt, "RECOMPOSE_WORKSPACE_ENDPOINT=" + a.url, "HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID,
		"RECOMPOSE_READS_PER_MINUTE=1000000", "RECOMPOSE_WRITES_PER_MINUTE=1000000", "RECOMPOSE_SETUP=verify",
		"RECOMPOSE_SIGNATURE_WINDOW=" + s.window.String(), "RECOMPOSE_HTTP_LISTEN=127.0.0.1:0", "RECOMPOSE_CONFLICT_DEADLINE=5m",
	}
	a.startNATS()
	a.startService()
	r := finish(t, a.env[:1], "setup")
	require.Equal(t, exitDone, r.code, r.errOut)

	var err error
	a.nc, err = nats.Connect("nats://"+a.natsAt, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(a.nc.Close)
	a.js, err = jetstream.New(a.nc)
	require.NoError(t, err)
	for _, stream := range []string{"RECOMPOSE_COMMANDS", "RECOMPOSE_NEXT", "RECOMPOSE_EVENTS"} {
		for _, c := range a.consumers(stream) {
			c.Config.AckWait = handedOverAfter
			_, err := a.js.UpdateConsumer(t.Context(), stream, c.Config)
			require.NoError(t, err)
		}
	}
	return a
}

// lead leads all workers that start from now on along this way.
func (a *arena) lead(w *chaostest.Way) { a.env = append(slices.Clone(a.env), along(w)) }

// aksk are the credentials of the emulator.
func aksk() []string {
	return []string{"HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey}
}

// isCredential reports whether a setting gives credentials of another kind than the key.
func isCredential(setting string) bool {
	name, _, _ := strings.Cut(setting, "=")
	return name == "RECOMPOSE_AUTH_TOKEN" || name == "RECOMPOSE_IAM_USER" || name == "RECOMPOSE_AGENCY"
}

// login are the credentials of an IAM user of the emulator.
func (a *arena) login() []string {
	return []string{
		"RECOMPOSE_IAM_ENDPOINT=" + a.url, "RECOMPOSE_IAM_USER=" + emulator.DefaultIAMUser,
		"RECOMPOSE_IAM_PASSWORD=" + emulator.DefaultIAMPassword, "RECOMPOSE_IAM_DOMAIN=" + emulator.DefaultIAMDomain,
	}
}

// agency are the settings of a worker on a server with an agency, which the emulator is for it.
func (a *arena) agency() []string {
	return []string{"RECOMPOSE_AGENCY=metadata", "RECOMPOSE_METADATA_ENDPOINT=" + a.url}
}

func (a *arena) startNATS() {
	a.t.Helper()
	a.nats = start(a.t, nil, binary(a.t, "nats-server"), "-c", a.config)
}

func (a *arena) startService() {
	a.t.Helper()
	a.service = start(a.t, nil, binary(a.t, "recompose"), a.world...)
	a.service.prints(a.t, "Ctrl-C ends it")
}

// worker starts a worker. It does not wait until it works.
func (a *arena) worker(env ...string) *process {
	a.t.Helper()
	return a.workerOf(nil, env...)
}

// workerOf starts a worker of some functions.
func (a *arena) workerOf(functions []string, env ...string) *process {
	a.t.Helper()
	if !slices.ContainsFunc(env, isCredential) {
		env = append(env, aksk()...)
	}
	p := start(a.t, append(slices.Clone(a.env), env...), binary(a.t, "recompose"), append([]string{"run"}, functions...)...)
	a.all = append(a.all, p)
	return p
}

// working starts a worker and waits until it works.
func (a *arena) working(env ...string) *process {
	a.t.Helper()
	p := a.worker(env...)
	p.prints(a.t, "working on")
	return p
}

// logged is how often a text stands in the logs of all workers.
func (a *arena) logged(text string) int {
	n := 0
	for _, p := range a.all {
		n += strings.Count(p.err.String(), text)
	}
	return n
}

// faults replaces the emulator's faults.
func (a *arena) faults(faults ...emulator.Fault) {
	a.t.Helper()
	putJSON(a.t, a.url+"/_emulator/faults", append([]emulator.Fault{}, faults...))
}

func (a *arena) state() emulator.State {
	a.t.Helper()
	var state emulator.State
	getJSON(a.t, a.url+"/_emulator/state", &state)
	return state
}

// calls are the journal's entries of a call.
func (a *arena) calls(name string) []emulator.Request {
	a.t.Helper()
	var journal []emulator.Request
	getJSON(a.t, a.url+"/_emulator/requests", &journal)
	return slices.DeleteFunc(journal, func(r emulator.Request) bool { return r.Call != name })
}

// onNATS is a message as NATS takes it.
func onNATS(t *testing.T, m chaostest.Message) *nats.Msg {
	t.Helper()
	body, err := json.Marshal(m.Envelope)
	require.NoError(t, err)
	return &nats.Msg{Subject: m.Envelope.Type, Data: body, Header: nats.Header{"Nats-Msg-Id": {m.ID}, "Content-Type": {events.ContentType}}}
}

// command is a command as a message, under an id of the transport's own: the same command may come several times.
func command(t *testing.T, id, typ, messageID string, data any) *nats.Msg {
	t.Helper()
	return onNATS(t, chaostest.Message{ID: messageID, Envelope: chaostest.Command(t, id, typ, data)})
}

// publish sends a message until the server has stored it.
func (a *arena) publish(ctx context.Context, m *nats.Msg) error {
	for {
		once, cancel := context.WithTimeout(ctx, 2*time.Second)
		_, err := a.js.PublishMsg(once, &nats.Msg{Subject: m.Subject, Data: m.Data, Header: m.Header})
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// send sends a command once.
func (a *arena) send(id, typ string, data any) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), within)
	defer cancel()
	require.NoError(a.t, a.publish(ctx, command(a.t, id, typ, id, data)))
}

func (a *arena) consumers(stream string) []*jetstream.ConsumerInfo {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	s, err := a.js.Stream(ctx, stream)
	require.NoError(a.t, err)
	list := s.ListConsumers(ctx)
	var all []*jetstream.ConsumerInfo
	for c := range list.Info() {
		all = append(all, c)
	}
	require.NoError(a.t, list.Err())
	return all
}

// events are all events so far.
func (a *arena) events() []events.Envelope {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 2*time.Minute)
	defer cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	s, err := a.js.Stream(ctx, "RECOMPOSE_EVENTS")
	require.NoError(a.t, err)
	for a.last < s.CachedInfo().State.LastSeq {
		m, err := s.GetMsg(ctx, a.last+1)
		require.NoError(a.t, err)
		var e events.Envelope
		require.NoError(a.t, json.Unmarshal(m.Data, &e))
		a.published, a.last = append(a.published, e), m.Sequence
	}
	return a.published
}

// quiet returns what is still in the streams; "" for nothing.
func (a *arena) quiet() string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	for _, stream := range []string{"RECOMPOSE_COMMANDS", "RECOMPOSE_NEXT"} {
		s, err := a.js.Stream(ctx, stream)
		require.NoError(a.t, err)
		if n := s.CachedInfo().State.Msgs; n > 0 && !a.onlyTicks(ctx, s) {
			return fmt.Sprintf("%d messages in %s", n, stream)
		}
	}
	for _, c := range a.consumers("RECOMPOSE_EVENTS") {
		if c.NumPending > 0 || c.NumAckPending > 0 {
			return fmt.Sprintf("%d events wait for %s, and %d are in hand", c.NumPending, c.Name, c.NumAckPending)
		}
	}
	return ""
}

// onlyTicks reports whether all messages of a stream are ticks of rollouts: the last one of a rollout that is over comes
// late, and does nothing.
func (a *arena) onlyTicks(ctx context.Context, s jetstream.Stream) bool {
	a.t.Helper()
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	require.NoError(a.t, err)
	for subject := range info.State.Subjects {
		m, err := s.GetLastMsgForSubject(ctx, subject)
		if err != nil || !strings.HasPrefix(subject, "recompose.timer.") || !bytes.Contains(m.Data, []byte(rollout.TypeTick)) {
			return false
		}
	}
	return true
}

// waiting returns the messages in RECOMPOSE_NEXT, and when each is due.
func (a *arena) waiting() string {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), 10*time.Second)
	defer cancel()
	s, err := a.js.Stream(ctx, "RECOMPOSE_NEXT")
	require.NoError(a.t, err)
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(">"))
	require.NoError(a.t, err)
	lines := []string{"now " + time.Now().UTC().Format(time.RFC3339)}
	for subject := range info.State.Subjects {
		if m, err := s.GetLastMsgForSubject(ctx, subject); err == nil {
			lines = append(lines, fmt.Sprintf("%s attempt %s: %s: %.300s", m.Header.Get("Nats-Schedule"), m.Header.Get("Recompose-Attempt"), subject, m.Data))
		}
	}
	return strings.Join(lines, "\n")
}

// loggedLast is what the workers logged last, the most frequent first, without what differs from line to line.
func (a *arena) loggedLast() string {
	const last, most = 2000, 20
	differs := regexp.MustCompile(`\S*[0-9]\S*`)
	times := map[string]int{}
	for _, p := range a.all {
		lines := strings.Split(p.err.String(), "\n")
		for _, l := range lines[max(0, len(lines)-last):] {
			times[differs.ReplaceAllString(l, "#")]++
		}
	}
	often := slices.SortedFunc(maps.Keys(times), func(x, y string) int { return times[y] - times[x] })
	var text strings.Builder
	for _, l := range often[:min(len(often), most)] {
		fmt.Fprintf(&text, "%6d %s\n", times[l], l)
	}
	return text.String()
}

// open are the chains that have not ended.
func (a *arena) open(roots ...string) []string {
	a.t.Helper()
	var open []string
	for root, pending := range chaostest.Open(a.events(), roots) {
		for _, p := range pending {
			open = append(open, fmt.Sprintf("%s: %v", root, p))
		}
	}
	return open
}

// settle waits until the chains have ended and nothing is on its way any more.
func (a *arena) settle(most time.Duration, roots ...string) {
	a.t.Helper()
	deadline, reported := time.Now().Add(most), time.Now().Add(20*time.Second)
	for {
		open, rest := a.open(roots...), ""
		if len(open) == 0 {
			rest = a.quiet()
		}
		if len(open) == 0 && rest == "" {
			return
		}
		if time.Now().After(deadline) {
			require.FailNow(a.t, "it does not come to an end", "open: %s\n%s\n%s\nlogged most often at the end:\n%s",
				strings.Join(open, "\n"), rest, a.waiting(), a.loggedLast())
		}
		if time.Now().After(reported) {
			reported = deadline
			a.t.Logf("it takes its time: %d open, waiting: %s", len(open), a.waiting())
		}
		if a.tend != nil {
			a.tend()
		}
		<-time.After(200 * time.Millisecond) // between two looks
	}
}

// ends are the end events of a command, each once.
func (a *arena) ends(id string) []events.Envelope {
	a.t.Helper()
	return chaostest.EndsOf(a.events())[id]
}

func onlyEnd[T any](a *arena, id, typ string) (data T) {
	a.t.Helper()
	ends := a.ends(id)
	require.Len(a.t, ends, 1)
	require.Equal(a.t, typ, ends[0].Type, "%s", ends[0].Data)
	require.NoError(a.t, json.Unmarshal(ends[0].Data, &data))
	return data
}

// failed is the one end of a command that failed.
func (a *arena) failed(id string) events.CommandFailed {
	a.t.Helper()
	return onlyEnd[events.CommandFailed](a, id, events.TypeCommandFailed)
}

// completed is the one end of a command whose job came to an end.
func (a *arena) completed(id string) events.JobCompleted {
	a.t.Helper()
	return onlyEnd[events.JobCompleted](a, id, events.TypeJobCompleted)
}
