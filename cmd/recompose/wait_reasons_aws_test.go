package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/chain/reasons"
	"recompose/shared/ledger"
	"recompose/shared/safety"
	"recompose/shared/store"
)

// accessDenied is an error as the SDK of AWS gives it.
type accessDenied struct{}

func (accessDenied) Error() string     { return "AccessDeniedException: no" }
func (accessDenied) ErrorCode() string { return "AccessDeniedException" }

// unreadable is a store that cannot be read.
type unreadable struct {
	store.Store
	err error
}

func (u unreadable) Get(context.Context, string) ([]byte, store.Revision, error) {
	return nil, 0, u.err
}

func TestReasonsOnAWS(t *testing.T) {
	t.Parallel()
	s := deploy(t, 1, nil)
	ctx, write := t.Context(), reasons.Work{Write: true}
	w := &reasons.AWS{Table: ledgerTable, Values: unreadable{err: accessDenied{}}}
	why := w.Why(ctx, write)
	require.Len(t, why, 1, "%q", why)
	require.Contains(t, why[0], "whether writes are frozen is not known (it needs the right dynamodb:GetItem on table "+ledgerTable+"): ")
	w.Values = unreadable{err: errors.New("no route to host")}
	require.NotContains(t, strings.Join(w.Why(ctx, write), " "), "right", "no right is missing")

	w.Values = s.store.Values()
	require.Empty(t, w.Why(ctx, write))
	refused, err := w.Values.Put(ctx, safety.KeyKey, []byte(`{"reason":"401","at":"`+
		time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local).Format(time.RFC3339)+`"}`), 0)
	require.NoError(t, err)
	require.Equal(t, []string{"the service refuses the credentials since 2026-01-15 12:00, and no function calls it: 401"}, w.Why(ctx, reasons.Work{}))
	require.NoError(t, w.Values.Delete(ctx, safety.KeyKey, refused))

	// What is damaged is no missing right.
	damaged, err := w.Values.Put(ctx, safety.OperatorsKey, []byte(`[1]`), 0)
	require.NoError(t, err)
	why = w.Why(ctx, write)
	require.Len(t, why, 1, "%q", why)
	require.Regexp(t, `^whether writes are frozen is not known: .*damaged|something else`, why[0])
	require.NotContains(t, why[0], "right")
	damaged, err = w.Values.Put(ctx, safety.OperatorsKey, []byte(`{"lists":{"deny":{"lost":true}}}`), damaged)
	require.NoError(t, err)
	why = w.Why(ctx, write)
	require.Len(t, why, 1, "%q", why)
	require.Contains(t, why[0], "no write begins, because a list of desktops cannot be read: ")
	require.NoError(t, w.Values.Delete(ctx, safety.OperatorsKey, damaged))

	require.NoError(t, s.store.Fit(ctx, ""))
	require.ErrorIs(t, s.store.Missing(ctx, "k", s.store.Epoch()), ledger.ErrLost)
	require.Equal(t, []string{"no write begins, because the ledger has lost records: table " + ledgerTable +
		": it has no record k of a job that the service has accepted. Bring the whole ledger back, or accept the loss: recompose setup --aws STACK --accept-ledger-loss"},
		w.Why(ctx, write))
}
