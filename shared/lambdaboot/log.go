package lambdaboot

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"recompose/shared/config"
	"recompose/shared/telemetry/logging"
)

// newLog returns a logger in the JSON form of Lambda's own log lines, from RECOMPOSE_LOG_LEVEL on: every line of an
// invocation has its requestId. An invalid level counts as info here; the settings report it with all other faults.
func newLog(w io.Writer) *slog.Logger {
	var least slog.Level // zero: info
	_ = least.UnmarshalText([]byte(cmp.Or(os.Getenv("RECOMPOSE_LOG_LEVEL"), config.Default().LogLevel)))
	return slog.New(logging.Contextual(requests{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: least, ReplaceAttr: lambdacontext.ReplaceAttr})}))
}

// requests adds the id of the invocation to each line.
type requests struct{ slog.Handler }

// Handle writes a line.
func (h requests) Handle(ctx context.Context, r slog.Record) error {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		r.AddAttrs(slog.String("requestId", lc.AwsRequestID))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps the id.
func (h requests) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requests{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the id.
func (h requests) WithGroup(name string) slog.Handler { return requests{h.Handler.WithGroup(name)} }
