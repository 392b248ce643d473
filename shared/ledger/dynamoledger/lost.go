package dynamoledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"recompose/shared/ledger"
	"recompose/shared/store"
)

// Lost reads whether the ledger of a table has lost records, as its functions found, and no operator has accepted that. The
// error is ledger.ErrLost by errors.Is if so; any other one: it cannot be known now. It changes nothing, and finds nothing
// by itself: that is what Fit does. It blocks as the store does.
func Lost(ctx context.Context, values store.Store, table string) error {
	data, _, err := values.Get(ctx, epochKey)
	var i epochItem
	if err == nil && json.Unmarshal(data, &i) != nil {
		err = store.ErrDamaged
	}
	reason := ""
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case errors.Is(err, store.ErrDamaged):
		reason = "item " + epochKey + ": " + err.Error()
	case err != nil:
		return fmt.Errorf("whether the ledger has lost records: %w", err)
	case i.Loss == nil:
		return nil
	default:
		reason = i.Loss.Reason
	}
	return &ledger.LostError{Reason: "table " + table + ": " + reason, Accept: acceptWith}
}
