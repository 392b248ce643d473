package main

import (
	"context"
	"fmt"
	"time"

	"recompose/shared/safety"
	"recompose/shared/store"
)

// awsWhy asks the table of a stack. Who polls the queues of a stack is Lambda, which always does.
type awsWhy struct {
	values store.Store
	table  string // its name
}

func (w *awsWhy) why(ctx context.Context, q question) []string {
	var why []string
	now := time.Now()
	if q.write {
		f, err := (&safety.Operators{Store: w.values, Older: true}).Frozen(ctx)
		switch {
		case err != nil:
			return []string{w.unknown("whether writes are frozen", err)}
		case f != nil:
			why = append(why, frozenText(*f, now))
		}
	}
	refusal, err := safety.ReadRefusal(ctx, w.values)
	switch {
	case err != nil:
		why = append(why, w.unknown("whether the service refuses the credentials", err))
	case refusal != nil:
		why = append(why, fmt.Sprintf("the service refuses the credentials since %s, and no function calls it: %s", clockText(refusal.At, now), refusal.Reason))
	}
	return why
}

func (w *awsWhy) unknown(what string, err error) string {
	return fmt.Sprintf("%s is not known (it needs the right dynamodb:GetItem on table %s): %v", what, w.table, err)
}
