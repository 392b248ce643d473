package events

import (
	"encoding/json"
	"fmt"
	"slices"
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

	commandFields = map[string][]Field{
		FnCheckImages: {projectIDField, {Name: "desktop_ids", Kind: FieldIDs, Required: true, Help: "desktops to check"}},
		FnDesktopToImage: {
			projectIDField,
			{Name: "image_name", Required: true, Help: "name of the new image; no other private image may have it"},
			{Name: "image_description", Help: "description of the image"},
			{Name: "desktop_id", Required: true, Help: "desktop to capture; it restarts and cannot be used meanwhile"},
			{Name: "execute_sysprep", Kind: FieldBool, Required: true,
				Help: "seal the system first: true deletes the user profiles on the desktop (must be given)"},
			{Name: "image_tags", Kind: FieldTags, Help: "tag of the image, `KEY=VALUE`; repeated for more"},
			{Name: "enterprise_project_id", Help: "enterprise project"},
			{Name: "is_clear_data", Kind: FieldBool, Help: "delete the user data on the desktop (only without sysprep)"},
			{Name: "max_ram", Help: "greatest memory of a desktop with the image, MB"},
			{Name: "min_ram", Help: "smallest memory of a desktop with the image, MB"},
			{Name: "then", Kind: FieldThen,
				Help: "rebuild these from the image: a file with one desktop id a line, CSV with the " +
					"column desktop_id, or then.rebuild as JSON"},
		},
		FnGetDesktop: {projectIDField, {Name: "desktop_id", Required: true, Help: "desktop to read"}},
		FnListDesktops: {
			projectIDField,
			{Name: "desktop_ids", Kind: FieldIDs, Help: "desktops to list, at most 100"},
			{Name: "image_id", Help: "desktops that run this image"},
			{Name: "status", Help: "desktops with this status: " + strings.Join(DesktopStatuses, ", "), Words: DesktopStatuses, Open: true},
			{Name: "enterprise_project_id", Help: "desktops of this enterprise project"},
			{Name: "pool_id", Help: "desktops of this pool"},
			{Name: "tags", Kind: FieldTagMap, Help: "desktops with this tag, `KEY=VALUE`; repeated for more"},
			{Name: "user_attached", Kind: FieldBool, Help: "desktops that are assigned to a user, or with false to none"},
			{Name: "computer_name", Help: "the desktop with this whole name"},
			{Name: "fields", Kind: FieldNames, Help: "fields of each row; all but " + RowUsers + " by default"},
		},
		FnListImages: {
			projectIDField,
			{Name: "image_type", Help: "gold (public) or private", Words: ListedImageTypes},
			{Name: "name", Help: "the image with this whole name"},
			{Name: "image_id", Help: "the image with this id"},
		},
		FnRebuild: append([]Field{
			projectIDField,
			{Name: "desktop_ids", Kind: FieldIDs, Required: true, Help: "desktops to rebuild"},
			{Name: "image_type", Required: true, Help: "gold (public), private or market", Words: ImageTypes, Open: true},
			{Name: "image_id", Required: true, Help: "image to rebuild from"},
		}, rebuildOptionFields...),
	}
)

// Fields returns the fields of a function's public command, in the order of the documentation; nil for a function
// without one.
func Fields(function string) []Field { return slices.Clone(commandFields[function]) }

// ThenRebuildFields returns the fields of then.rebuild of a desktoptoimage command.
func ThenRebuildFields() []Field {
	return append([]Field{{Name: "desktop_ids", Kind: FieldIDs, Required: true, Help: "desktops to rebuild"}},
		rebuildOptionFields...)
}

// UnknownWords returns a text for each word in the data that is not known, although its field accepts any word: most
// likely it is misspelt. The data has been decoded by the rules of the command with these fields.
func UnknownWords(fields []Field, data json.RawMessage) []string {
	return unknownWords("", fields, data)
}

func unknownWords(prefix string, fields []Field, data json.RawMessage) (unknown []string) {
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
			unknown = append(unknown, fmt.Sprintf("%s%s: must be one of %s; got %q", prefix, f.Name,
				strings.Join(f.Words, ", "), word))
		}
	}
	return unknown
}
