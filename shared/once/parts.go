package once

import (
	"context"
	"errors"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/store"
)

// PreparePart records for a part of a command that is divided before any call what was read for it. The part finds it
// as kept by a preparation of its own. A part that has a record already keeps that.
func (e *Engine) PreparePart(ctx context.Context, op Operation, index int, desktopIDs []string, read ledger.Detail) error {
	part := ledger.Record{Digest: events.Digest(op.Part(desktopIDs)), Detail: read}
	_, err := e.put(ctx, partKey(op.About(), index), ledger.Record{}, partPrepared, part, 0)
	if errors.Is(err, store.ErrConflict) {
		return nil
	}
	return err
}

// PartPrepared reports whether a part of a command has a record.
func (e *Engine) PartPrepared(ctx context.Context, op Operation, index int) (bool, error) {
	_, rev, err := e.get(ctx, partKey(op.About(), index))
	return rev != 0, err
}
