package dynamoledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"recompose/shared/ledger"
)

// ErrListChanged says that somebody else set or cleared the list meanwhile, and that theirs holds.
var ErrListChanged = errors.New("somebody else changed the list meanwhile, and theirs holds; look at it and do it again if it is still wanted")

// ErrListUnknown says that the list may hold as it was or as it should be.
var ErrListUnknown = errors.New("whether it was stored is not known; it is safe to do it again")

// Change is how a list was and is.
type Change struct {
	Before  *List // nil: there was none, or it was damaged
	Damaged error // why it could not be read; it is replaced all the same
	Now     *List // nil: there is none
	Left    int   // pages of the list before that could not be removed; nothing reads them
}

// SetList puts ids in the place of a list, as a whole: who reads meanwhile finds the one or the other. Ids that are
// given twice are kept once, sorted. It blocks until DynamoDB has stored all of it, at most five seconds for each of a few
// pages or until ctx ends, and may be repeated.
//
// An id that is not well-formed is an error. The error is ErrListChanged or ErrListUnknown by errors.Is; after any other the list is as it was.
func (s *Store) SetList(ctx context.Context, name ListName, ids []string, by string) (Change, error) {
	if err := checkIDs(ids); err != nil {
		return Change{}, fmt.Errorf("set the %s list of desktops: %w", name, err)
	}
	c, old, err := s.before(ctx, name)
	if err != nil {
		return c, fmt.Errorf("set the %s list of desktops: %w", name, err)
	}
	l := s.newList(by)
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	pages, err := paginate(ids)
	if err != nil {
		return c, fmt.Errorf("set the %s list of desktops: %w", name, err)
	}
	sum := sha256.New()
	for n, page := range pages {
		text, err := json.Marshal(page)
		if err == nil {
			_, _ = sum.Write(text) // never fails
			err = s.set(ctx, l.page(name, n), json.RawMessage(text))
		}
		if err != nil {
			l.Pages = n + 1 // the last one may have been stored
			s.removePages(ctx, name, l)
			return c, fmt.Errorf("set the %s list of desktops, page %d of %d: %w", name, n+1, len(pages), err)
		}
	}
	l.Pages, l.Count, l.Digest = len(pages), len(ids), hex.EncodeToString(sum.Sum(nil))
	switch err := s.setHeader(ctx, name, l, old, c.Damaged != nil); {
	case errors.Is(err, ledger.ErrConflict):
		s.removePages(ctx, name, l)
		return c, fmt.Errorf("set the %s list of desktops: %w", name, ErrListChanged)
	case err != nil: // its pages stay: it may hold
		return c, fmt.Errorf("set the %s list of desktops: %w: %w", name, ErrListUnknown, err)
	}
	c.Now = &l
	if c.Before != nil {
		c.Left = s.removePages(ctx, name, *c.Before)
	}
	return c, nil
}

// ClearList removes a list: then there is none. It blocks and fails as SetList; without a list it does nothing.
func (s *Store) ClearList(ctx context.Context, name ListName) (Change, error) {
	c, old, err := s.before(ctx, name)
	if err != nil {
		return c, fmt.Errorf("clear the %s list of desktops: %w", name, err)
	}
	if c.Before == nil && c.Damaged == nil {
		return c, nil
	}
	in := &dynamodb.DeleteItemInput{TableName: &s.table, Key: map[string]types.AttributeValue{attrKey: text(string(name))}}
	if c.Damaged == nil {
		in.ConditionExpression, in.ExpressionAttributeNames, in.ExpressionAttributeValues = is{attrPut, text(old)}.expression()
	}
	inTime, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if _, err := s.db.DeleteItem(inTime, in); err != nil {
		if _, refused := errors.AsType[*types.ConditionalCheckFailedException](err); !refused {
			return c, fmt.Errorf("clear the %s list of desktops: %w: %w", name, ErrListUnknown, err)
		}
		// It is another one, or gone: perhaps by an earlier try of this very call, whose answer was lost.
		there, err := s.List(ctx, name)
		if err != nil {
			return c, fmt.Errorf("clear the %s list of desktops: %w: %w", name, ErrListUnknown, err)
		}
		if there != nil {
			return c, fmt.Errorf("clear the %s list of desktops: %w", name, ErrListChanged)
		}
	}
	if c.Before != nil {
		c.Left = s.removePages(ctx, name, *c.Before)
	}
	return c, nil
}

// before reads what is to be replaced: the header, and which put stored it.
func (s *Store) before(ctx context.Context, name ListName) (c Change, put string, err error) {
	there, err := s.fetch(ctx, string(name))
	var l List
	if err == nil {
		if err = there.read(&l); err == nil && there.put == "" {
			err = fmt.Errorf("%w: recompose did not put it there", errDamaged)
		}
	}
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return c, "", nil
	case errors.Is(err, errDamaged):
		c.Damaged = err
		return c, "", nil
	case err != nil:
		return c, "", err
	}
	c.Before = &l
	return c, there.put, nil
}

// setHeader makes a list hold in the place of the one that was put by old; "": of none, or of whatever there is.
func (s *Store) setHeader(ctx context.Context, name ListName, l List, old string, whatever bool) error {
	if whatever {
		return s.set(ctx, string(name), l)
	}
	values, err := encode(string(name), l, 1, time.Time{})
	if err != nil {
		return err
	}
	if old == "" {
		_, err = s.store(ctx, values, nil)
	} else {
		_, err = s.store(ctx, values, &is{attrPut, text(old)})
	}
	return err
}

// removePages removes the pages of a list that does not hold, and tells how many are left. It does so even when ctx has
// ended: what nobody reads should not stay.
func (s *Store) removePages(ctx context.Context, name ListName, l List) int {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	left := 0
	for n := range l.Pages {
		if s.remove(ctx, l.page(name, n)) != nil {
			left++
		}
	}
	return left
}
