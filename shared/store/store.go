// Package store keeps small values under keys, and changes them by compare-and-set only.
//
// A [Store] is get, put and delete. What is kept in it, and in which form, is its owner's: ledger records, the operators'
// freeze and lists, the deployment's service, the refused key. There is no listing: what must be found again is named by
// another value.
package store

import (
	"context"
	"errors"
)

// MaxValue is how many bytes a value may have in every store. A store may keep larger ones.
const MaxValue = 300 << 10

// ErrNotFound reports that there is no value under a key.
var ErrNotFound = errors.New("it is not in the store")

// ErrConflict reports that the value was made, changed or deleted by another process meanwhile. Read it again.
var ErrConflict = errors.New("another process changed it meanwhile")

// ErrDamaged reports that something stands under a key that this store did not put there.
var ErrDamaged = errors.New("it is damaged: something else stands in its place")

// Revision is the version of a value, as the store counts it. Zero is that of no value.
type Revision uint64

// Value is what Get returns.
type Value struct {
	Data     []byte
	Revision Revision
	Err      error
}

// Store keeps values. Its methods may be used at the same time, and each blocks until the store has answered or ctx has
// ended. A put or delete that fails with another error than ErrConflict may have been done nevertheless.
type Store interface {
	// Get reads what was last put under a key, never an older copy. The error is ErrNotFound by errors.Is if there is no
	// value, and ErrDamaged if something else stands there; the revision is then that by which Put and Delete replace it.
	Get(ctx context.Context, key string) ([]byte, Revision, error)
	// GetAll is Get of several keys, each given once, in one round trip. The values are in the order of the keys; they are
	// not of one moment: a put may fall between any two of them.
	GetAll(ctx context.Context, keys ...string) []Value
	// Put stores a value in the place of the one with this revision (zero: there must be none), durably, and returns its
	// new revision. The error is ErrConflict by errors.Is if another value, or none, is there by now.
	Put(ctx context.Context, key string, value []byte, old Revision) (Revision, error)
	// Delete removes the value with this revision. The error is ErrConflict by errors.Is if another one is there by now;
	// where there is none, it does nothing.
	Delete(ctx context.Context, key string, old Revision) error
}
