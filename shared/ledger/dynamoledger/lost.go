package dynamoledger

import (
	"context"
	"errors"
	"fmt"

	"recompose/shared/ledger"
)

// Lost reads whether a loss of records was found that no operator has accepted. The error is ledger.ErrLost by errors.Is
// if so; any other one: it cannot be known now. It changes nothing, and finds nothing by itself: that is what Fit does. It
// blocks as Get does.
func (s *Store) Lost(ctx context.Context) error {
	var i epochItem
	_, err := s.get(ctx, epochKey, &i)
	reason := ""
	switch {
	case errors.Is(err, ledger.ErrNotFound):
		return nil
	case errors.Is(err, errDamaged):
		reason = "item " + epochKey + ": " + err.Error()
	case err != nil:
		return fmt.Errorf("read whether the ledger has lost records: %w", err)
	case i.Loss == nil:
		return nil
	default:
		reason = i.Loss.Reason
	}
	return &ledger.LostError{Reason: "table " + s.table + ": " + reason, Accept: acceptWith}
}
