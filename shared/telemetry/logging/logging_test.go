package logging

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNew(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log, err := New(&b, "warn", JSON)
	require.NoError(t, err)
	log.Info("not written")
	log.Warn("written", KeyCommand, "c1")
	var line map[string]any
	require.NoError(t, json.Unmarshal([]byte(b.String()), &line))
	require.Equal(t, "written", line["msg"])
	require.Equal(t, "c1", line["command_id"])

	b.Reset()
	log, err = New(&b, "debug", Text)
	require.NoError(t, err)
	log.Debug("hello", "job_id", "j 1")
	require.Contains(t, b.String(), `msg=hello job_id="j 1"`)

	_, err = New(&b, "loud", Text)
	require.ErrorContains(t, err, `"loud"`)
	_, err = New(&b, "info", "xml")
	require.ErrorContains(t, err, `"xml"`)
	Silent().Error("nowhere")
}

func TestLinesHaveTheAttributesOfTheirContext(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	log, err := New(&b, "info", Text)
	require.NoError(t, err)
	log = slog.New(Contextual(log.Handler())).With(KeyFunction, "rebuild")
	ctx := With(With(t.Context(), slog.String(KeyCommand, "c1")), slog.String(KeyCorrelation, "nightly"))
	log.InfoContext(ctx, "hello", "job_id", "j1")
	require.Contains(t, b.String(), "msg=hello function=rebuild job_id=j1 command_id=c1 correlation_id=nightly\n")
	b.Reset()
	log.Info("hello")
	require.Contains(t, b.String(), "msg=hello function=rebuild\n")
}
