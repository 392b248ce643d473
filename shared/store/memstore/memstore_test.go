package memstore_test

import (
	"testing"

	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/storetest"
)

type place struct{ s *memstore.Store }

func (p place) Open(*testing.T) store.Store { return p.s }

func TestConformance(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Place { return place{memstore.New()} })
}
