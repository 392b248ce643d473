package memledger_test

import (
	"testing"

	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/testkit/ledgertest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(*testing.T) ledgertest.Stores { return place{memledger.New()} })
}

type place struct{ store *memledger.Store }

func (p place) Open(*testing.T) ledger.Store { return p.store }
