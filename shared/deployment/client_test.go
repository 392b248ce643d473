package deployment

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/store"
)

func TestTheRecordedServiceIsPrinted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		value string
		err   error
		want  string
	}{
		"an emulator":      {`{"kind":"emulator","project":"p","by":"w","at":"2026-01-15T08:30:00Z"}`, nil, "EMULATOR"},
		"a real one":       {`{"kind":"real","host":"w.example.org","project":"p","by":"w","at":"2026-01-15T08:30:00Z"}`, nil, "REAL https://w.example.org p"},
		"a way to one":     {`{"kind":"real","host":"127.0.0.1:8443","project":"p","by":"w","at":"2026-01-15T08:30:00Z"}`, nil, "REAL 127.0.0.1:8443 p"},
		"nothing":          {"", store.ErrNotFound, "REAL (no worker has recorded yet which service it works on, so it counts as a real service)"},
		"no answer":        {"", errors.New("no\nanswer"), `REAL (read which service the deployment works on: no\nanswer, so it counts as a real service)`},
		"something else":   {`{"type":"io.nats.jetstream.api.v1.stream_info_response","kind":"emulator","project":"p"}`, nil, "REAL (the record of the deployment's service is damaged"},
		"no kind":          {`{"project":"p"}`, nil, "REAL ("},
		"another kind":     {`{"kind":"Emulator","project":"p"}`, nil, "REAL ("},
		"no project":       {`{"kind":"emulator"}`, nil, "REAL ("},
		"no JSON":          {`{`, nil, "REAL ("},
		"an escape inside": {`{"kind":"real","host":"\u001b[31m","project":"p"}`, nil, `REAL https://\x1b[31m p`},
	} {
		b := recorded(t.Context(), answering{value: test.value, err: test.err})
		require.True(t, strings.HasPrefix(b.String(), test.want), "%s: %s", name, b)
		require.Equal(t, test.want == "EMULATOR", b.Emulator(), name)
	}
}

// answering is a store that gives one answer.
type answering struct {
	store.Store
	value string
	err   error
}

func (a answering) Get(context.Context, string) ([]byte, store.Revision, error) {
	return []byte(a.value), 1, a.err
}
