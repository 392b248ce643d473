package main

import (
	"context"
	"fmt"
	"time"

	"recompose/shared/ledger/dynamoledger"
)

// awsWhy asks the table of a stack. Who polls the queues of a stack is Lambda, which always does.
type awsWhy struct {
	open  func(context.Context) (*dynamoledger.Store, error)
	table string // its name

	store *dynamoledger.Store
}

func (w *awsWhy) why(ctx context.Context, q question) []string {
	if w.store == nil {
		s, err := w.open(ctx)
		if err != nil {
			return []string{w.unknown("whether writes are frozen", err)}
		}
		w.store = s
	}
	var why []string
	now := time.Now()
	if q.write {
		f, err := w.store.Frozen(ctx)
		switch {
		case err != nil:
			return []string{w.unknown("whether writes are frozen", err)}
		case f != nil:
			why = append(why, frozenText(*f, now))
		}
	}
	b, err := w.store.Breaker(ctx)
	switch {
	case err != nil:
		why = append(why, w.unknown("whether the service refuses the credentials", err))
	case b.Break != nil:
		why = append(why, fmt.Sprintf("the service refuses the credentials since %s, and no function calls it: %s", clockText(b.Break.At, now), b.Break.Reason))
	}
	return why
}

func (w *awsWhy) unknown(what string, err error) string {
	return fmt.Sprintf("%s is not known (it needs the right dynamodb:GetItem on table %s): %v", what, w.table, err)
}
