package safety_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/embednats"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store"
	"recompose/shared/store/natsstore"
	"recompose/shared/testkit/dynamotest"
	"recompose/shared/testkit/natstest"
)

// then is the time at which the previous version stored the files in testdata.
var then = time.Date(2026, 10, 1, 8, 0, 0, 0, time.UTC)

const recordKey = "z4a7mryiuyaysjym2erqytmo47dgtehnem75utwic5mh25t7xmfa"

func load(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

// TestUpgradeOfATable starts with a table of the previous version: writes are frozen, both lists are set, the key is
// refused, and a job is running.
func TestUpgradeOfATable(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	load(t, "table.json", &f.Items)
	require.Len(t, f.Items, 10)
	l, err := dynamoledger.New(dynamoledger.Options{Options: dynamoOptions(f)})
	require.NoError(t, err)
	s := l.Values()
	o := &safety.Operators{Store: s, Older: true}
	upgraded(t, l, s, o)

	lists := map[safety.ListName][]string{safety.AllowList: {"d-1", "d-2", "d-3"}, safety.DenyList: {"d-3"}}
	for name, want := range lists {
		l, ids, err := o.ListIDs(t.Context(), name)
		require.NoError(t, err)
		require.Equal(t, want, ids)
		require.Equal(t, then, l.At)
	}
	refusedKey(t, s)
	require.NoError(t, o.Thaw(t.Context()))
	ids := []string{"d-1", "D-3", "d-3", "d-4"}
	requireRefused(t, o, ids, "D-3", "d-3", "d-4")
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
	require.NoError(t, o.Thaw(t.Context()))
	requireRefused(t, &safety.Operators{Store: s, Older: true}, ids, "D-3", "d-3", "d-4")

	c := set(t, o, safety.DenyList, "d-1")
	require.Equal(t, "bob@host", c.Before.By)
	requireRefused(t, o, ids, "d-1", "D-3", "d-4")
	c = set(t, o, safety.AllowList, "d-4")
	require.Equal(t, "ada@host", c.Before.By)
	requireRefused(t, o, ids, "d-1", "D-3", "d-3")
	worksOn(t, l, o)
	require.Equal(t, []string{
		"allow", "breaker", "control/service", "deny", "epoch", "freeze", "job/j1", "lists.allow.*.0", "lists.deny.*.0", recordKey,
	}, keys(f))
	require.NotContains(t, f.Items["freeze"], "expires")
	require.NotContains(t, f.Items["breaker"], "expires")
	require.Contains(t, f.Items[recordKey], "expires")
	clearList(t, o, safety.AllowList)
	clearList(t, o, safety.DenyList)
	requireRefused(t, o, ids)
}

// TestUpgradeOfABucket does the same with a bucket on NATS, whose values have no digest.
func TestUpgradeOfABucket(t *testing.T) {
	t.Parallel()
	nc := natstest.Start(t, embednats.Options{}).Conn
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	const bucket = "test_RECOMPOSE_LEDGER"
	config := jetstream.KeyValueConfig{Bucket: bucket, History: 1, Storage: jetstream.FileStorage}
	_, err = js.CreateKeyValue(t.Context(), config)
	require.NoError(t, err)
	var values map[string]string
	load(t, "bucket.json", &values)
	require.Len(t, values, 4)
	for key, value := range values {
		_, err = js.Publish(t.Context(), "$KV."+bucket+"."+key, []byte(value))
		require.NoError(t, err)
	}
	l, err := natsledger.New(t.Context(), nc, natsledger.Options{Options: natsstore.Options{Deployment: "test"}})
	require.NoError(t, err)
	s := l.Values()
	o := &safety.Operators{Store: s}
	upgraded(t, l, s, o)

	require.NoError(t, o.Thaw(t.Context()))
	ids := []string{"d-1", "d-4"}
	requireRefused(t, o, ids)
	set(t, o, safety.DenyList, "d-1")
	set(t, o, safety.AllowList, "d-1")
	requireRefused(t, o, ids, "d-1", "d-4")
	require.NoError(t, l.Fit(t.Context(), l.Epoch()), "pages of lists are not lost records")
	worksOn(t, l, o)
	clearList(t, o, safety.AllowList)
	clearList(t, o, safety.DenyList)
	requireRefused(t, o, ids)
	require.NoError(t, l.Fit(t.Context(), l.Epoch()), "removed pages are not lost records")
	later, err := natsledger.New(t.Context(), nc, natsledger.Options{Options: natsstore.Options{Deployment: "test"}})
	require.NoError(t, err)
	require.NoError(t, later.Fit(t.Context(), l.Epoch()))
}

// upgraded checks what both upgrades have in common.
func upgraded(t *testing.T, l ledger.Store, s store.Store, o *safety.Operators) {
	t.Helper()
	freeze := &safety.Freeze{Reason: "ticket 4711", By: "ada@host", At: then}
	requireFrozen(t, o, freeze)
	_, err := check(t, o, "d-1")
	requireStop(t, err, safety.Frozen, "writes are frozen by ada@host: ticket 4711")

	require.NoError(t, l.Fit(t.Context(), ""))
	r, _, err := l.Get(t.Context(), recordKey)
	require.NoError(t, err)
	require.Equal(t, ledger.Record{
		Digest: "d", Fence: 1, Owner: "w1", JobID: "j1", Accepted: then, Detail: ledger.Detail{DesktopIDs: []string{"d-1"}},
	}, r)
	r, _, err = l.Get(t.Context(), "job/j1")
	require.NoError(t, err)
	require.Equal(t, ledger.Record{Digest: "d", Fence: 1, Owner: recordKey}, r)

	recorded, _, err := service.Read(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, own, recorded.Service)
	require.Equal(t, "ada@host", recorded.By)
	require.NotEmpty(t, recorded.Accepted.ID)
}

// refusedKey requires that the key stays refused until a probe shows that the service accepts it.
func refusedKey(t *testing.T, s store.Store) {
	t.Helper()
	at, calls := then.Add(30*time.Second), 0
	k := safety.NewKey(safety.KeyOptions{
		Store: s, By: "w2", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return at },
		Credentials: &credential{current: "key", secret: &secret{text: "key"}},
		Probe:       func(context.Context) error { calls++; return nil },
	})
	write := safety.New(safety.Options{Key: k})
	refusal := &safety.Refusal{Reason: "401", By: "w1", At: then}
	state, err := k.Refusal(t.Context())
	require.NoError(t, err)
	require.Equal(t, refusal, state)
	requireStop(t, write.Check(t.Context(), nil), safety.KeyRefused, "since 2026-10-01T08:00:00Z: 401")
	require.Equal(t, refusal, k.Check(t.Context()))
	require.Zero(t, calls, "no probe before its time")
	at = then.Add(time.Minute)
	require.NoError(t, k.Check(t.Context()))
	require.Equal(t, 1, calls)
	require.NoError(t, write.Check(t.Context(), nil))
}

// worksOn changes the existing values, as this version does.
func worksOn(t *testing.T, l ledger.Store, o *safety.Operators) {
	t.Helper()
	freeze := safety.Freeze{Reason: "storm", By: "bob@host", At: now}
	require.NoError(t, o.SetFreeze(t.Context(), freeze))
	requireFrozen(t, o, &freeze)
	r, rev, err := l.Get(t.Context(), recordKey)
	require.NoError(t, err)
	r.Progress = 50
	_, err = l.Put(t.Context(), recordKey, r, 0)
	require.ErrorIs(t, err, store.ErrConflict, "the value exists")
	_, err = l.Put(t.Context(), recordKey, r, rev)
	require.NoError(t, err)
	_, err = l.Put(t.Context(), recordKey, r, rev)
	require.ErrorIs(t, err, store.ErrConflict)
	changed, _, err := l.Get(t.Context(), recordKey)
	require.NoError(t, err)
	require.Equal(t, r, changed)
	to := events.Service{Kind: events.ServiceReal, Host: "w.example.org", Project: "p2"}
	accepted, err := service.Accept(t.Context(), o.Store, to, "bob@host", now)
	require.NoError(t, err)
	require.Equal(t, own, *accepted.Accepted.Before)
	require.NoError(t, o.Thaw(t.Context()))
	requireFrozen(t, o, nil)
	require.NoError(t, l.Fit(t.Context(), ""))
}
