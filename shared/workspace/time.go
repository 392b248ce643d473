package workspace

import (
	"encoding/json"
	"strings"
	"time"
)

// Time is a time of the service, which writes them in several forms: with milliseconds and Z, without, and as
// YYYY-MM-DD hh:mm:ss without a zone. A time without a zone is read as UTC, but that is a guess: check Zoned before
// relying on it. Marshalling gives RFC 3339 in UTC, or Raw if Raw could not be parsed. Zoned is true for a time that
// is read back after marshalling.
type Time struct {
	// Time is in UTC, and zero if Raw could not be parsed.
	time.Time
	// Raw is the text of the service, "" if there was none.
	Raw string
	// Zoned reports whether the service stated a zone.
	Zoned bool
}

// ParseTime reads any of the service's forms. It never fails: a text in no known form is kept in Raw.
func ParseTime(raw string) Time {
	text := strings.ToUpper(raw) // RFC 3339 allows t and z in lower case too, and there are no other letters
	for _, form := range [...]struct {
		layout string
		zoned  bool
	}{
		{time.RFC3339, true},
		{"2006-01-02 15:04:05", false},
		{"2006-01-02T15:04:05", false},
		{"2006-01-02T15:04:05Z0700", true},
		{"2006-01-02 15:04:05Z07:00", true},
		{"2006-01-02 15:04:05Z0700", true},
		{"2006-01-02 15:04:05 Z0700", true},
	} {
		// time.Parse accepts a fraction of a second with each of these layouts.
		t, err := time.Parse(form.layout, text)
		if err != nil {
			continue
		}
		t = t.UTC()
		if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
			break
		}
		return Time{Time: t, Raw: raw, Zoned: form.zoned}
	}
	return Time{Raw: raw}
}

// IsZero reports whether there is no usable time; Raw may still hold a text.
func (t Time) IsZero() bool { return t.Time.IsZero() }

// String returns the published form: RFC 3339 in UTC, or Raw.
func (t Time) String() string {
	if t.Time.IsZero() {
		return strings.ToValidUTF8(t.Raw, "\uFFFD")
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// MarshalJSON writes String as a JSON text.
func (t Time) MarshalJSON() ([]byte, error) { return json.Marshal(t.String()) }

// UnmarshalJSON reads any scalar; null is the zero Time.
func (t *Time) UnmarshalJSON(data []byte) error {
	s, ok := scalar(data)
	if !ok {
		return errNoScalar
	}
	*t = ParseTime(s)
	return nil
}
