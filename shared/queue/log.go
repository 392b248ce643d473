package queue

import (
	"context"
	"encoding/json"
	"log/slog"

	"recompose/events"
)

// logFailure logs a command.failed event. The function may have returned the failure as an error or read it from a
// ledger record.
func logFailure(ctx context.Context, e events.Envelope, log *slog.Logger) {
	var f events.CommandFailed
	if e.Type != events.TypeCommandFailed || json.Unmarshal(e.Data, &f) != nil {
		return
	}
	log.InfoContext(ctx, "command failed", "kind", f.Error.Kind, "effect", f.Effect, "error", f.Error.ErrorMsg, "request_id", f.Error.RequestID)
}

func logStack(ctx context.Context, err error, log *slog.Logger) {
	if crash, ok := as[*PanicError](err); ok {
		log.ErrorContext(ctx, "panic", "error", crash.Error(), "stack", string(crash.Stack))
	}
}
