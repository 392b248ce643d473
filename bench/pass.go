package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/queue/natsqueue"
)

// scenario is one job.
type scenario struct {
	function    string
	concurrency int
	size        int // bytes of what the service answers for a desktop
	peers       []contestant
}

func (s scenario) name() string { return fmt.Sprintf("%s/%d/%dB", s.function, s.concurrency, s.size) }

// contestant is who does the job.
type contestant struct {
	Name    string
	role    string // of this program; "" for recompose
	variant string
}

// figures are those of one pass.
type figures struct {
	Rate   float64 `json:"messages_per_second"`
	CPU    float64 `json:"cpu_us_per_message"`
	Memory float64 `json:"memory_mib"`
	P50    float64 `json:"p50_ms,omitempty"` // at the constant rate
	P99    float64 `json:"p99_ms,omitempty"`
}

// pass is one contestant with a server of its own.
type pass struct {
	settings
	scenario
	who     contestant
	stub    *process
	server  *process
	nc      *nats.Conn
	js      jetstream.JetStream
	command string // the subject of commands
	end     string // the subject of events
	stream  jetstream.Stream
}

// within is how long a pass may take.
const within = 2 * time.Minute

func (p *pass) run(ctx context.Context) (f figures, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, errSlow)
	defer cancel()
	if err := p.prepare(ctx); err != nil {
		return f, err
	}
	defer p.server.stop()
	defer p.nc.Close()
	if err := p.fill(ctx); err != nil {
		return f, err
	}
	worker, err := p.start(ctx)
	if err != nil {
		return f, err
	}
	defer worker.stop()
	if err := p.throughput(ctx, worker, &f); err != nil {
		return f, fmt.Errorf("%w: %s", err, worker.log)
	}
	if p.latency > 0 {
		err = p.delay(ctx, &f)
	}
	f.Memory = worker.usage().most
	return f, err
}

// prepare starts a server and makes the streams.
func (p *pass) prepare(ctx context.Context) (err error) {
	if p.server, err = helper(ctx, "server"); err != nil {
		return err
	}
	if p.nc, err = nats.Connect(p.server.url); err != nil {
		return err
	}
	if p.js, err = jetstream.New(p.nc, jetstream.WithPublishAsyncMaxPending(512)); err != nil {
		return err
	}
	q, err := natsqueue.New(p.nc, natsqueue.Options{})
	if err != nil {
		return err
	}
	if err := q.Setup(ctx, functions.Routes()); err != nil {
		return err
	}
	for _, c := range []jetstream.StreamConfig{
		{Name: peerCommands, Subjects: []string{peerCommands}, Retention: jetstream.WorkQueuePolicy},
		{Name: peerEvents, Subjects: []string{peerEvents}},
	} {
		if _, err := p.js.CreateStream(ctx, c); err != nil {
			return err
		}
	}
	if _, err := p.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket}); err != nil {
		return err
	}
	p.command, p.end = events.CommandType(p.function), endOf(p.function)
	stream := "RECOMPOSE_EVENTS"
	if p.who.role == "watermill" {
		p.command, p.end, stream = peerCommands, peerEvents, peerEvents
	}
	p.stream, err = p.js.Stream(ctx, stream)
	return err
}

// message is the command with this number.
func (p *pass) message(kind string, n int) (*nats.Msg, error) {
	id := kind + "-" + strconv.Itoa(n)
	desktop := fmt.Sprintf("f77db5cd-c020-47d4-bbbe-%012d", n)
	var data any
	switch p.function {
	case events.FnGetDesktop:
		data = events.GetDesktop{DesktopID: desktop}
	case events.FnCheckImages:
		data = events.CheckImages{DesktopIDs: []string{desktop}}
	default:
		data = events.Rebuild{DesktopIDs: []string{desktop}, ImageType: "private", ImageID: "i-new"}
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(wire{
		SpecVersion: "1.0", ID: id, Source: "bench", Type: events.CommandType(p.function), Time: time.Now().UTC(),
		ContentType: "application/json", Correlation: id, Data: raw,
	})
	return &nats.Msg{Subject: p.command, Data: body, Header: nats.Header{
		"Content-Type": {events.ContentType}, "Nats-Msg-Id": {id}, "_watermill_message_uuid": {id},
	}}, err
}

func (p *pass) fill(ctx context.Context) error {
	for i := range p.messages {
		m, err := p.message("c", i)
		if err != nil {
			return err
		}
		if _, err := p.js.PublishMsgAsync(m, jetstream.WithStallWait(10*time.Second)); err != nil {
			return err
		}
	}
	select {
	case <-p.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pass) start(ctx context.Context) (*process, error) {
	concurrency := strconv.Itoa(p.concurrency)
	if p.who.role != "" {
		own, err := os.Executable()
		if err != nil {
			return nil, err
		}
		return start(exec.CommandContext(ctx, own, p.who.role, "-nats", p.server.url, "-service", p.stub.url,
			"-function", p.function, "-concurrency", concurrency, "-variant", p.who.variant))
	}
	args := []string{"run", p.function}
	if p.pprof != "" {
		args = append(args, "--pprof", p.pprof)
	}
	cmd := exec.CommandContext(ctx, p.worker, args...)
	for _, kept := range os.Environ() {
		if name, _, _ := strings.Cut(kept, "="); !strings.HasPrefix(name, "RECOMPOSE_") && !strings.HasPrefix(name, "NATS_") &&
			!strings.HasPrefix(name, "HW_") && !strings.HasPrefix(name, "HUAWEICLOUD_") {
			cmd.Env = append(cmd.Env, kept)
		}
	}
	cmd.Env = append(cmd.Env, "NATS_URL="+p.server.url, "RECOMPOSE_WORKSPACE_ENDPOINT="+p.stub.url,
		"HUAWEICLOUD_SDK_AK="+accessKey, "HUAWEICLOUD_SDK_SK="+secretKey, "HUAWEICLOUD_SDK_PROJECT_ID="+project,
		"RECOMPOSE_CONCURRENCY="+concurrency, "RECOMPOSE_READS_PER_MINUTE=1000000", "RECOMPOSE_WRITES_PER_MINUTE=1000000",
		"RECOMPOSE_HTTP_LISTEN=off", "RECOMPOSE_LOG_LEVEL=warn")
	return start(cmd)
}

// ends is how many events are stored.
func (p *pass) ends(ctx context.Context) (int, error) {
	info, err := p.stream.Info(ctx, jetstream.WithSubjectFilter(p.end))
	if err != nil {
		return 0, err
	}
	return int(info.State.Subjects[p.end]), nil //nolint:gosec // far below
}

// throughput measures from the moment when a tenth is done until all is.
func (p *pass) throughput(ctx context.Context, worker *process, f *figures) error {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	var first time.Time
	var before int
	var used usage
	for {
		done, err := p.ends(ctx)
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case first.IsZero() && done >= p.messages/10:
			first, before, used = now, done, worker.usage()
		case done >= p.messages:
			handled := float64(done - before)
			if handled > 0 {
				f.Rate = handled / now.Sub(first).Seconds()
				f.CPU = float64((worker.usage().cpu - used.cpu).Microseconds()) / handled
			}
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d of %d events after %v", context.Cause(ctx), done, p.messages, within)
		}
	}
}

// delay measures from sending a command to receiving its event, at a constant rate.
func (p *pass) delay(ctx context.Context, f *figures) error {
	total := int(p.latency.Seconds() * float64(p.rate))
	sent := make([]time.Time, total)
	took := make([]float64, 0, total)
	var mu sync.Mutex
	all := make(chan struct{})
	sub, err := p.nc.Subscribe(p.end, func(m *nats.Msg) {
		now := time.Now()
		_, text, ok := bytes.Cut(m.Data, []byte(`"causationid":"l-`))
		digits, _, _ := bytes.Cut(text, []byte(`"`))
		n, err := strconv.Atoi(string(digits))
		if !ok || err != nil || n >= total {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if took = append(took, now.Sub(sent[n]).Seconds()*1000); len(took) == total {
			close(all)
		}
	})
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := p.nc.Flush(); err != nil {
		return err
	}
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for begin, next := time.Now(), 0; next < total; {
		for due := int(time.Since(begin).Seconds() * float64(p.rate)); next < min(due, total); next++ {
			m, err := p.message("l", next)
			if err != nil {
				return err
			}
			mu.Lock()
			sent[next] = time.Now()
			mu.Unlock()
			if err := p.nc.PublishMsg(m); err != nil {
				return err
			}
		}
		<-poll.C
	}
	select {
	case <-all:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	slices.Sort(took)
	f.P50, f.P99 = took[total/2], took[total*99/100]
	return nil
}
