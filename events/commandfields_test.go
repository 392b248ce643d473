package events_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// The table of fields has the names, the order and the required fields of the decoders.
func TestFieldsAreThoseOfTheDecoders(t *testing.T) {
	t.Parallel()
	faultsOf := func(err error) map[string]string {
		invalid := new(events.InvalidError)
		require.True(t, errors.As(err, &invalid), "%v", err)
		faults := map[string]string{}
		for _, f := range invalid.Faults {
			faults[f.Field] = f.Rule
		}
		return faults
	}
	check := func(fields []events.Field, err error, prefix string) {
		faults := faultsOf(err)
		var names []string
		for _, f := range fields {
			names = append(names, f.Name)
			require.Equal(t, f.Required, strings.HasPrefix(faults[prefix+f.Name], "must be given"), "%v: %s", err, f.Name)
		}
		require.Equal(t, "is not a field here; the fields are "+strings.Join(names, ", "), faults[prefix+"nosuch"])
	}
	for _, c := range events.Commands {
		if c.Fields != nil {
			_, err := c.Decode(json.RawMessage(`{"nosuch":1}`))
			check(c.Fields, err, "")
		}
	}
	_, err := events.DecodeDesktopToImage(json.RawMessage(`{"then":{"rebuild":{"nosuch":1}}}`))
	check(events.ThenRebuildFields(), err, "then.rebuild.")
}

func TestClosedWordsAreTheOnlyValues(t *testing.T) {
	t.Parallel()
	for _, f := range events.CommandOf(events.FnRebuild).Fields {
		if f.Words == nil {
			continue
		}
		for _, word := range append(f.Words, "nosuch") {
			data := map[string]any{"desktop_ids": []string{"d"}, "image_type": "private", "image_id": "i", "kms_id": "k"}
			data[f.Name] = word
			raw, err := json.Marshal(data)
			require.NoError(t, err)
			_, err = events.DecodeRebuild(raw)
			require.Equal(t, word == "nosuch" && !f.Open, err != nil, "%s %s: %v", f.Name, word, err)
		}
	}
}
