package dynamoledger_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/dynamotest"
)

// sandbox is a function's store, and its log.
type sandbox struct {
	*dynamoledger.Store
	t   *testing.T
	log *bytes.Buffer
}

func (p place) sandbox(t *testing.T) *sandbox {
	t.Helper()
	log := &bytes.Buffer{}
	return &sandbox{p.open(t, dynamoledger.Options{Worker: "s1", Log: slog.New(slog.NewTextHandler(log, nil))}), t, log}
}

func (s *sandbox) fits(epoch string) {
	s.t.Helper()
	require.NoError(s.t, s.Fit(s.t.Context(), epoch))
}

func (s *sandbox) lost(epoch, why string) {
	s.t.Helper()
	for range 2 {
		err := s.Fit(s.t.Context(), epoch)
		require.ErrorIs(s.t, err, ledger.ErrLost)
		require.ErrorContains(s.t, err, why)
	}
	require.Equal(s.t, 1, strings.Count(s.log.String(), "level=ERROR"), s.log.String())
	require.Contains(s.t, s.log.String(), "recompose setup --aws STACK --accept-ledger-loss")
}

func (p place) empty() { clear(p.Items) }

func (p place) remake() { p.ID = "t2" }

func TestATableGetsOneEpoch(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.sandbox(t).Put(t.Context(), events.Identity("epoch", "1"), ledger.Record{}, 0)
	require.NoError(t, err, "as older versions leave it")
	ids := make(chan string)
	for range 8 {
		s := f.sandbox(t)
		go func() {
			if s.Fit(t.Context(), "") != nil {
				ids <- ""
				return
			}
			ids <- s.Epoch()
		}()
	}
	first := <-ids
	require.NotEmpty(t, first)
	for range 7 {
		require.Equal(t, first, <-ids)
	}
	s := f.sandbox(t)
	require.Nil(t, s.Stamp(), "before the first Fit")
	s.fits(first)
	require.Equal(t, map[string]string{"Recompose-Ledger": first}, s.Stamp())
}

func TestATableThatLostRecords(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		why  string
		harm func(p place)
		warm bool // the function has used the table before; else a message has its epoch
	}{
		"emptied":                    {"not the one that this function has seen", place.empty, true},
		"emptied, a message knows":   {"a message carries the epoch", place.empty, false},
		"recreated":                  {"not the one that this function has seen", func(p place) { p.empty(); p.remake() }, true},
		"recreated, a message knows": {"a message carries the epoch", func(p place) { p.empty(); p.remake() }, false},
		"restored, not known before": {"it is a restored copy", func(p place) { p.remake() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t)
			s := f.sandbox(t)
			s.fits("")
			old := s.Epoch()
			c.harm(f)
			if !c.warm {
				s = f.sandbox(t)
				if strings.Contains(name, "message") {
					s.fits("") // adopted before the message arrives
				}
			}
			s.lost(old, c.why)
			f.sandbox(t).lost("", c.why)

			person := f.sandbox(t)
			require.ErrorIs(t, person.Fit(t.Context(), ""), ledger.ErrLost)
			require.NoError(t, person.Accept(t.Context()))
			require.NotEqual(t, old, person.Epoch())
			s.fits(old)
			f.sandbox(t).fits(old)
			f.sandbox(t).fits("")
			require.Contains(t, s.log.String(), "the ledger is complete; writes may begin")
		})
	}
}

// The function rollout may read the epoch, and not write it.
func TestALossIsFoundByAFunctionThatMayNotRecordIt(t *testing.T) {
	t.Parallel()
	f := start(t)
	s := f.sandbox(t)
	s.fits("")
	f.remake()
	f.ReadOnly = true
	f.sandbox(t).lost("", "it is a restored copy")
}

// Before a function that writes has run, it may go on. It may not while the table does not answer, or if a message shows
// that the table had records.
func TestAFirstUseIsKnownWhereItMayNotBeRecorded(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.ReadOnly = true
	s := f.sandbox(t)
	require.ErrorIs(t, s.Fit(t.Context(), ""), ledger.ErrNoEpoch)
	require.Empty(t, s.Epoch())
	require.ErrorIs(t, f.sandbox(t).Fit(t.Context(), "t1/earlier"), ledger.ErrLost)
	f.Fail = 99
	err := f.sandbox(t).Fit(t.Context(), "")
	require.Error(t, err)
	require.NotErrorIs(t, err, ledger.ErrNoEpoch)
	f.Fail, f.ReadOnly = 0, false
	s.fits("")
	f.ReadOnly = true
	s.fits("")
}

func TestARecordThatIsMissingStopsWrites(t *testing.T) {
	t.Parallel()
	f := start(t)
	s, other := f.sandbox(t), f.sandbox(t)
	s.fits("")
	other.fits("")
	old := s.Epoch()
	require.ErrorIs(t, s.Missing(t.Context(), "KEY", old), ledger.ErrLost)
	other.lost("", "it has no record KEY")
	require.NoError(t, other.Accept(t.Context()))
	require.NoError(t, s.Missing(t.Context(), "KEY", old), "its loss was accepted")
	require.NoError(t, s.Missing(t.Context(), "KEY", ""))
	require.ErrorIs(t, s.Missing(t.Context(), "KEY", s.Epoch()), ledger.ErrLost)
}

func TestADamagedEpochStopsWritesAndCanBeAccepted(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.Items["epoch"] = dynamotest.Item{"pk": {"S": "epoch"}, "rev": {"N": "3"}, "data": {"S": "{"}}
	s := f.sandbox(t)
	s.lost("", "item epoch: it is damaged: it holds foreign bytes")
	require.NoError(t, s.Accept(t.Context()))
	s.fits("")
}

func TestATableThatDoesNotAnswerHasLostNoRecords(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.Fail = 1000
	s := f.sandbox(t)
	err := s.Fit(t.Context(), "e1")
	require.Error(t, err)
	require.NotErrorIs(t, err, ledger.ErrLost)
	require.Empty(t, f.Items)
}

// A function that has used the table may still run when a copy was restored under its name.
func TestATableThatIsRestoredWhileAFunctionRuns(t *testing.T) {
	t.Parallel()
	f := start(t)
	at, log := now, &bytes.Buffer{}
	s := &sandbox{f.open(t, dynamoledger.Options{
		Options: dynamostore.Options{Now: func() time.Time { return at }}, Log: slog.New(slog.NewTextHandler(log, nil)),
	}), t, log}
	s.fits("")
	f.remake()
	at = at.Add(time.Minute)
	s.lost("", "it is a restored copy")
}
