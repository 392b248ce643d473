package queue

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"

	"recompose/events"
)

// messageLog writes lines about one message. Its attributes are formatted only for a line that is written.
type messageLog struct {
	log   *slog.Logger
	attrs []any
}

func (l messageLog) with(attrs ...any) messageLog {
	l.attrs = append(l.attrs[:len(l.attrs):len(l.attrs)], attrs...)
	return l
}

func (l messageLog) at(ctx context.Context, level slog.Level, text string, attrs []any) {
	if l.log.Enabled(ctx, level) {
		l.log.With(l.attrs...).Log(ctx, level, text, attrs...)
	}
}

func (l messageLog) debug(ctx context.Context, text string, attrs ...any) {
	l.at(ctx, slog.LevelDebug, text, attrs)
}

func (l messageLog) info(ctx context.Context, text string, attrs ...any) {
	l.at(ctx, slog.LevelInfo, text, attrs)
}

func (l messageLog) error(ctx context.Context, text string, attrs ...any) {
	l.at(ctx, slog.LevelError, text, attrs)
}

// logFailure logs a command.failed event. The function may have returned the failure as an error or read it from a
// ledger record.
func logFailure(ctx context.Context, e events.Envelope, log messageLog) {
	if e.Type != events.TypeCommandFailed {
		return
	}
	var f events.CommandFailed
	if json.Unmarshal(e.Data, &f) != nil {
		return
	}
	log.info(ctx, "command failed", "kind", f.Error.Kind, "effect", f.Effect, "error", f.Error.ErrorMsg, "request_id", f.Error.RequestID)
}

func logStack(ctx context.Context, err error, log messageLog) {
	if crash, ok := errors.AsType[*PanicError](err); ok {
		log.error(ctx, "panic", "error", crash.Error(), "stack", string(crash.Stack))
	}
}
