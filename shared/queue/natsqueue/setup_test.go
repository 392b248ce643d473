package natsqueue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
)

// table is a routing table with every kind of row.
func table() []queue.Function {
	does := func(context.Context, queue.Command) ([]queue.Outcome, error) { return nil, nil }
	return []queue.Function{
		{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: does},
		{Name: "rebuild", Types: []string{events.TypeRebuild}, Reacts: []string{events.TypeJobCompleted, events.TypeJobAccepted}, Handle: does},
		{Name: "watchjob", Reacts: []string{events.TypeJobAccepted}, Handle: does},
	}
}

func (tr *transport) queue(t *testing.T, change func(*natsqueue.Options)) *natsqueue.Queue {
	o := tr.options()
	if change != nil {
		change(&o)
	}
	q, err := natsqueue.New(tr.nc, o)
	require.NoError(t, err)
	return q
}

func TestSetup(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "test")
	verify := tr.queue(t, func(o *natsqueue.Options) { o.Verify = true })
	err := verify.Setup(t.Context(), table())
	require.ErrorIs(t, err, natsqueue.ErrNotSetUp)
	for _, name := range []string{"test_RECOMPOSE_COMMANDS", "test_RECOMPOSE_NEXT", "test_RECOMPOSE_EVENTS", "test_RECOMPOSE_DEAD"} {
		require.ErrorContains(t, err, name)
	}

	var all sync.WaitGroup
	faults := make([]error, 8)
	for i := range faults {
		q := tr.queue(t, nil)
		all.Go(func() { faults[i] = q.Setup(t.Context(), table()) })
	}
	all.Wait()
	for _, err := range faults {
		require.NoError(t, err, "many workers at once")
	}
	require.NoError(t, verify.Setup(t.Context(), table()))

	commands := tr.info(t, "test_RECOMPOSE_COMMANDS")
	require.ElementsMatch(t, []string{"test.recompose.command.getdesktop.>", "test.recompose.command.rebuild.>"}, commands.Subjects)
	require.Equal(t, jetstream.WorkQueuePolicy, commands.Retention)
	require.Equal(t, jetstream.DiscardNew, commands.Discard)
	require.Equal(t, int64(natsqueue.EntranceMaxMsgs), commands.MaxMsgs)
	require.False(t, commands.AllowMsgSchedules)
	require.False(t, commands.AllowRollup)
	next := tr.info(t, "test_RECOMPOSE_NEXT")
	require.ElementsMatch(t, []string{
		"test.recompose.timer.*", "test.recompose.next.getdesktop.>", "test.recompose.next.rebuild.>", "test.recompose.next.watchjob.>",
	}, next.Subjects)
	require.Equal(t, jetstream.WorkQueuePolicy, next.Retention)
	require.True(t, next.AllowMsgSchedules)
	require.Equal(t, []int64{-1, -1, 0}, []int64{next.MaxMsgs, next.MaxBytes, int64(next.MaxAge)})
	stream := tr.info(t, "test_RECOMPOSE_EVENTS")
	require.Equal(t, 30*24*time.Hour, stream.MaxAge)
	require.Equal(t, []int64{-1, -1}, []int64{stream.MaxMsgs, stream.MaxBytes})
	require.Equal(t, 90*24*time.Hour, tr.info(t, "test_RECOMPOSE_DEAD").MaxAge)
	for _, s := range []jetstream.StreamConfig{commands, next, stream} {
		require.Equal(t, jetstream.FileStorage, s.Storage)
		require.Equal(t, 2*time.Minute, s.Duplicates)
	}
	for at, filters := range map[string][]string{
		"test_RECOMPOSE_COMMANDS/test_rebuild": {"test.recompose.command.rebuild.>"},
		"test_RECOMPOSE_NEXT/test_watchjob":    {"test.recompose.next.watchjob.>"},
		"test_RECOMPOSE_EVENTS/test_rebuild":   {"test.recompose.event.job.completed.>", "test.recompose.event.job.accepted.>"},
		"test_RECOMPOSE_EVENTS/test_watchjob":  {"test.recompose.event.job.accepted.>"},
	} {
		stream, durable, _ := strings.Cut(at, "/")
		c, err := tr.js.Consumer(t.Context(), stream, durable)
		require.NoError(t, err, at)
		config := c.CachedInfo().Config
		have := config.FilterSubjects
		if config.FilterSubject != "" {
			have = []string{config.FilterSubject}
		}
		require.ElementsMatch(t, filters, have, at)
		require.Equal(t, -1, config.MaxDeliver)
		require.Equal(t, jetstream.AckExplicitPolicy, config.AckPolicy)
		require.Equal(t, tr.Lease(), config.AckWait)
	}
	_, err = tr.js.Consumer(t.Context(), "test_RECOMPOSE_COMMANDS", "test_watchjob")
	require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)
}

func (tr *transport) info(t *testing.T, stream string) jetstream.StreamConfig {
	s, err := tr.js.Stream(t.Context(), stream)
	require.NoError(t, err)
	return s.CachedInfo().Config
}

func TestSetupKeepsSettingsOfTheOperator(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	q, verify := tr.queue(t, nil), tr.queue(t, func(o *natsqueue.Options) { o.Verify = true })
	require.NoError(t, q.Setup(t.Context(), table()))

	c := tr.info(t, "RECOMPOSE_COMMANDS")
	c.MaxMsgs, c.MaxBytes, c.Description = 10, -1, "mine"
	_, err := tr.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	e := tr.info(t, "RECOMPOSE_EVENTS")
	e.MaxAge = 60 * 24 * time.Hour
	_, err = tr.js.UpdateStream(t.Context(), e)
	require.NoError(t, err)
	require.NoError(t, verify.Setup(t.Context(), table()), "what an operator may choose")
	require.NoError(t, q.Setup(t.Context(), table()))
	require.Equal(t, int64(10), tr.info(t, "RECOMPOSE_COMMANDS").MaxMsgs)
	require.Equal(t, "mine", tr.info(t, "RECOMPOSE_COMMANDS").Description)

	e.MaxAge = time.Hour
	_, err = tr.js.UpdateStream(t.Context(), e)
	require.NoError(t, err)
	consumer, err := tr.js.Consumer(t.Context(), "RECOMPOSE_NEXT", "rebuild")
	require.NoError(t, err)
	cc := consumer.CachedInfo().Config
	cc.MaxDeliver = 3
	_, err = tr.js.UpdateConsumer(t.Context(), "RECOMPOSE_NEXT", cc)
	require.NoError(t, err)
	err = verify.Setup(t.Context(), table())
	require.ErrorContains(t, err, "stream RECOMPOSE_EVENTS: max_age is 1h0m0s, should be 720h0m0s")
	var log bytes.Buffer
	q = tr.queue(t, func(o *natsqueue.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	require.NoError(t, q.Setup(t.Context(), table()))
	require.NoError(t, verify.Setup(t.Context(), table()), "it was changed")
	require.Contains(t, log.String(), "max_age is 1h0m0s, should be 720h0m0s")
	require.Contains(t, log.String(), "max_deliver is 3, should be -1")

	require.NoError(t, tr.js.DeleteStream(t.Context(), "RECOMPOSE_DEAD"))
	_, err = tr.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "RECOMPOSE_DEAD", Subjects: []string{"recompose.dead.*"}, Storage: jetstream.MemoryStorage, Retention: jetstream.WorkQueuePolicy,
	})
	require.NoError(t, err)
	err = q.Setup(t.Context(), table())
	require.ErrorContains(t, err, "stream RECOMPOSE_DEAD")
	require.ErrorContains(t, err, "storage is Memory, should be File")
	require.ErrorContains(t, err, "retention is WorkQueue, should be Limits")
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	for _, bad := range []string{"A", "a.b", "a b", "a_b", "*", "0123456789012345678901234567890123"} {
		_, err := natsqueue.New(tr.nc, natsqueue.Options{Deployment: bad})
		require.ErrorContains(t, err, "deployment", bad)
	}
	nc, err := tr.srv.Connect()
	require.NoError(t, err)
	nc.Close()
	_, err = natsqueue.New(nc, natsqueue.Options{})
	require.ErrorContains(t, err, "connection")
}

func TestSend(t *testing.T) {
	t.Parallel()
	tr := newTransport(t, "")
	e := events.Envelope{ID: "c1", Source: "test", Type: events.TypeGetDesktop, Data: json.RawMessage(`{"desktop_id":"d1"}`)}
	_, err := tr.q.Send(t.Context(), e)
	require.ErrorIs(t, err, natsqueue.ErrNotSetUp)
	require.ErrorContains(t, err, "run recompose setup")
	require.NoError(t, tr.q.Setup(t.Context(), table()))

	first, err := tr.q.Send(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, natsqueue.Receipt{Stream: "RECOMPOSE_COMMANDS", Seq: 1}, first)
	second, err := tr.q.Send(t.Context(), e)
	require.NoError(t, err)
	require.Equal(t, natsqueue.Receipt{Stream: "RECOMPOSE_COMMANDS", Seq: 1, Duplicate: true}, second)
	spelled := e
	spelled.Data = json.RawMessage(` { "desktop_id": "\u00641" } `)
	second, err = tr.q.Send(t.Context(), spelled)
	require.NoError(t, err)
	require.True(t, second.Duplicate, "the same data, spelled differently")
	other := e
	for i, data := range []string{`{"desktop_id":"d2"}`, `{"desktop_id":"d1","project_id":"p"}`, `{"no":"such field"}`} {
		other.Data = json.RawMessage(data)
		stored, err := tr.q.Send(t.Context(), other)
		require.NoError(t, err)
		require.Equal(t, natsqueue.Receipt{Stream: "RECOMPOSE_COMMANDS", Seq: uint64(i + 2)}, stored, "other data under one id is never dropped")
	}

	for name, change := range map[string]func(*events.Envelope){
		"not the type of a command": func(e *events.Envelope) { e.Type = events.TypeJobAccepted },
		"not the type":              func(e *events.Envelope) { e.Type = "recompose.command.>" },
		"id and a source":           func(e *events.Envelope) { e.Source = "" },
		"at most 262144 bytes":      func(e *events.Envelope) { e.Data, _ = json.Marshal(string(make([]byte, 300_000))) },
	} {
		bad := e
		bad.ID = "c2"
		change(&bad)
		_, err := tr.q.Send(t.Context(), bad)
		require.ErrorContains(t, err, name)
	}

	unknown := e
	unknown.ID, unknown.Type = "c2", events.TypeCheckImages
	_, err = tr.q.Send(t.Context(), unknown)
	require.ErrorIs(t, err, natsqueue.ErrNotSetUp)
	require.ErrorContains(t, err, "does not take recompose.command.checkimages.v1")

	c := tr.info(t, "RECOMPOSE_COMMANDS")
	c.MaxMsgs = 1
	_, err = tr.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	e.ID = "c3"
	_, err = tr.q.Send(t.Context(), e)
	require.ErrorIs(t, err, natsqueue.ErrFull)
}
