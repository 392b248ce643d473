package once_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/once"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/storetest"
)

type sharedPlace struct{ s *memstore.Store }

func (p sharedPlace) Open(*testing.T) store.Store { return once.SharedReads(p.s) }

func TestAStoreWithSharedReadsIsAStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(*testing.T) storetest.Place { return sharedPlace{memstore.New()} })
}

// unhurried takes a second for each read, and reads the value when the read begins.
type unhurried struct {
	store.Store
	reads atomic.Int64
}

func (s *unhurried) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	s.reads.Add(1)
	data, rev, err := s.Store.Get(ctx, key)
	<-time.After(time.Second)
	return data, rev, err
}

// A freeze that was stored before a write reads it must stop that write, however many writes share the read.
func TestASharedReadNeverReturnsAnOlderValue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := &unhurried{Store: memstore.New()}
		s := once.SharedReads(slow)
		var rev store.Revision
		var stored atomic.Int64
		go func() {
			for i := range 100 {
				<-time.After(130 * time.Millisecond)
				var err error
				rev, err = s.Put(t.Context(), "freeze", []byte(strconv.Itoa(i+1)), rev)
				require.NoError(t, err)
				stored.Store(int64(i + 1))
			}
		}()
		var readers sync.WaitGroup
		for i := range 200 {
			readers.Go(func() {
				<-time.After(200*time.Millisecond + time.Duration(i)*61*time.Millisecond)
				before := stored.Load()
				v := s.GetAll(t.Context(), "freeze")[0]
				require.NoError(t, v.Err)
				got, err := strconv.ParseInt(string(v.Data), 10, 64)
				require.NoError(t, err)
				require.GreaterOrEqual(t, got, before)
			})
		}
		readers.Wait()
		require.LessOrEqual(t, slow.reads.Load(), int64(14), "200 reads in 13 s share reads of a second")
		<-time.After(time.Minute)
	})
}
