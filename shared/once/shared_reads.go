package once

import (
	"context"
	"fmt"

	"recompose/shared/store"
)

// SharedReads returns a store whose reads of one key are shared: a Get joins the next read of its key to begin, and never
// one that began before. So each returns a value that was in the store after it was called, as without sharing, and many
// writes at a time need few round trips for what all of them must read directly before their calls. The bytes of a value
// are shared, too, and must not be changed. GetAll reads each key by itself: this is for NATS, which has no other way.
func SharedReads(s store.Store) store.Store {
	return &sharedReads{s, NewShared(func(ctx context.Context, key string) (v store.Value, _ error) {
		v.Data, v.Revision, v.Err = s.Get(ctx, key)
		return v, nil
	})}
}

type sharedReads struct {
	store.Store
	reads *Shared[string, store.Value]
}

func (s *sharedReads) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	v, err := s.reads.Get(ctx, key)
	if err != nil { // ctx has ended
		return nil, 0, fmt.Errorf("read %s: %w", key, ctx.Err())
	}
	return v.Data, v.Revision, v.Err
}

func (s *sharedReads) GetAll(ctx context.Context, keys ...string) []store.Value {
	return store.GetEach(ctx, s.Get, keys)
}
