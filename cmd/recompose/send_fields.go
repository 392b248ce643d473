package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/safety"
	"recompose/shared/textfile"
)

// kind is how a field of a command is given on the command line.
type kind int

const (
	asText  kind = iota // --image-name golden-1
	asWhole             // --delay-time 15
	asFlag              // --execute-sysprep=false
	asIDs               // --desktop-ids a,b; also --desktop-ids-file FILE
	asTags              // --image-tag k=v, repeated
	asThen              // --then-rebuild FILE
)

// field is one field of a command's data.
type field struct {
	name string // in JSON
	kind kind
	help string
}

// sendable is a command that `send` can send.
type sendable struct {
	function string
	short    string
	example  string
	fields   []field
	writes   bool
	decode   func(json.RawMessage) error
}

var rebuildOptions = []field{
	{"os_type", asText, "operating system of the image: " + strings.Join(events.OSTypes, ", ")},
	{"delay_time", asWhole, "minutes that users have to save their work"},
	{"message", asText, "told to the users before the rebuild, at most 400 characters"},
	{"order_id", asText, "order, where the rebuild was paid for"},
	{"enterprise_project_id", asText, "enterprise project"},
	{"encrypt_type", asText, "KEEP, UNENCRYPTED or ENCRYPTED"},
	{"kms_id", asText, "key for ENCRYPTED"},
	{"handle_type", asText, "ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE or FOR_EXPAND_AND_ALL (desktop pools)"},
	{"rebuild_current", asFlag, "rebuild also the desktops that run the image already"},
	{"allow_os_change", asFlag, "rebuild also desktops that run another operating system than the image has"},
}

var projectID = field{"project_id", asText, "refuse to act in any other project than this"}

// sendables are the public commands with all their fields.
var sendables = []sendable{
	{
		function: events.FnCheckImages, short: "Ask which image each desktop runs",
		example: "  recompose send checkimages --desktop-ids 1a2b,3c4d --wait",
		fields:  []field{projectID, {"desktop_ids", asIDs, "desktops to ask about"}},
		decode:  func(d json.RawMessage) error { _, err := events.DecodeCheckImages(d); return err },
	},
	{
		function: events.FnDesktopToImage, short: "Make an image of a desktop, and rebuild others from it",
		example: `  recompose send desktoptoimage --desktop-id 1a2b --image-name golden-1 --execute-sysprep=true --wait
  recompose send desktoptoimage --desktop-id 1a2b --image-name golden-1 --execute-sysprep=true \
    --then-rebuild fleet.txt --wait --failed-to failed.txt`,
		fields: []field{
			projectID,
			{"image_name", asText, "name of the new image; no other private image may have it"},
			{"image_description", asText, "description of the image"},
			{"desktop_id", asText, "desktop to capture; it restarts and cannot be used meanwhile"},
			{"execute_sysprep", asFlag, "seal the system first: true deletes the user profiles on the desktop (must be given)"},
			{"image_tags", asTags, "tag of the image, `KEY=VALUE`; repeated for more"},
			{"enterprise_project_id", asText, "enterprise project"},
			{"is_clear_data", asFlag, "delete the user data on the desktop (only without sysprep)"},
			{"max_ram", asText, "greatest memory of a desktop with the image, MB"},
			{"min_ram", asText, "smallest memory of a desktop with the image, MB"},
			{"then", asThen, "rebuild these from the image: a file with one desktop id a line, CSV with the column desktop_id, or then.rebuild as JSON"},
		},
		writes: true,
		decode: func(d json.RawMessage) error { _, err := events.DecodeDesktopToImage(d); return err },
	},
	{
		function: events.FnGetDesktop, short: "Ask for all that the service tells of a desktop",
		example: "  recompose send getdesktop --desktop-id 1a2b --wait --json",
		fields:  []field{projectID, {"desktop_id", asText, "desktop to ask about"}},
		decode:  func(d json.RawMessage) error { _, err := events.DecodeGetDesktop(d); return err },
	},
	{
		function: events.FnRebuild, short: "Rebuild desktops from an image; wipes their system disks",
		example: `  recompose send rebuild --desktop-ids-file fleet.txt --image-id 5e6f --image-type private \
    --delay-time 15 --message "Please save your work" --wait`,
		fields: append([]field{
			projectID,
			{"desktop_ids", asIDs, "desktops to rebuild"},
			{"image_type", asText, "gold (public), private or market"},
			{"image_id", asText, "image to rebuild from"},
		}, rebuildOptions...),
		writes: true,
		decode: func(d json.RawMessage) error { _, err := events.DecodeRebuild(d); return err },
	},
}

// flagName is the flag of a field.
func (f field) flagName() string {
	switch f.kind {
	case asTags:
		return "image-tag"
	case asThen:
		return "then-rebuild"
	default:
		return strings.ReplaceAll(f.name, "_", "-")
	}
}

// dataFlags are the ways to give the data of a command.
type dataFlags struct {
	inline    string
	file      string
	unchecked bool // words that the service is not known to take are let through
}

// define gives the command a flag for each field, and --data and -f for the whole.
func (s sendable) define(cmd *cobra.Command, d *dataFlags) {
	flags := cmd.Flags()
	for _, f := range s.fields {
		switch f.kind {
		case asFlag:
			flags.Bool(f.flagName(), false, f.help)
		case asIDs:
			addList(flags, new([]string), f.flagName(), f.help+"; by comma, one a line, or repeated")
			flags.String(f.flagName()+"-file", "", f.help+": a `FILE` with one id a line, # begins a comment, or CSV with the column desktop_id; - is standard input")
		case asTags:
			flags.StringArray(f.flagName(), nil, f.help)
		case asThen:
			flags.String(f.flagName(), "", f.help+" (`FILE`; - is standard input)")
		default:
			flags.String(f.flagName(), "", f.help)
		}
	}
	flags.StringVar(&d.inline, "data", "", "the data as `JSON`, instead of flags for its fields")
	flags.StringVarP(&d.file, "file", "f", "", "`FILE` with the data as JSON; - is standard input")
	if s.writes {
		flags.BoolVar(&d.unchecked, uncheckedFlag, false, "take any word as image_type and os_type, also one that the service is not known to take")
	}
}

// data is what the flags say, checked by the rules of the command. Every error is wrong use.
func (s sendable) data(cmd *cobra.Command, d dataFlags) (json.RawMessage, error) {
	raw, err := s.compose(cmd, d)
	if err == nil {
		err = s.decode(raw)
	}
	if err == nil && s.writes && !d.unchecked {
		err = checkWords(raw)
	}
	if invalid := new(events.InvalidError); errors.As(err, &invalid) {
		lines := make([]string, len(invalid.Faults))
		for i, f := range invalid.Faults {
			lines[i] = "  " + f.String()
		}
		err = fmt.Errorf("%s cannot be sent so:\n%s", s.function, strings.Join(lines, "\n"))
	}
	if err != nil {
		return nil, wrongUse(err)
	}
	return raw, nil
}

func (s sendable) compose(cmd *cobra.Command, d dataFlags) (json.RawMessage, error) {
	fields, err := s.fromFlags(cmd)
	if err != nil {
		return nil, err
	}
	given := len(fields) > 0
	switch {
	case d.inline != "" && d.file != "", given && (d.inline != "" || d.file != ""):
		return nil, errors.New("give the data in one way: by flags for its fields, by --data, or by -f")
	case d.inline != "":
		return bytes.TrimPrefix([]byte(d.inline), []byte("\ufeff")), nil // of "$(cat FILE)"
	case d.file != "":
		return readInput(cmd, d.file)
	default:
		return json.Marshal(fields)
	}
}

// fromFlags are the fields whose flags were given.
func (s sendable) fromFlags(cmd *cobra.Command) (map[string]any, error) {
	flags := cmd.Flags()
	fields := map[string]any{}
	for _, f := range s.fields {
		if f.kind == asIDs {
			ids, err := givenIDs(cmd, f.flagName())
			if err != nil {
				return nil, err
			}
			if ids != nil {
				fields[f.name] = ids
			}
			continue
		}
		given := flags.Lookup(f.flagName())
		if !given.Changed {
			continue
		}
		value, err := f.read(cmd, given)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", f.flagName(), err)
		}
		fields[f.name] = value
	}
	return fields, nil
}

func (f field) read(cmd *cobra.Command, given *pflag.Flag) (any, error) {
	value := given.Value.String()
	switch f.kind {
	case asFlag:
		return value == "true", nil
	case asWhole:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("must be a whole number; got %q", value)
		}
		return n, nil
	case asTags:
		pairs, err := cmd.Flags().GetStringArray(given.Name)
		if err != nil {
			return nil, err
		}
		list := make([]events.Tag, 0, len(pairs))
		for _, pair := range pairs {
			key, value, ok := strings.Cut(pair, "=")
			if !ok || key == "" {
				return nil, fmt.Errorf("must be key=value; got %q", pair)
			}
			list = append(list, events.Tag{Key: key, Value: value})
		}
		return list, nil
	case asThen:
		content, err := readInput(cmd, value)
		if err != nil {
			return nil, err
		}
		if trimmed := bytes.TrimSpace(content); len(trimmed) > 0 && trimmed[0] == '{' {
			return map[string]json.RawMessage{"rebuild": trimmed}, validJSON(trimmed)
		}
		ids, err := readIDs(bytes.NewReader(content), value)
		return map[string]any{"rebuild": map[string]any{"desktop_ids": notNil(ids)}}, err
	default:
		return value, nil
	}
}

// givenIDs are the ids of a list flag and of the file beside it; nil if neither was given.
func givenIDs(cmd *cobra.Command, name string) ([]string, error) {
	flags := cmd.Flags()
	var ids []string
	if list, ok := flags.Lookup(name).Value.(listFlag); ok && flags.Changed(name) {
		ids = notNil(*list.items)
	}
	if file := name + "-file"; flags.Changed(file) {
		path, err := flags.GetString(file)
		if err != nil {
			return nil, err
		}
		more, err := readIDFile(cmd, path)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", file, err)
		}
		ids = append(notNil(ids), more...)
	}
	return ids, nil
}

// readIDFile reads the ids of a file, or of standard input where it is -.
func readIDFile(cmd *cobra.Command, path string) ([]string, error) {
	in, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // only read
	return readIDs(in, path)
}

// readIDs reads the ids of one command. The error is one for the file, however many ids are wrong.
func readIDs(in io.Reader, path string) ([]string, error) {
	if path == "-" {
		path = "standard input"
	}
	ids, err := safety.ReadIDs(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	seen, twice := make(map[string]bool, len(ids)), []string{}
	for _, id := range ids {
		if key := strings.ToLower(id); seen[key] {
			twice = append(twice, id)
		} else {
			seen[key] = true
		}
	}
	if len(twice) > 0 {
		return nil, fmt.Errorf("%s: desktops are in the file twice, letter case apart; name each once: %s", path, some(twice))
	}
	return ids, nil
}

func validJSON(raw json.RawMessage) error {
	var into map[string]json.RawMessage
	if err := json.Unmarshal(raw, &into); err != nil {
		return fmt.Errorf("is neither a list of ids nor JSON: %w", err)
	}
	return nil
}

func notNil(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids
}

// readInput reads a file, or standard input where it is -. More than a message can hold is not read to its end.
func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	return readAtMost(cmd, path, 4*events.MaxMessage)
}

// readAtMost reads the text of a file, or of standard input where it is -. One with more bytes is an error.
func readAtMost(cmd *cobra.Command, path string, most int) ([]byte, error) {
	in, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(in, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > most {
		return nil, fmt.Errorf("%s has more than %d bytes, and may have no more", path, most)
	}
	if content, err = textfile.Decode(content); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return content, nil
}

// openInput opens a file, or standard input where it is -.
func openInput(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(path)
}

const uncheckedFlag = "image-type-unchecked"

// checkWords refuses an image_type or os_type that the service is not known to take: it keeps both lists open, and most
// often another word is misspelt. The data has been decoded by the rules of its command.
func checkWords(data json.RawMessage) error {
	var given struct {
		ImageType string `json:"image_type"`
		OSType    string `json:"os_type"`
		Then      struct {
			Rebuild struct {
				OSType string `json:"os_type"`
			} `json:"rebuild"`
		} `json:"then"`
	}
	if err := json.Unmarshal(data, &given); err != nil {
		return err
	}
	var unknown []string
	for _, f := range []struct {
		field, value string
		known        []string
	}{
		{"image_type", given.ImageType, events.ImageTypes}, {"os_type", given.OSType, events.OSTypes},
		{"then.rebuild.os_type", given.Then.Rebuild.OSType, events.OSTypes},
	} {
		if f.value != "" && !slices.Contains(f.known, f.value) {
			unknown = append(unknown, fmt.Sprintf("  %s: must be one of %s; got %q", f.field, strings.Join(f.known, ", "), f.value))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("words that the service is not known to take:\n%s\n--%s sends them all the same", strings.Join(unknown, "\n"), uncheckedFlag)
}
