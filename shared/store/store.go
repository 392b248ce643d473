// Package store keeps small values under keys, and changes them by compare-and-set only.
//
// A [Store] is get, put and delete. Its users decide what it holds and in which form: ledger records, the operators'
// freeze and lists, the deployment's service, the refused key. There is no listing: a value that must be found later
// is named by another value.
package store

import (
	"context"
	"errors"
	"sync"
)

// MaxValue is the size in bytes of a value that every store accepts. A store may accept larger ones.
const MaxValue = 300 << 10

// ErrNotFound reports that there is no value under a key.
var ErrNotFound = errors.New("not in the store")

// ErrConflict reports that another process has created, changed or deleted the value in the meantime. Read the value
// once more.
var ErrConflict = errors.New("another process has changed the value in the meantime")

// ErrDamaged reports that the bytes under a key were not put there by this store.
var ErrDamaged = errors.New("it is damaged: it holds foreign bytes")

// Revision is the version of a value, as the store counts it. Zero is the revision of no value.
type Revision uint64

// Value is what Get returns.
type Value struct {
	Data     []byte
	Revision Revision
	Err      error
}

// GetEach reads several keys at the same time, each by itself: it is GetAll for a store that has no request for several.
func GetEach(ctx context.Context, get func(context.Context, string) ([]byte, Revision, error), keys []string) []Value {
	values := make([]Value, len(keys))
	var all sync.WaitGroup
	for i, key := range keys {
		all.Go(func() {
			v := &values[i]
			v.Data, v.Revision, v.Err = get(ctx, key)
		})
	}
	all.Wait()
	return values
}

// Store keeps values. Its methods are safe for concurrent use, and each blocks until the store has answered or ctx has
// ended. A put or delete that fails with another error than ErrConflict may still have taken effect.
type Store interface {
	// Get reads the last value that was put under a key, never an older copy. The error is ErrNotFound by errors.Is if
	// there is no value, and ErrDamaged if the bytes are foreign; the revision is then the one with which Put and Delete
	// replace them.
	Get(ctx context.Context, key string) ([]byte, Revision, error)
	// GetAll is Get of several keys, each given once, in one round trip. The values are in the order of the keys. They
	// are not a snapshot: a put may happen between any two of them.
	GetAll(ctx context.Context, keys ...string) []Value
	// Put stores a value durably and returns its new revision. It replaces the value with the revision old (zero: there
	// must be none). The error is ErrConflict by errors.Is if there is another value, or none.
	Put(ctx context.Context, key string, value []byte, old Revision) (Revision, error)
	// Delete removes the value with this revision. The error is ErrConflict by errors.Is if there is another value;
	// without a value, Delete does nothing.
	Delete(ctx context.Context, key string, old Revision) error
}
