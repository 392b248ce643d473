package queue_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/telemetry/logging"
)

// TestEachLineAboutAMessageNamesItsChain looks at lines of Process and at those that a function writes itself.
func TestEachLineAboutAMessageNamesItsChain(t *testing.T) {
	t.Parallel()
	body := `{"specversion":"1.0","id":"c1","source":"s","type":"recompose.command.getdesktop.v1","correlationid":"nightly","data":{}}`
	for name, verdict := range map[string]error{
		"done": nil, "failed": queue.Failed(events.KindRefused, "no"), "permanent": queue.Permanent(errors.New("no")),
		"later": queue.RetryAfter(1, errors.New("no")), "unexpected": errors.New("no"), "stop": queue.Stop(errors.New("no")),
	} {
		for _, deliveries := range []int{1, queue.MaxDeliveries + 1} {
			var b strings.Builder
			log, err := logging.New(&b, "debug", logging.Text)
			require.NoError(t, err)
			f := queue.Function{Name: events.FnGetDesktop, Types: []string{events.TypeGetDesktop}, Handle: func(ctx context.Context, _ queue.Command) ([]queue.Outcome, error) {
				log.WarnContext(ctx, "the function's own line")
				return nil, verdict
			}}
			d := queue.Delivery{Body: []byte(body), Deliveries: deliveries}
			result := queue.Processor{Log: log}.Process(t.Context(), f, d)
			if result.Retry == nil && (verdict != nil || deliveries > 1) {
				require.Equal(t, "nightly", result.Correlation(), name)
			}
			require.NotEmpty(t, b.String())
			for line := range strings.Lines(b.String()) {
				require.Contains(t, line, "command_id=c1 correlation_id=nightly", name)
				require.Equal(t, 1, strings.Count(line, "correlation_id="), line)
			}
		}
	}
}

func TestALogThatKnowsNoContextNamesTheChainToo(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	f := queue.Function{Name: events.FnGetDesktop, Types: []string{events.TypeGetDesktop}, Handle: func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Failed(events.KindRefused, "no")
	}}
	d := queue.Delivery{Body: []byte(`{"specversion":"1.0","id":"c1","source":"s","type":"recompose.command.getdesktop.v1","data":{}}`), Deliveries: 1}
	queue.Processor{Log: slog.New(slog.NewTextHandler(&b, nil))}.Process(t.Context(), f, d)
	require.Contains(t, b.String(), "correlation_id=c1")
}

// A command that ends by its ledger record, in an outcome and not in an error, is logged as any other one that fails.
func TestEachFailedCommandIsLogged(t *testing.T) {
	t.Parallel()
	failed := queue.Failed(events.KindRefused, "the desktop is busy")
	failed.Effect = events.EffectUnknown
	for name, handle := range map[string]func(queue.Command) ([]queue.Outcome, error){
		"an error":  func(queue.Command) ([]queue.Outcome, error) { return nil, failed },
		"an end":    func(c queue.Command) ([]queue.Outcome, error) { return []queue.Outcome{failed.Outcome(c)}, nil },
		"a success": func(queue.Command) ([]queue.Outcome, error) { return accepted(), nil },
	} {
		var b strings.Builder
		log, err := logging.New(&b, "info", logging.Text)
		require.NoError(t, err)
		r := setup(t)
		r.Log = log
		r.Handle = func(_ context.Context, c queue.Command) ([]queue.Outcome, error) { return handle(c) }
		r.process(t, delivery(t, command()))
		if name == "a success" {
			require.Empty(t, b.String(), name)
			continue
		}
		require.Equal(t, 1, strings.Count(b.String(), "\n"), b.String())
		for _, part := range []string{
			"level=INFO", `msg="command failed"`, "command_id=rebuild-1", "function=rebuild", "kind=refused", "effect=unknown", `error="the desktop is busy"`,
		} {
			require.Contains(t, b.String(), part, name)
		}
	}
}
