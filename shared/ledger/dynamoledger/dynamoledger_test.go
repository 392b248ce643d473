package dynamoledger_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/testkit/ledgertest"
)

var (
	key = events.Identity("dynamoledger", "1")
	now = time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
)

func (f *fake) Open(t *testing.T) ledger.Store { return f.open(t, dynamoledger.Options{}) }

func (f *fake) open(t *testing.T, o dynamoledger.Options) *dynamoledger.Store {
	o.Table, o.Region, o.Endpoint, o.Credentials = "ledger", "eu-central-1", f.URL, credentials()
	s, err := dynamoledger.New(t.Context(), o)
	require.NoError(t, err)
	return s
}

func credentials() aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
	})
}

func TestConformance(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Stores { return startFake(t) })
}

func TestRecordsExpireAfter400DaysAndSwitchesNever(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	s := f.open(t, dynamoledger.Options{Now: func() time.Time { return now }})
	_, err := s.Put(t.Context(), key, ledger.Record{}, 0)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprint(now.AddDate(0, 0, 400).Unix()), f.items[key]["expires"]["N"])
	require.NoError(t, s.SetFreeze(t.Context(), ledger.Freeze{}))
	require.NoError(t, s.OpenBreaker(t.Context(), dynamoledger.Break{At: now}))
	for _, k := range []string{"freeze", "breaker"} {
		require.NotEmpty(t, f.items[k])
		require.NotContains(t, f.items[k], "expires", k)
	}
}

func TestAPutWhoseAnswerWasLostIsNoConflictWithItself(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	s := f.open(t, dynamoledger.Options{})
	for old := range store.Revision(3) {
		f.lose = 1
		rev, err := s.Put(t.Context(), key, ledger.Record{Fence: uint64(old)}, old)
		require.NoError(t, err)
		require.Equal(t, old+1, rev)
	}
	require.Equal(t, []string{"PutItem", "PutItem", "GetItem"}, f.calls[:3], "the SDK sends it again")
	_, err := s.Put(t.Context(), key, ledger.Record{Fence: 2}, 2)
	require.ErrorIs(t, err, store.ErrConflict, "the same record of somebody else is one")
}

func TestTooLargeARecordNamesTheLimit(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	s := f.open(t, dynamoledger.Options{})
	r := ledger.Record{Detail: ledger.Detail{RequestID: strings.Repeat("x", 400<<10)}}
	_, err := s.Put(t.Context(), key, r, 0)
	require.ErrorContains(t, err, "DynamoDB's limit is 400 KB")
	require.NotErrorIs(t, err, store.ErrConflict)
	require.Empty(t, f.calls)
}

func TestWhatIsNoRecordIsNeitherAbsentNorEmpty(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		`{"Item": {"pk": {"S": "k"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "0"}, "data": {"S": "{}"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "x"}, "data": {"S": "{}"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "1"}, "data": {"S": "{"}}}`,
		`{"Item": {"pk": {"S": "k"}, "rev": {"N": "1"}, "data": {"N": "1"}}}`,
	} {
		f := startFake(t)
		f.crash = answer
		s := f.open(t, dynamoledger.Options{})
		_, _, err := s.Get(t.Context(), key)
		require.ErrorContains(t, err, "damaged", answer)
		require.NotErrorIs(t, err, store.ErrNotFound)
		_, err = s.Frozen(t.Context())
		require.ErrorContains(t, err, "damaged", answer)
		_, err = s.Breaker(t.Context())
		require.ErrorContains(t, err, "damaged", answer)
		_, err = s.Probe(t.Context(), "key", now)
		require.ErrorContains(t, err, "damaged", answer)
	}
}

func TestNoAnswerIsNeitherConflictNorAbsence(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	s := f.open(t, dynamoledger.Options{})
	f.Close()
	_, _, err := s.Get(t.Context(), key)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrNotFound)
	_, err = s.Put(t.Context(), key, ledger.Record{}, 0)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrConflict)
	_, err = s.Frozen(t.Context())
	require.Error(t, err)
}

func TestAFailureOfAMomentIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	s := f.open(t, dynamoledger.Options{})
	f.fail = 1
	_, err := s.Put(t.Context(), key, ledger.Record{}, 0)
	require.NoError(t, err)
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	at := now
	a := f.open(t, dynamoledger.Options{Now: func() time.Time { return at }})
	b := f.open(t, dynamoledger.Options{Now: func() time.Time { return at }})
	probe := func(s *dynamoledger.Store, name string) bool {
		may, err := s.Probe(t.Context(), name, at.Add(time.Minute))
		require.NoError(t, err)
		return may
	}
	is := func() dynamoledger.Breaker {
		got, err := b.Breaker(t.Context())
		require.NoError(t, err)
		return got
	}

	require.Zero(t, is())
	require.True(t, probe(a, "key"), "nobody has tried the credentials")
	require.False(t, probe(b, "key"), "one at a time")
	require.Equal(t, dynamoledger.Breaker{Trying: at}, is())
	require.NoError(t, a.CloseBreaker(t.Context(), "key"))
	require.Equal(t, dynamoledger.Breaker{Proved: "key"}, is())

	first := dynamoledger.Break{Reason: "401", By: "a", At: at, Probe: at.Add(time.Minute), Name: "key"}
	require.NoError(t, a.OpenBreaker(t.Context(), first))
	require.NoError(t, b.OpenBreaker(t.Context(), dynamoledger.Break{Reason: "401 too", By: "b", At: at, Name: "key"}))
	require.Equal(t, dynamoledger.Breaker{Break: &first}, is(), "the first one stands, and nothing is proved")

	require.False(t, probe(a, "key"), "not yet")
	require.False(t, probe(b, "key"), "not yet")
	at = at.Add(time.Minute)
	require.True(t, probe(a, "key"))
	require.False(t, probe(b, "key"), "one at a time")
	require.Equal(t, at, is().Trying)
	require.NoError(t, a.StillRefused(t.Context(), "key", at.Add(time.Hour)))
	require.Zero(t, is().Trying)
	require.NotNil(t, is().Break)
	at = at.Add(59 * time.Minute)
	require.False(t, probe(a, "key"), "it was put off")
	require.True(t, probe(b, "new"), "others are tried at once")
	require.False(t, probe(a, "new"))
	require.NoError(t, a.StillRefused(t.Context(), "key", at.Add(time.Hour)))
	require.Equal(t, at, is().Trying, "it is about others by now")

	require.NoError(t, b.CloseBreaker(t.Context(), "new"))
	require.NoError(t, b.CloseBreaker(t.Context(), "new"))
	require.Equal(t, dynamoledger.Breaker{Proved: "new"}, is())
}

func TestSettings(t *testing.T) {
	for _, v := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		t.Setenv(v, "")
	}
	_, err := dynamoledger.New(t.Context(), dynamoledger.Options{})
	require.ErrorContains(t, err, "table")
	require.ErrorContains(t, err, "AWS_REGION")
	require.ErrorContains(t, err, "AWS_ACCESS_KEY_ID")

	f := startFake(t)
	t.Setenv("AWS_REGION", "eu-central-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_DYNAMODB", f.URL)
	s, err := dynamoledger.New(t.Context(), dynamoledger.Options{Table: "ledger"})
	require.NoError(t, err)
	_, _, err = s.Get(t.Context(), key)
	require.ErrorIs(t, err, store.ErrNotFound)
}
