package dynamoledger_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/store"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/dynamotest"
	"recompose/shared/testkit/ledgertest"
)

var (
	key = events.Identity("dynamoledger", "1")
	now = time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
)

// place is a DynamoDB with one table.
type place struct{ *dynamotest.Fake }

func start(t *testing.T) place { return place{dynamotest.Start(t)} }

func (p place) Open(t *testing.T) ledger.Store { return p.open(t, dynamoledger.Options{}) }

func (p place) open(t *testing.T, o dynamoledger.Options) *dynamoledger.Store {
	o.Config, o.Table = p.Config(), "ledger"
	s, err := dynamoledger.New(o)
	require.NoError(t, err)
	return s
}

func TestConformance(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Stores { return start(t) })
}

func TestRecordsExpireAfter400DaysAndOtherValuesNever(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.open(t, dynamoledger.Options{Options: dynamostore.Options{Now: func() time.Time { return now }}})
	_, err := s.Put(t.Context(), key, ledger.Record{}, 0)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(now.AddDate(0, 0, 400).Unix()), f.Items[key]["expires"]["N"])
	require.NoError(t, s.Fit(t.Context(), ""))
	for _, k := range []string{"freeze", "breaker"} {
		_, err := s.Values().Put(t.Context(), k, []byte("{}"), 0)
		require.NoError(t, err)
	}
	for _, k := range []string{"freeze", "breaker", "epoch"} {
		require.NotEmpty(t, f.Items[k])
		require.NotContains(t, f.Items[k], "expires", k)
	}
}

func TestAPutWhoseAnswerWasLostDoesNotConflictWithItself(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.open(t, dynamoledger.Options{})
	old := store.Revision(0)
	for n := range uint64(3) {
		f.Lose = 1
		rev, err := s.Put(t.Context(), key, ledger.Record{Fence: n}, old)
		require.NoError(t, err)
		require.Greater(t, rev, old)
		old = rev
	}
	require.Equal(t, []string{"PutItem", "PutItem", "GetItem"}, f.Calls[:3], "the SDK retries the put")
	_, err := s.Put(t.Context(), key, ledger.Record{Fence: 2}, old-1)
	require.ErrorIs(t, err, store.ErrConflict, "the same record by another process is a conflict")
}

func TestTooLargeARecordNamesTheLimit(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.open(t, dynamoledger.Options{})
	r := ledger.Record{Detail: ledger.Detail{RequestID: strings.Repeat("x", 400<<10)}}
	_, err := s.Put(t.Context(), key, r, 0)
	require.ErrorContains(t, err, "DynamoDB's limit is 400 KB")
	require.NotErrorIs(t, err, store.ErrConflict)
	require.Empty(t, f.Calls)
}

func TestAValueThatIsNotARecordIsNeitherAbsentNorEmpty(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		`{"Item": {"pk": {"S": "k"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "0"}, "data": {"S": "{}"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "x"}, "data": {"S": "{}"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "1"}, "data": {"S": "{"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "1"}, "data": {"N": "1"}}}`,
	} {
		f := start(t)
		f.Answer = answer
		s := f.open(t, dynamoledger.Options{})
		_, _, err := s.Get(t.Context(), key)
		require.ErrorIs(t, err, store.ErrDamaged, answer)
		require.NotErrorIs(t, err, store.ErrNotFound)
		err = s.Fit(t.Context(), "")
		require.ErrorIs(t, err, ledger.ErrLost, answer)
	}
}

func TestNoAnswerIsNeitherConflictNorAbsence(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.open(t, dynamoledger.Options{})
	f.Close()
	_, _, err := s.Get(t.Context(), key)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound)
	_, err = s.Put(t.Context(), key, ledger.Record{}, 0)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
	err = s.Fit(t.Context(), "")
	require.Error(t, err)
	require.NotErrorIs(t, err, ledger.ErrLost)
}

func TestATransientFailureIsRetried(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.open(t, dynamoledger.Options{})
	f.Fail = 1
	_, err := s.Put(t.Context(), key, ledger.Record{}, 0)
	require.NoError(t, err)
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := dynamoledger.New(dynamoledger.Options{})
	for _, what := range []string{"table", "region", "credentials"} {
		require.ErrorContains(t, err, what)
	}
}
