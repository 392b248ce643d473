package events

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// FieldKind is the JSON form of a field of a command.
type FieldKind int

// The kinds of fields.
const (
	FieldText   FieldKind = iota // a string
	FieldWhole                   // a whole number
	FieldBool                    // true or false
	FieldIDs                     // a list of ids
	FieldTags                    // a list of tags
	FieldThen                    // a [Then]
	FieldTagMap                  // an object of keys and values
	FieldNames                   // a list of words
)

// Field describes a field of a command's data.
type Field struct {
	Name     string // in JSON
	Kind     FieldKind
	Help     string
	Required bool
	Words    []string // known values; nil if any value is valid
	Open     bool     // other values than Words are decoded too
}

var (
	projectIDField = Field{Name: "project_id", Help: "refuse to act in any other project than this"}

	rebuildOptionFields = []Field{
		{Name: "os_type", Help: "operating system of the image: " + strings.Join(OSTypes, ", "), Words: OSTypes, Open: true},
		{Name: "delay_time", Kind: FieldWhole, Help: "minutes that users have to save their work"},
		{Name: "message", Help: "shown to the users before the rebuild, at most 400 characters"},
		{Name: "order_id", Help: "order, if the rebuild was paid for"},
		{Name: "enterprise_project_id", Help: "enterprise project"},
		{Name: "encrypt_type", Help: "KEEP, UNENCRYPTED or ENCRYPTED", Words: EncryptTypes},
		{Name: "kms_id", Help: "key for ENCRYPTED"},
		{Name: "handle_type", Help: "ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE or FOR_EXPAND_AND_ALL (desktop pools)",
			Words: HandleTypes},
		{Name: "rebuild_current", Kind: FieldBool, Help: "rebuild also the desktops that run the image already"},
		{Name: "allow_os_change", Kind: FieldBool,
			Help: "rebuild also desktops that run another operating system than the image has"},
		{Name: "when_busy", Help: "wait (the default) until busy desktops are free, or fail: end with a conflict", Words: WhenBusyWords},
		{Name: "override_rollout", Kind: FieldBool, Help: "rebuild also the desktops that a rollout holds"},
	}
)

// ThenRebuildFields returns the fields of then.rebuild of a desktoptoimage command.
func ThenRebuildFields() []Field {
	return append([]Field{{Name: "desktop_ids", Kind: FieldIDs, Required: true, Help: "desktops to rebuild"}},
		rebuildOptionFields...)
}

// UnknownWords returns a fault for each word in the data that is not known, although its field accepts any word: most
// likely it is misspelt. The data has been decoded by the rules of the command with these fields.
func UnknownWords(fields []Field, data json.RawMessage) []Fault {
	return unknownWords("", fields, data)
}

func unknownWords(prefix string, fields []Field, data json.RawMessage) (unknown []Fault) {
	var given map[string]json.RawMessage
	_ = json.Unmarshal(data, &given)
	for _, f := range fields {
		if f.Kind == FieldThen {
			var then struct{ Rebuild json.RawMessage }
			_ = json.Unmarshal(given[f.Name], &then)
			unknown = append(unknown, unknownWords(f.Name+".rebuild.", ThenRebuildFields(), then.Rebuild)...)
		}
		var word string
		if f.Open && json.Unmarshal(given[f.Name], &word) == nil && word != "" && !slices.Contains(f.Words, word) {
			unknown = append(unknown, Fault{prefix + f.Name, "must be one of " + strings.Join(f.Words, ", "),
				shorten(strconv.Quote(word))})
		}
	}
	return unknown
}
