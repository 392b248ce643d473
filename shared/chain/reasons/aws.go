package reasons

import (
	"context"
	"errors"
	"fmt"
	"time"

	"recompose/shared/chain"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/safety"
	"recompose/shared/store"
)

// AWS finds reasons in the table of a stack. It needs no check for workers: Lambda always polls the queues.
type AWS struct {
	Values store.Store
	Table  string // its name
}

// Why returns why a chain is quiet.
func (w *AWS) Why(ctx context.Context, q Work) []string {
	now := time.Now()
	checks := []func() (string, error){func() (string, error) { return w.refused(ctx, now) }}
	if q.Write {
		checks = []func() (string, error){
			func() (string, error) { return w.frozen(ctx, now) },
			checks[0],
			func() (string, error) { return w.lost(ctx) },
		}
	}
	var why []string
	for _, check := range checks {
		text, err := check()
		why = appendText(why, text)
		if dynamoledger.IsDenied(err) { // the same table refuses the other checks too
			break
		}
	}
	return why
}

// frozen reports the freeze in force, else a list of desktops that cannot be read. Both are in one item.
func (w *AWS) frozen(ctx context.Context, now time.Time) (string, error) {
	set := &safety.Operators{Store: w.Values, Older: true}
	f, err := set.Frozen(ctx)
	switch {
	case err != nil:
		return w.unknown("whether writes are frozen", err), err
	case f != nil:
		return frozenText(*f, now), nil
	}
	_, err = safety.New(safety.Options{Operators: set}).Describe(ctx)
	switch {
	case dynamoledger.IsDenied(err): // the functions may read it all the same, and this user may read other keys
		return w.unknown("whether a list of desktops holds writes back", err), nil
	case err != nil:
		return "no write begins, because a list of desktops cannot be read: " + err.Error(), err
	}
	return "", nil
}

func (w *AWS) lost(ctx context.Context) (string, error) {
	err := dynamoledger.Lost(ctx, w.Values, w.Table)
	lost, isLost := errors.AsType[*ledger.LostError](err)
	switch {
	case isLost:
		return lostText(lost.Reason, lost.Accept), nil
	case err != nil:
		return w.unknown("whether the ledger has lost records", err), err
	}
	return "", nil
}

func (w *AWS) refused(ctx context.Context, now time.Time) (string, error) {
	refusal, err := safety.ReadRefusal(ctx, w.Values)
	if err != nil {
		return w.unknown("whether the service refuses the credentials", err), err
	}
	if refusal == nil {
		return "", nil
	}
	return fmt.Sprintf("the service refuses the credentials since %s, and no function calls it: %s",
		chain.Clock(refusal.At, now), refusal.Reason), nil
}

func (w *AWS) unknown(what string, err error) string {
	right := ""
	if dynamoledger.IsDenied(err) {
		right = " (it needs the right dynamodb:GetItem on table " + w.Table + ")"
	}
	return fmt.Sprintf("%s is not known%s: %v", what, right, err)
}
