package logging

import (
	"context"
	"log/slog"
	"slices"
)

type attrsKey struct{}

// With returns a context that adds these attributes to all log lines written with it, on a logger with a handler of
// [Contextual].
func With(ctx context.Context, attrs ...slog.Attr) context.Context {
	have, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return context.WithValue(ctx, attrsKey{}, slices.Concat(have, attrs))
}

// Contextual returns a handler that also writes the attributes of the context. It may be applied more than once.
func Contextual(h slog.Handler) slog.Handler {
	if c, ok := h.(contextual); ok {
		return c
	}
	return contextual{h}
}

type contextual struct{ slog.Handler }

// Handle writes a line.
func (h contextual) Handle(ctx context.Context, r slog.Record) error {
	if attrs, ok := ctx.Value(attrsKey{}).([]slog.Attr); ok {
		r = r.Clone()
		r.AddAttrs(attrs...)
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the attributes of the context.
func (h contextual) WithAttrs(attrs []slog.Attr) slog.Handler {
	return contextual{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the attributes of the context.
func (h contextual) WithGroup(name string) slog.Handler { return contextual{h.Handler.WithGroup(name)} }
