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
	for name, c := range map[string]struct {
		fields []events.Field
		decode func(json.RawMessage) error
		data   string
		prefix string
	}{
		"checkimages": {events.Fields(events.FnCheckImages),
			func(d json.RawMessage) error { _, err := events.DecodeCheckImages(d); return err }, `{"nosuch":1}`, ""},
		"desktoptoimage": {events.Fields(events.FnDesktopToImage),
			func(d json.RawMessage) error { _, err := events.DecodeDesktopToImage(d); return err }, `{"nosuch":1}`, ""},
		"then.rebuild": {events.ThenRebuildFields(),
			func(d json.RawMessage) error {
				_,
					err := events.DecodeDesktopToImage(d)
				return err
			}, `{"then":{"rebuild":{"nosuch":1}}}`, "then.rebuild."},
		"getdesktop": {events.Fields(events.FnGetDesktop),
			func(d json.RawMessage) error { _, err := events.DecodeGetDesktop(d); return err }, `{"nosuch":1}`, ""},
		"listdesktops": {events.Fields(events.FnListDesktops),
			func(d json.RawMessage) error { _, err := events.DecodeListDesktops(d); return err }, `{"nosuch":1}`, ""},
		"listimages": {events.Fields(events.FnListImages),
			func(d json.RawMessage) error { _, err := events.DecodeListImages(d); return err }, `{"nosuch":1}`, ""},
		"rebuild": {events.Fields(events.FnRebuild),
			func(d json.RawMessage) error { _, err := events.DecodeRebuild(d); return err }, `{"nosuch":1}`, ""},
	} {
		faults := faultsOf(c.decode(json.RawMessage(c.data)))
		var names []string
		for _, f := range c.fields {
			names = append(names, f.Name)
			require.Equal(t, f.Required, strings.HasPrefix(faults[c.prefix+f.Name], "must be given"), "%s: %s", name, f.Name)
		}
		require.Equal(t, "is not a field here; the fields are "+strings.Join(names, ", "), faults[c.prefix+"nosuch"], name)
	}
	require.Nil(t, events.Fields(events.FnWatchJob))
}

func TestClosedWordsAreTheOnlyValues(t *testing.T) {
	t.Parallel()
	for _, f := range events.Fields(events.FnRebuild) {
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
