package ledgertest_test

import (
	"testing"

	"recompose/shared/ledger"
	"recompose/shared/ledger/ledgertest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(*testing.T) ledgertest.Stores { return place{ledgertest.NewMemory()} })
}

type place struct{ store *ledgertest.Memory }

func (p place) Open(*testing.T) ledger.Store { return p.store }
