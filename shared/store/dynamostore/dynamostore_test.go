package dynamostore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/dynamotest"
	"recompose/shared/testkit/storetest"
)

const key = "control/test"

var now = time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)

func open(t *testing.T, f *dynamotest.Fake, o dynamostore.Options) *dynamostore.Store {
	o.Config, o.Table = f.Config(), "ledger"
	s, err := dynamostore.New(o)
	require.NoError(t, err)
	return s
}

type place struct{ f *dynamotest.Fake }

func (p place) Open(t *testing.T) store.Store { return open(t, p.f, dynamostore.Options{}) }

func (p place) Foreign(_ *testing.T, key string) []func() {
	var puts []func()
	for _, i := range []dynamotest.Item{
		{},
		{"rev": {"N": "0"}, "data": {"S": "{}"}},
		{"rev": {"N": "1.5"}, "data": {"S": "{}"}, "put": {"S": "p"}},
		{"rev": {"S": "1"}, "data": {"S": "{}"}},
		{"rev": {"N": "1"}, "data": {"N": "1"}},
		{"rev": {"N": "1"}},
	} {
		i["pk"] = map[string]string{"S": key}
		puts = append(puts, func() { p.f.Items[key] = i })
	}
	return puts
}

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place { return place{dynamotest.Start(t)} })
}

func TestOnlyValuesOfPutUntilExpire(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	s := open(t, f, dynamostore.Options{})
	_, err := s.PutUntil(t.Context(), "record", []byte("{}"), 0, now.AddDate(0, 0, 400))
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(now.AddDate(0, 0, 400).Unix()), f.Items["record"]["expires"]["N"])
	_, err = s.Put(t.Context(), "freeze", []byte("{}"), 0)
	require.NoError(t, err)
	require.NotContains(t, f.Items["freeze"], "expires")
}

func TestAWriteWhoseAnswerWasLostDoesNotConflictWithItself(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	s := open(t, f, dynamostore.Options{})
	old := store.Revision(0)
	for n := range 3 {
		f.Lose = 1
		rev, err := s.Put(t.Context(), key, fmt.Appendf(nil, `{"n":%d}`, n), old)
		require.NoError(t, err)
		require.Greater(t, rev, old)
		old = rev
	}
	require.Equal(t, []string{"PutItem", "PutItem", "GetItem"}, f.Calls[:3], "the SDK retries the put")
	_, err := s.Put(t.Context(), key, []byte(`{"n":2}`), old-1)
	require.ErrorIs(t, err, store.ErrConflict, "the same value by another process is a conflict")
	f.Lose = 1
	require.NoError(t, s.Delete(t.Context(), key, old))
	require.Empty(t, f.Items)
}

func TestARevisionOfADeletedValueIsNotReused(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	at := now
	s := open(t, f, dynamostore.Options{Now: func() time.Time { at = at.Add(time.Millisecond); return at }})
	first, err := s.Put(t.Context(), key, []byte(`{"n":1}`), 0)
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), key, first))
	_, err = s.Put(t.Context(), key, []byte(`{"n":2}`), 0)
	require.NoError(t, err)
	_, err = s.Put(t.Context(), key, []byte(`{"n":3}`), first)
	require.ErrorIs(t, err, store.ErrConflict)
}

func TestTooLargeAValueNamesTheLimit(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	_, err := open(t, f, dynamostore.Options{}).Put(t.Context(), key, []byte(strings.Repeat("x", 400<<10)), 0)
	require.ErrorContains(t, err, "DynamoDB's limit is 400 KB")
	require.NotErrorIs(t, err, store.ErrConflict)
	require.Empty(t, f.Calls)
}

func TestNoAnswerIsNeitherConflictNorAbsence(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	s := open(t, f, dynamostore.Options{})
	f.Close()
	_, _, err := s.Get(t.Context(), key)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound)
	_, err = s.Put(t.Context(), key, []byte("{}"), 0)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
	err = s.Delete(t.Context(), key, 1)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
}

func TestATransientFailureIsRetried(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	f.Fail = 1
	_, err := open(t, f, dynamostore.Options{}).Put(t.Context(), key, []byte("{}"), 0)
	require.NoError(t, err)
}

func TestTheTableHasAnID(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	id, err := open(t, f, dynamostore.Options{}).TableID(t.Context())
	require.NoError(t, err)
	require.Equal(t, "t1", id)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := dynamostore.New(dynamostore.Options{})
	for _, what := range []string{"table", "region", "credentials"} {
		require.ErrorContains(t, err, what)
	}
}

func TestSeveralValuesAreOneCall(t *testing.T) {
	t.Parallel()
	f := dynamotest.Start(t)
	s := open(t, f, dynamostore.Options{})
	for _, key := range []string{"a", "b"} {
		_, err := s.Put(t.Context(), key, []byte(`{"key":"`+key+`"}`), 0)
		require.NoError(t, err)
	}
	f.Calls = nil
	got := s.GetAll(t.Context(), "b", "none", "a")
	require.Equal(t, []string{"BatchGetItem"}, f.Calls)
	require.Equal(t, `{"key":"b"}`, string(got[0].Data))
	require.ErrorIs(t, got[1].Err, store.ErrNotFound)
	require.Equal(t, `{"key":"a"}`, string(got[2].Data))

	f.Leave = "a"
	got = s.GetAll(t.Context(), "b", "none", "a")
	require.Equal(t, `{"key":"a"}`, string(got[2].Data), "an unprocessed key is not absent")
	require.ErrorIs(t, got[1].Err, store.ErrNotFound)
	f.Fail = 100
	for _, v := range s.GetAll(t.Context(), "b", "none", "a") {
		require.Error(t, v.Err)
		require.NotErrorIs(t, v.Err, store.ErrNotFound)
		require.Nil(t, v.Data)
	}
}
