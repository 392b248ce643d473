package store_test

import (
	"context"
	"errors"
	"fmt"

	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// Two workers change the same value. The second one has read an older revision, so its put changes nothing: it reads the
// value once more and decides anew.
func Example() {
	ctx := context.Background()
	var s store.Store = memstore.New()

	read, err := s.Put(ctx, "greeting", []byte("hello"), 0) // zero: the key must have no value
	fmt.Println(read, err)
	_, err = s.Put(ctx, "greeting", []byte("hello from the first worker"), read)
	fmt.Println(err)
	_, err = s.Put(ctx, "greeting", []byte("hello from the second worker"), read)
	fmt.Println(errors.Is(err, store.ErrConflict))

	value, _, err := s.Get(ctx, "greeting")
	fmt.Println(string(value), err)
	_, _, err = s.Get(ctx, "no-such-key")
	fmt.Println(errors.Is(err, store.ErrNotFound))
	// Output:
	// 1 <nil>
	// <nil>
	// true
	// hello from the first worker <nil>
	// true
}
