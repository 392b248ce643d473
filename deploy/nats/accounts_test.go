// Package nats_test loads the server configuration of this folder and tests what each of its users may do.
package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/workspace"
)

// bench is a server with the configuration of this folder, everything set up.
type bench struct{ url string }

func password(user string) string { return user + "-password" }

// start runs the server. It needs the environment, so tests that use it are not parallel with one another.
func start(t *testing.T) bench {
	t.Helper()
	for _, user := range []string{"setup", "worker", "operator", "reader", "admin"} {
		t.Setenv(strings.ToUpper(user)+"_PASSWORD", password(user))
	}
	o, err := server.ProcessConfigFile("recompose.conf")
	require.NoError(t, err)
	require.True(t, o.SyncAlways, "what is acknowledged must be on the disk")
	o.Host, o.Port, o.StoreDir, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, t.TempDir(), true, true
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(30*time.Second))
	b := bench{s.ClientURL()}

	nc := b.connect(t, "setup")
	q, err := natsqueue.New(nc, natsqueue.Options{})
	require.NoError(t, err)
	require.NoError(t, q.Setup(t.Context(), functions.Routes()))
	book, err := natsledger.New(t.Context(), nc, natsledger.Options{})
	require.NoError(t, err)
	_, err = natsstore.Open(t.Context(), nc, natsstore.Options{Bucket: natsstore.Rollouts})
	require.NoError(t, err)
	require.NoError(t, book.Fit(t.Context(), ""))
	require.NoError(t, nc.LastError())
	return b
}

func (b bench) connect(t *testing.T, user string) *nats.Conn {
	t.Helper()
	nc, err := natsqueue.Connect(t.Context(), natsqueue.ConnectOptions{
		URL: b.url, User: user, Password: password(user), InboxPrefix: "_INBOX_" + user,
	})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

func (b bench) queue(t *testing.T, nc *nats.Conn) *natsqueue.Queue {
	t.Helper()
	q, err := natsqueue.New(nc, natsqueue.Options{Verify: true, SweepEvery: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	require.NoError(t, err)
	return q
}

const speed = 1000

// work runs all functions as the worker, until stop is called or the test ends.
func (b bench) work(t *testing.T) (fleet []string, nc *nats.Conn, stop func()) {
	t.Helper()
	world, err := emulator.New(emulator.Options{Desktops: 4, Speed: speed})
	require.NoError(t, err)
	site := httptest.NewServer(world)
	t.Cleanup(site.Close)
	api, err := workspace.New(workspace.Options{
		Endpoint: site.URL, ProjectID: emulator.DefaultProjectID, ReadsPerMinute: -1, WritesPerMinute: -1,
		SignatureWindow: config.SignatureWindow,
		Auth:            workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	require.NoError(t, err)
	nc = b.connect(t, "worker")
	q := b.queue(t, nc)
	require.NoError(t, q.Setup(t.Context(), functions.Routes()))
	store, err := natsledger.New(t.Context(), nc, natsledger.Options{Options: natsstore.Options{Verify: true}})
	require.NoError(t, err)
	require.NoError(t, store.Fit(t.Context(), ""))
	rollouts, err := natsstore.Open(t.Context(), nc, natsstore.Options{Bucket: natsstore.Rollouts, Verify: true})
	require.NoError(t, err)
	c := config.Default()
	c.Pace = speed
	fns := functions.New(c, api, once.Options{
		Store: store, Rollouts: rollouts, Owner: "w1", Safety: safety.New(safety.Options{Operators: &safety.Operators{Store: store.Values()}}),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx, fns) }()
	stop = sync.OnceFunc(func() { cancel(); require.NoError(t, <-ended) })
	t.Cleanup(stop)
	_, err = q.Depth(t.Context())
	require.NoError(t, err)
	require.NoError(t, q.Check(t.Context()))
	return world.DesktopIDs(), nc, stop
}

func TestAChainRunsWithTheseRights(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	fleet, worker, stop := b.work(t)
	operator, reader := b.connect(t, "operator"), b.connect(t, "reader")

	data, err := json.Marshal(events.DesktopToImage{
		ImageName: "golden", DesktopID: fleet[0], ExecuteSysprep: true, Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: fleet[1:]}},
	})
	require.NoError(t, err)
	command := events.Envelope{ID: "c1", Source: "test", Type: events.TypeDesktopToImage, Time: time.Now(), Correlation: "c1", Data: data}
	q := b.queue(t, operator)
	_, err = q.Send(t.Context(), command)
	require.NoError(t, err)
	require.NoError(t, operator.Publish(events.CommandType("getdesktop"), []byte("{")), "it becomes a dead letter or an answer")

	for _, nc := range []*nats.Conn{operator, reader} {
		var published []events.Envelope
		require.NoError(t, b.queue(t, nc).Read(t.Context(), natsqueue.Since{}, true, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
			published = append(published, e)
			return len(events.Open(events.Root{ID: "c1"}, published)) > 0, nil
		}))
		require.Equal(t, events.TypeImagesChecked, published[len(published)-1].Type)
	}
	stop()
	for name, nc := range map[string]*nats.Conn{"worker": worker, "operator": operator, "reader": reader} {
		require.NoError(t, nc.LastError(), name)
	}
}

// operators has what operators have set, as the user of a connection sees it.
func (b bench) operators(t *testing.T, nc *nats.Conn, o natsstore.Options) *safety.Operators {
	t.Helper()
	s, err := natsstore.Open(t.Context(), nc, o)
	require.NoError(t, err)
	return &safety.Operators{Store: s}
}

func TestWhatAnOperatorDoes(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	_, worker, stop := b.work(t)
	operator := b.connect(t, "operator")
	q := b.queue(t, operator)

	own := b.operators(t, operator, natsstore.Options{Direct: true})
	require.NoError(t, own.SetFreeze(t.Context(), safety.Freeze{Reason: "storm"}))
	seen := b.operators(t, worker, natsstore.Options{Verify: true})
	freeze, err := seen.Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "storm", freeze.Reason)
	_, err = own.SetList(t.Context(), safety.AllowList, []string{"d-1"}, "ada")
	require.NoError(t, err)
	require.NoError(t, own.Thaw(t.Context()))
	refused := new(safety.NotAllowed)
	require.ErrorAs(t, safety.New(safety.Options{Operators: seen}).Check(t.Context(), []string{"d-1", "d-2"}), &refused)
	require.Equal(t, []string{"d-2"}, refused.Desktops)
	_, ids, err := own.ListIDs(t.Context(), safety.AllowList)
	require.NoError(t, err)
	require.Equal(t, []string{"d-1"}, ids)
	_, err = own.ClearList(t.Context(), safety.AllowList)
	require.NoError(t, err)

	m := &nats.Msg{Subject: events.TypeRebuild, Data: []byte(`{"specversion":"1.0"}`), Header: nats.Header{"Content-Type": {events.ContentType}}}
	require.NoError(t, operator.PublishMsg(m))
	var letters []queue.Letter
	require.Eventually(t, func() bool {
		letters, err = q.DeadLetters(t.Context(), queue.LetterFilter{})
		return err == nil && len(letters) > 0
	}, 20*time.Second, 10*time.Millisecond)
	whole, err := queue.LettersOf(t.Context(), q, letters[0].ID)
	require.NoError(t, err)
	require.NoError(t, q.Drop(t.Context(), whole[0]))
	stop()
	require.NoError(t, operator.LastError())
	require.NoError(t, worker.LastError())
}

func TestAWaitingUserMayReadTheReason(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	_, worker, stop := b.work(t)
	for _, user := range []string{"operator", "reader"} {
		nc := b.connect(t, user)
		q := b.queue(t, nc)
		require.Eventually(t, func() bool {
			workers, err := q.Workers(t.Context(), "")
			return err == nil && len(workers) == 1 && len(workers[0].Functions) == len(functions.Names())
		}, 20*time.Second, 10*time.Millisecond)
		_, err := q.Entrance(t.Context(), events.FnRebuild)
		require.NoError(t, err)
		require.NoError(t, nc.LastError(), user)
	}

	// Responses are not stored.
	nc := b.connect(t, "reader")
	heard := make(chan *nats.Msg, 10)
	probe := b.connect(t, "worker")
	_, err := probe.ChanSubscribe("_INBOX_worker.probe", heard)
	require.NoError(t, err)
	require.NoError(t, probe.Flush(), "the server knows of it before anything is asked")
	seen, err := natsledger.New(t.Context(), worker, natsledger.Options{Options: natsstore.Options{Verify: true}})
	require.NoError(t, err)
	for _, reply := range []string{"$KV.RECOMPOSE_LEDGER.RECORD", "recompose.event.job.completed.v1", "_INBOX_worker.probe"} {
		require.NoError(t, nc.PublishRequest("recompose.status", reply, nil))
	}
	select {
	case <-heard: // the last one, so the others have been handled
	case <-time.After(20 * time.Second):
		require.Fail(t, "a worker does not answer")
	}
	_, _, err = seen.Get(t.Context(), "RECORD")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, b.queue(t, nc).Read(t.Context(), natsqueue.Since{}, false, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
		require.Fail(t, "an answer is taken for an event", "%v", e)
		return false, nil
	}))
	stop()
	require.NoError(t, worker.LastError())

	// A missing right is named.
	lacking := b.queue(t, b.connect(t, "worker"))
	_, err = lacking.Workers(t.Context(), "")
	var denied *natsqueue.DeniedError
	require.ErrorAs(t, err, &denied)
	require.Equal(t, "publish on recompose.status", denied.Right)
	_, err = lacking.Send(t.Context(), events.Envelope{ID: "c1", Source: "test", Type: events.TypeRebuild, Time: time.Now(), Data: json.RawMessage(`{}`)})
	require.ErrorIs(t, err, natsqueue.ErrNotSent)
	require.ErrorAs(t, err, &denied)
	require.Equal(t, "publish on "+events.TypeRebuild, denied.Right)
	_, err = worker.Request("recompose.event.test", []byte(`{"specversion":"1.0","id":"e","source":"s","type":"t"}`), 10*time.Second)
	require.NoError(t, err)
	err = lacking.Read(t.Context(), natsqueue.Since{}, true, nil)
	require.ErrorAs(t, err, &denied)
	require.Contains(t, denied.Right, "publish on $JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.")

	// An error with another cause does not name a right.
	damaged := errors.New("it is damaged")
	require.Equal(t, damaged, lacking.Denied(damaged, "$JS.API.CONSUMER."))
	require.ErrorAs(t, lacking.Denied(context.DeadlineExceeded, "$JS.API.STREAM.", "$JS.API.CONSUMER."), &denied)
	require.Equal(t, context.DeadlineExceeded, lacking.Denied(context.DeadlineExceeded, "$JS.API.STREAM."))
}

// A user who may send commands may list those that wait.
func TestWhoMayListWaitingCommands(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	sender := b.connect(t, "operator")
	q := b.queue(t, sender)
	_, err := q.Send(t.Context(), events.Envelope{ID: "waits", Source: "test", Type: events.TypeRebuild, Time: time.Now(), Data: json.RawMessage(`{}`)})
	require.NoError(t, err)
	commands, more, err := q.Commands(t.Context(), 10)
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, commands, 1)
	require.Equal(t, "waits", commands[0].ID)
	require.NoError(t, sender.LastError())
	var denied *natsqueue.DeniedError
	_, _, err = b.queue(t, b.connect(t, "reader")).Commands(t.Context(), 10)
	require.ErrorAs(t, err, &denied)
	require.Equal(t, "publish on $JS.API.STREAM.INFO.RECOMPOSE_COMMANDS", denied.Right)
}

// An operator without the inbox of the configuration may publish a command, but gets no response. If the server has
// refused the inbox before, nothing is sent; if not, it is not known whether the command was stored, and it was.
func TestACommandWhoseAnswerCannotComeIsNotReportedAsUnsent(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	require.NoError(t, b.queue(t, b.connect(t, "setup")).Setup(t.Context(), functions.Routes()))
	_, err := natsqueue.Connect(t.Context(), natsqueue.ConnectOptions{URL: b.url, User: "operator", Password: password("operator")})
	require.ErrorAs(t, err, new(*natsqueue.DeniedError))
	require.ErrorContains(t, err, "set NATS_INBOX_PREFIX to the inbox that its permissions name")
	nc, err := nats.Connect(b.url, nats.UserInfo("operator", password("operator"))) // as if the right went after Connect
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	q := b.queue(t, nc)
	send := func(id string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := q.Send(ctx, events.Envelope{ID: id, Source: "test", Type: events.TypeRebuild, Time: time.Now(), Data: json.RawMessage(`{}`)})
		return err
	}
	err = send("c1")
	require.Error(t, err)
	require.NotErrorIs(t, err, natsqueue.ErrNotSent)
	require.ErrorContains(t, err, "NATS_INBOX_PREFIX")
	err = send("c2")
	require.ErrorIs(t, err, natsqueue.ErrNotSent)
	require.ErrorContains(t, err, "NATS_INBOX_PREFIX")
	js, err := jetstream.New(b.connect(t, "setup"))
	require.NoError(t, err)
	s, err := js.Stream(t.Context(), "RECOMPOSE_COMMANDS")
	require.NoError(t, err)
	require.EqualValues(t, 1, s.CachedInfo().State.Msgs)
}

// If the ledger was purged, the worker detects it, and setup accepts the loss.
func TestALossIsFoundAndAcceptedWithTheseRights(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	worker, setup := b.connect(t, "worker"), b.connect(t, "setup")
	open := func(nc *nats.Conn, verify bool) *natsledger.Store {
		s, err := natsledger.New(t.Context(), nc, natsledger.Options{Options: natsstore.Options{Verify: verify}})
		require.NoError(t, err)
		return s
	}
	store, admin := open(worker, true), open(setup, false)
	require.NoError(t, admin.Fit(t.Context(), ""))
	_, err := store.Put(t.Context(), "RECORD", ledger.Record{}, 0)
	require.NoError(t, err)
	require.NoError(t, store.Fit(t.Context(), ""))
	require.NoError(t, admin.Fit(t.Context(), ""))
	_, err = setup.Request("$JS.API.STREAM.PURGE.KV_RECOMPOSE_LEDGER", nil, 5*time.Second)
	require.NoError(t, err)
	for range 2 { // the first that detects it records it, a worker or setup
		require.ErrorIs(t, admin.Fit(t.Context(), ""), ledger.ErrLost)
		require.ErrorIs(t, open(worker, true).Fit(t.Context(), ""), ledger.ErrLost)
	}

	e := events.Envelope{ID: "a", Source: "test", Type: events.TypeLedgerAccepted, Time: time.Now(), Correlation: "a", Data: []byte(`{}`)}
	require.NoError(t, b.queue(t, setup).Publish(t.Context(), e))
	require.NoError(t, admin.Accept(t.Context()))
	require.NoError(t, store.Fit(t.Context(), ""))
	require.NoError(t, worker.LastError())
	require.NoError(t, setup.LastError())
}

// tries lists what a user must not be able to do, as subjects to publish on.
func TestWhatIsRefused(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	ledgerToo := []string{
		"$KV.RECOMPOSE_LEDGER.SOMERECORD", "$KV.RECOMPOSE_LEDGER.job.j1", "$KV.RECOMPOSE_LEDGER.control/service", "$JS.API.STREAM.MSG.GET.KV_RECOMPOSE_LEDGER",
		"$JS.API.DIRECT.GET.KV_RECOMPOSE_LEDGER", "$JS.API.DIRECT.GET.KV_RECOMPOSE_LEDGER.$KV.RECOMPOSE_LEDGER.>",
		"$JS.API.DIRECT.GET.KV_RECOMPOSE_LEDGER.$KV.RECOMPOSE_LEDGER.SOMERECORD", "$JS.API.STREAM.PURGE.KV_RECOMPOSE_LEDGER",
		"$JS.API.STREAM.DELETE.KV_RECOMPOSE_LEDGER", "$JS.API.STREAM.MSG.DELETE.KV_RECOMPOSE_LEDGER", "$JS.API.STREAM.UPDATE.KV_RECOMPOSE_LEDGER",
		"$JS.API.CONSUMER.CREATE.KV_RECOMPOSE_LEDGER.x", "$JS.API.STREAM.SNAPSHOT.KV_RECOMPOSE_LEDGER",
		"$KV.RECOMPOSE_ROLLOUTS.rollouts/live", "$JS.API.STREAM.PURGE.KV_RECOMPOSE_ROLLOUTS", "$JS.API.STREAM.DELETE.KV_RECOMPOSE_ROLLOUTS",
	}
	workersToo := []string{
		"$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_COMMANDS.rebuild", "$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_NEXT.rebuild",
		"$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_EVENTS.rebuild", "$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_EVENTS.watchjob",
		"$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_EVENTS.checkimages", "$JS.API.CONSUMER.MSG.NEXT.RECOMPOSE_EVENTS.rollout",
		"$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.rollout.recompose.event.>", "$JS.API.CONSUMER.DELETE.RECOMPOSE_EVENTS.rollout",
		events.TypeRolloutCompleted,
		"$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.rebuild", "$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.watchjob.recompose.event.>",
		"$JS.API.CONSUMER.DURABLE.CREATE.RECOMPOSE_EVENTS.rebuild", "$JS.API.CONSUMER.DELETE.RECOMPOSE_EVENTS.rebuild",
		"$JS.API.CONSUMER.PAUSE.RECOMPOSE_EVENTS.rebuild", "$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS",
		"$JS.ACK.RECOMPOSE_EVENTS.rebuild.1.1.1.1.0", "recompose.timer.x", "recompose.event.job.completed.v1", events.TypeServiceAccepted,
		"recompose.dead.rebuild",
		"$JS.API.STREAM.PURGE.RECOMPOSE_EVENTS", "$JS.API.STREAM.DELETE.RECOMPOSE_COMMANDS", "$JS.API.STREAM.UPDATE.RECOMPOSE_NEXT",
	}
	for user, refused := range map[string][]string{
		"worker": {
			events.TypeRebuild, events.TypeGetDesktop, events.TypeRolloutStart, events.TypeRolloutApprove, "recompose.command.rebuild.v2", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.DELETE.RECOMPOSE_EVENTS",
			"$JS.API.STREAM.PURGE.RECOMPOSE_NEXT", "$JS.API.STREAM.PURGE.KV_RECOMPOSE_LEDGER", "$JS.API.STREAM.DELETE.KV_RECOMPOSE_LEDGER",
			"$JS.API.STREAM.PURGE.KV_RECOMPOSE_ROLLOUTS", "$JS.API.STREAM.UPDATE.KV_RECOMPOSE_LEDGER", "$JS.API.CONSUMER.CREATE.RECOMPOSE_EVENTS.x", "$JS.API.STREAM.MSG.DELETE.RECOMPOSE_EVENTS",
			"$JS.API.STREAM.MSG.GET.RECOMPOSE_DEAD", "$SYS.REQ.SERVER.PING",
		},
		"operator": append(append([]string{"$SYS.REQ.SERVER.PING"}, ledgerToo...), workersToo...),
		"reader": append(append([]string{
			events.TypeRebuild, events.TypeDesktopToImage, events.TypeGetDesktop, events.TypeRolloutApprove, "recompose.next.rebuild.v1", "recompose.next.rollout.v1", "$KV.RECOMPOSE_LEDGER.freeze",
			"$JS.API.STREAM.INFO.RECOMPOSE_DEAD", "$JS.API.CONSUMER.CREATE.RECOMPOSE_DEAD.x", "$JS.API.STREAM.MSG.GET.RECOMPOSE_DEAD",
			"$JS.API.STREAM.MSG.DELETE.RECOMPOSE_DEAD", "$SYS.REQ.SERVER.PING",
		}, ledgerToo...), workersToo...),
	} {
		for _, subject := range refused {
			nc := b.connect(t, user)
			require.NoError(t, nc.PublishRequest(subject, nc.NewInbox(), []byte(`{}`)))
			require.NoError(t, nc.Flush())
			require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, "%s on %s", user, subject)
			nc.Close()
		}
		for _, subject := range []string{">", "recompose.>", "$KV.>", "_INBOX.>", "_INBOX_worker.>", "_INBOX_operator.>", "_INBOX_reader.>", "$JS.API.>", "$SYS.>"} {
			if subject == "_INBOX_"+user+".>" {
				continue
			}
			nc := b.connect(t, user)
			_, err := nc.SubscribeSync(subject)
			require.NoError(t, err)
			require.NoError(t, nc.Flush())
			require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, "%s listens on %s", user, subject)
			nc.Close()
		}
	}
}
