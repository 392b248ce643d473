package dynamoledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"recompose/shared/ledger"
	"recompose/shared/store"
)

// Lost reads whether the functions of a table have found that its ledger has lost records, and no operator has
// accepted the loss. In that case the error is ledger.ErrLost by errors.Is; with any other error it is unknown. Lost
// changes nothing, and detects no loss itself: Fit does. It blocks as the store does.
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
		return fmt.Errorf("read whether the ledger has lost records: %w", err)
	case i.Loss == nil:
		return nil
	default:
		reason = i.Loss.Reason
	}
	return &ledger.LostError{Reason: "table " + table + ": " + reason, Accept: acceptWith}
}
