package natsledger_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/natstest"
)

const bucketStream = "KV_test_RECOMPOSE_LEDGER"

// worker is a worker's store, and its log.
type worker struct {
	*natsledger.Store
	t   *testing.T
	js  jetstream.JetStream
	log *bytes.Buffer
}

func (p *place) worker(t *testing.T, o natsledger.Options) *worker {
	t.Helper()
	w := &worker{t: t, js: p.events(t), log: &bytes.Buffer{}}
	o.Deployment, o.Worker, o.Log = "test", "w1", slog.New(slog.NewTextHandler(w.log, nil))
	var err error
	w.Store, err = natsledger.New(t.Context(), p.Conn, o)
	require.NoError(t, err)
	return w
}

func recordKey(i int) string { return events.Identity("epoch", fmt.Sprint(i)) }

// works puts some records and publishes an event after each, as a worker does.
func (w *worker) works(from, to int) {
	w.t.Helper()
	for i := from; i < to; i++ {
		rev, err := w.Put(w.t.Context(), recordKey(i), ledger.Record{Owner: "a"}, 0)
		require.NoError(w.t, err)
		_, err = w.Put(w.t.Context(), recordKey(i), ledger.Record{Owner: "b"}, rev)
		require.NoError(w.t, err)
		w.publishes()
	}
}

func (w *worker) publishes() {
	w.t.Helper()
	m := &nats.Msg{Subject: "test.recompose.event.x.v1", Data: []byte("{}"), Header: nats.Header{}}
	for name, value := range w.Stamp() {
		m.Header.Set(name, value)
	}
	_, err := w.js.PublishMsg(w.t.Context(), m)
	require.NoError(w.t, err)
}

func (w *worker) fits() {
	w.t.Helper()
	require.NoError(w.t, w.Fit(w.t.Context(), ""))
	require.NotContains(w.t, w.log.String(), "level=ERROR")
}

// lost requires that no write begins, and that the log shows the reason and the way out, once.
func (w *worker) lost(why string) {
	w.t.Helper()
	for range 2 {
		err := w.Fit(w.t.Context(), "")
		require.ErrorIs(w.t, err, ledger.ErrLost)
		require.ErrorContains(w.t, err, why)
	}
	require.Equal(w.t, 1, strings.Count(w.log.String(), "level=ERROR"), w.log.String())
	require.Contains(w.t, w.log.String(), "recompose setup --accept-ledger-loss")
}

func (w *worker) accepts() {
	w.t.Helper()
	w.publishes()
	require.NoError(w.t, w.Accept(w.t.Context()))
}

func (w *worker) metadata() string {
	w.t.Helper()
	s, err := w.js.Stream(w.t.Context(), "test_RECOMPOSE_EVENTS")
	require.NoError(w.t, err)
	return s.CachedInfo().Config.Metadata["recompose-ledger"]
}

// accepted puts the record of an accepted job, and publishes the event, as a worker does.
func (w *worker) accepted(id string) {
	w.t.Helper()
	key := events.Identity("test", id)
	rev, err := w.Put(w.t.Context(), key, ledger.Record{Owner: "a"}, 0)
	require.NoError(w.t, err)
	_, err = w.Put(w.t.Context(), key, ledger.Record{Owner: "a", JobID: "job-" + id}, rev)
	require.NoError(w.t, err)
	body := fmt.Sprintf(`{"type":%q,"data":{"job_id":"job-%s","command":{"id":%q,"source":"test"}}}`, events.TypeJobAccepted, id, id)
	m := &nats.Msg{Subject: "test." + events.TypeJobAccepted, Data: []byte(body), Header: nats.Header{}}
	for name, value := range w.Stamp() {
		m.Header.Set(name, value)
	}
	_, err = w.js.PublishMsg(w.t.Context(), m)
	require.NoError(w.t, err)
}

// The values of operators, set after an older copy was restored, must not make up for missing records.
func TestValuesOfOperatorsHideNoLoss(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(w *worker, kv jetstream.KeyValue){
		"a record is purged": func(w *worker, kv jetstream.KeyValue) {
			s, err := w.js.Stream(t.Context(), bucketStream)
			require.NoError(t, err)
			require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.test_RECOMPOSE_LEDGER."+recordKey(1))))
		},
		"a record is older than its job": func(w *worker, kv jetstream.KeyValue) {
			key := events.Identity("test", "j")
			_, rev, err := w.Get(t.Context(), key)
			require.NoError(t, err)
			_, err = w.Put(t.Context(), key, ledger.Record{Owner: "a"}, rev)
			require.NoError(t, err)
		},
	} {
		for _, far := range []int{0, 40} { // events after that of the job
			t.Run(fmt.Sprint(name, ", ", far), func(t *testing.T) {
				t.Parallel()
				p := setup(t)
				a := p.worker(t, natsledger.Options{})
				a.fits()
				a.works(0, 3)
				a.accepted("j")
				for range far {
					a.publishes()
				}
				kv, err := a.js.KeyValue(t.Context(), "test_RECOMPOSE_LEDGER")
				require.NoError(t, err)
				harm(a, kv)
				for n := range 20 {
					_, err = kv.Put(t.Context(), fmt.Sprint("lists.deny.G.", n), []byte("[]"))
					require.NoError(t, err)
				}
				p.worker(t, natsledger.Options{}).lost("")
			})
		}
	}
}

func TestAFirstStartAndAnUpgradeFit(t *testing.T) {
	t.Parallel()
	p := setup(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	require.NotEmpty(t, a.metadata(), "the epoch is stored outside of the bucket")
	a.works(0, 3)
	b := p.worker(t, natsledger.Options{})
	b.fits()
	require.Equal(t, a.Epoch(), b.Epoch())
	require.Equal(t, a.Stamp(), b.Stamp())

	// The state of an older version: records, events without headers, and no metadata.
	require.NoError(t, a.js.DeleteStream(t.Context(), "test_RECOMPOSE_EVENTS"))
	p.events(t)
	_, err := a.js.Publish(t.Context(), "test.recompose.event.x.v1", []byte("{}"))
	require.NoError(t, err)
	c := p.worker(t, natsledger.Options{})
	c.fits()
	require.NotEmpty(t, c.metadata())
}

func TestAWorkerThatMayNotCreateFitsAndFindsALoss(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.worker(t, natsledger.Options{}) // as older versions of recompose setup leave it
	a := p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}})
	a.fits()
	a.works(0, 3)
	require.Empty(t, a.metadata())
	require.NoError(t, a.js.DeleteStream(t.Context(), bucketStream))
	p.worker(t, natsledger.Options{Options: natsstore.Options{Mend: true}})
	b := p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}})
	b.lost("it was created at")
	a.lost("it was created at")
}

// The worker's own knowledge counts if no event has any.
func TestABucketRecreatedUnderAWorkerThatHasPublishedNothing(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.worker(t, natsledger.Options{})
	a := p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}})
	a.fits()
	require.NoError(t, a.js.DeleteStream(t.Context(), bucketStream))
	require.ErrorContains(t, a.Fit(t.Context(), ""), "it does not exist")
	p.worker(t, natsledger.Options{})
	require.ErrorContains(t, a.Fit(t.Context(), ""), "it was created at")
}

// A change of a bucket under running workers is found before the next write, and by a worker that starts later.
func TestABucketThatLosesRecordsWhileWorkersRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		why  string
		harm func(t *testing.T, js jetstream.JetStream, s jetstream.Stream)
	}{
		"purged": {"it has 0 records and had 5", func(t *testing.T, _ jetstream.JetStream, s jetstream.Stream) {
			require.NoError(t, s.Purge(t.Context()))
		}},
		"a record purged": {"it has 4 records and had 5", func(t *testing.T, _ jetstream.JetStream, s jetstream.Stream) {
			require.NoError(t, s.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.test_RECOMPOSE_LEDGER."+recordKey(2))))
		}},
		"deleted": {"it does not exist", func(t *testing.T, js jetstream.JetStream, _ jetstream.Stream) {
			require.NoError(t, js.DeleteStream(t.Context(), bucketStream))
		}},
		"recreated": {"it was created at", func(t *testing.T, js jetstream.JetStream, s jetstream.Stream) {
			require.NoError(t, js.DeleteStream(t.Context(), bucketStream))
			_, err := js.CreateStream(t.Context(), s.CachedInfo().Config)
			require.NoError(t, err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setup(t)
			a := p.worker(t, natsledger.Options{})
			a.fits()
			a.works(0, 5)
			s, err := a.js.Stream(t.Context(), bucketStream)
			require.NoError(t, err)
			c.harm(t, a.js, s)
			a.lost(c.why)
			why := c.why
			if name == "deleted" {
				why = "it was created at" // by the worker that starts
			}
			p.worker(t, natsledger.Options{}).lost(why)
		})
	}
}

// Puts after a loss must not hide it: not by their number, and not after a restart.
func TestALossIsKeptUntilItIsAccepted(t *testing.T) {
	t.Parallel()
	p := setup(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	a.works(0, 5)
	s, err := a.js.Stream(t.Context(), bucketStream)
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	a.lost("it has 0 records and had 5")
	a.works(10, 30) // ends of running jobs
	a.lost("it has 0 records and had 5")
	old := a.Epoch()
	b := p.worker(t, natsledger.Options{})
	b.lost("it has 0 records and had 5")
	p.Restart(t)
	c := p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}})
	c.lost("it has 0 records and had 5")

	d := p.worker(t, natsledger.Options{Options: natsstore.Options{Mend: true}})
	d.lost("it has 0 records and had 5")
	d.accepts()
	require.NoError(t, c.Fit(t.Context(), ""), "a running worker finds the new epoch")
	require.Contains(t, c.log.String(), "the ledger is complete; writes may begin")
	require.NotEqual(t, old, c.Epoch())
	require.NoError(t, c.Fit(t.Context(), old), "a message of the epoch that has ended")
	c.works(30, 32)
	e := p.worker(t, natsledger.Options{})
	e.fits()
	require.ErrorIs(t, e.Fit(t.Context(), "2026-01-01T00:00:00Z/7"), ledger.ErrLost, "a message of an unknown ledger")
	e.lost("a message carries the epoch")
	e.accepts()
	require.NoError(t, e.Fit(t.Context(), "2026-01-01T00:00:00Z/7"))
}

func TestARecordThatIsMissing(t *testing.T) {
	t.Parallel()
	p := setup(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	a.works(0, 1)
	old := a.Epoch()
	_, err := a.Put(t.Context(), key, ledger.Record{JobID: "j1"}, 0)
	require.NoError(t, err)
	require.NoError(t, a.Missing(t.Context(), key, old), "the record exists")
	a.fits()
	require.ErrorIs(t, a.Missing(t.Context(), recordKey(1), old), ledger.ErrLost)
	p.worker(t, natsledger.Options{}).lost("it has no record " + recordKey(1))
	a.accepts()
	require.NoError(t, a.Missing(t.Context(), recordKey(1), old), "its loss was accepted")
	require.NoError(t, a.Missing(t.Context(), recordKey(1), ""), "so was the loss of events published before there were epochs")
	require.NoError(t, a.Fit(t.Context(), ""))
	require.ErrorIs(t, a.Missing(t.Context(), recordKey(1), a.Epoch()), ledger.ErrLost)
}

func TestADamagedEpochStopsWritesAndCanBeAccepted(t *testing.T) {
	t.Parallel()
	p := setup(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	s, err := a.js.Stream(t.Context(), "test_RECOMPOSE_EVENTS")
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.Metadata["recompose-ledger"] = "{"
	_, err = a.js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	b := p.worker(t, natsledger.Options{})
	b.lost("is damaged")
	b.accepts()
	require.NoError(t, b.Fit(t.Context(), ""))

	_, err = a.js.Publish(t.Context(), "$KV.test_RECOMPOSE_LEDGER.lost", []byte("{"))
	require.NoError(t, err)
	d := p.worker(t, natsledger.Options{})
	d.lost("its key lost is damaged")
	d.accepts()
	require.NoError(t, d.Fit(t.Context(), ""))
}

// A server returns with an older copy under a running worker: the put that shows this is not followed by a write,
// whatever is stored after it.
func TestAnOlderCopyUnderAWorkerThatRuns(t *testing.T) {
	t.Parallel()
	dir, older := t.TempDir(), filepath.Join(t.TempDir(), "older")
	folder := filepath.Join(dir, "jetstream", "$G", "streams", bucketStream)
	serve := func(at string) *embednats.Server {
		s, err := embednats.Start(embednats.Options{StoreDir: dir, Listen: at})
		require.NoError(t, err)
		return s
	}
	first := serve("127.0.0.1:0")
	at := strings.TrimPrefix(first.ClientURL(), "nats://")
	nc, err := nats.Connect(first.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	require.NoError(t, err)
	defer nc.Close()
	p := &place{&natstest.NATS{Dir: dir, Conn: nc}}
	a := p.worker(t, natsledger.Options{})
	a.fits()
	change := func(rev store.Revision, times int) store.Revision {
		for range times {
			rev, err = a.Put(t.Context(), key, ledger.Record{}, rev)
			require.NoError(t, err)
		}
		return rev
	}
	rev := change(0, 5)
	require.NoError(t, first.Close())
	require.NoError(t, os.CopyFS(older, os.DirFS(folder)))
	second := serve(at)
	wait := func() {
		require.Eventually(t, func() bool {
			_, err := a.js.Stream(t.Context(), bucketStream)
			return err == nil
		}, 20*time.Second, 10*time.Millisecond, "the client does not reconnect")
	}
	wait()
	change(rev, 5)
	require.NoError(t, second.Close())
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.CopyFS(folder, os.DirFS(older)))
	third := serve(at)
	defer func() { require.NoError(t, third.Close()) }()
	wait()
	change(rev, 20) // without a comparison: the second half is above all seen sequences
	a.lost("after number")
	p.worker(t, natsledger.Options{}).lost("after number")
}

// An older copy can have the same number of records, in earlier states.
func TestAnOlderCopyWithAsManyRecords(t *testing.T) {
	t.Parallel()
	p := setup(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	a.works(0, 3)
	_, rev, err := a.Get(t.Context(), recordKey(2))
	require.NoError(t, err)
	folder, older := filepath.Join(p.Dir, "jetstream", "$G", "streams", bucketStream), filepath.Join(t.TempDir(), "older")
	p.Stop(t)
	require.NoError(t, os.CopyFS(older, os.DirFS(folder)))
	p.Start(t)
	b := p.worker(t, natsledger.Options{})
	b.fits()
	_, err = b.Put(t.Context(), recordKey(2), ledger.Record{JobID: "j1"}, rev)
	require.NoError(t, err)
	b.publishes()
	p.Stop(t)
	require.NoError(t, os.RemoveAll(folder))
	require.NoError(t, os.CopyFS(folder, os.DirFS(older)))
	p.Start(t)
	p.worker(t, natsledger.Options{}).lost("its highest sequence is 6 and was 7: it was cut, or is an older copy")
}

// Damage to files that the server has not read yet shows only when a record is read, which is before its command
// writes.
func TestDamageThatTheServerFindsLate(t *testing.T) {
	t.Parallel()
	p := setup(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	const records = 60 // several files
	for i := range records {
		_, err := a.Put(t.Context(), recordKey(i), ledger.Record{Owner: strings.Repeat("x", 400_000)}, 0)
		require.NoError(t, err)
		a.publishes()
	}
	p.Stop(t)
	files, err := filepath.Glob(filepath.Join(p.Dir, "jetstream", "$G", "streams", bucketStream, "msgs", "*.blk"))
	require.NoError(t, err)
	require.Greater(t, len(files), 1)
	content, err := os.ReadFile(files[0])
	require.NoError(t, err)
	for i := len(content) / 4; i < len(content)*3/4; i++ {
		content[i] ^= 0x5a
	}
	require.NoError(t, os.WriteFile(files[0], content, 0o600))
	p.Start(t)
	b := p.worker(t, natsledger.Options{})
	done := 0
	for i := range records {
		_, _, get := b.Get(t.Context(), recordKey(i))
		if get == nil {
			done++
			continue
		}
		if _, err := b.Put(t.Context(), recordKey(i), ledger.Record{}, 0); err == nil { // the claim
			require.ErrorIs(t, b.Fit(t.Context(), ""), ledger.ErrLost, "record %d: %v", i, get)
		}
	}
	require.Less(t, done, records, "no record is damaged")
	b.lost("")
}
