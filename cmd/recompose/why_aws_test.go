package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
)

// accessDenied is an error as the SDK of AWS gives it.
type accessDenied struct{}

func (accessDenied) Error() string     { return "AccessDeniedException: no" }
func (accessDenied) ErrorCode() string { return "AccessDeniedException" }

func TestWhyNothingMovesOnAWS(t *testing.T) {
	t.Parallel()
	s := deploy(t, 1, nil)
	ctx, write := t.Context(), question{write: true}
	w := &awsWhy{table: ledgerTable, open: func(context.Context) (*dynamoledger.Store, error) { return nil, accessDenied{} }}
	require.Equal(t, []string{"whether writes are frozen is not known (it needs the right dynamodb:GetItem on table " + ledgerTable + "): AccessDeniedException: no"},
		w.why(ctx, write))
	w.open = func(context.Context) (*dynamoledger.Store, error) { return nil, errors.New("no route to host") }
	require.Equal(t, []string{"whether writes are frozen is not known: no route to host"}, w.why(ctx, write), "no right is missing")
	w.open = func(context.Context) (*dynamoledger.Store, error) { return s.store, nil }
	require.Empty(t, w.why(ctx, write))
	at := time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local)
	require.NoError(t, s.store.OpenBreaker(ctx, dynamoledger.Break{Reason: "401", At: at}))
	require.Equal(t, []string{"the service refuses the credentials since 2026-01-15 12:00, and no function calls it: 401"}, w.why(ctx, question{}))
	require.NoError(t, s.store.CloseBreaker(ctx, ""))

	// What is damaged is no missing right.
	_, err := s.store.PutValue(ctx, "freeze", []byte(`[1]`), 0)
	require.NoError(t, err)
	_, err = s.store.PutValue(ctx, "deny", []byte(`[1]`), 0)
	require.NoError(t, err)
	why := w.why(ctx, write)
	require.Len(t, why, 2, "%q", why)
	require.Regexp(t, `^whether writes are frozen is not known: read whether writes are frozen: it is damaged`, why[0])
	require.Regexp(t, `^no write begins, because a list of desktops cannot be read: .*deny.* damaged`, why[1])
	require.NotContains(t, strings.Join(why, " "), "right")
	require.NoError(t, s.store.Thaw(ctx))

	require.NoError(t, s.store.Fit(ctx, ""))
	require.ErrorIs(t, s.store.Missing(ctx, "k", s.store.Epoch()), ledger.ErrLost)
	require.Contains(t, w.why(ctx, write), "no write begins, because the ledger has lost records: table "+ledgerTable+
		": it has no record k of a job that the service has accepted. Bring the whole ledger back, or accept the loss: recompose setup --aws STACK --accept-ledger-loss")
}
