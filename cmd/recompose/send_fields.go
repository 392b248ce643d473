package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/chain"
)

// sendable is a command that `send` can send.
type sendable struct {
	events.Command
	example string
}

// examples are for commands whose required fields alone are no good example.
var examples = map[string]string{
	events.FnCheckImages: "  recompose send checkimages --desktop-ids 1a2b,3c4d --wait",
	events.FnDesktopToImage: `  recompose send desktoptoimage --desktop-id 1a2b --image-name golden-1 --execute-sysprep=true --wait
  recompose send desktoptoimage --desktop-id 1a2b --image-name golden-1 --execute-sysprep=true \
    --then-rebuild fleet.txt --wait --failed-to failed.txt`,
	events.FnListDesktops: "  recompose send listdesktops --status ACTIVE --tag ring=a --fields image_id,login_status --wait --json",
	events.FnListImages:   "  recompose send listimages --image-type private --wait --json",
	events.FnRebuild: `  recompose send rebuild --desktop-ids-file fleet.txt --image-id 5e6f --image-type private \
    --delay-time 15 --message "Please save your work" --wait`,
}

// sendables are the commands with fields. Those of a rollout have commands of their own.
var sendables = withFields()

func withFields() (all []sendable) {
	for _, c := range events.Commands {
		if c.Fields != nil {
			all = append(all, sendable{c, cmp.Or(examples[c.Function], plainExample(c))})
		}
	}
	return all
}

// plainExample has the required fields.
func plainExample(c events.Command) string {
	line := "  recompose send " + c.Function
	for _, f := range c.Fields {
		if f.Required {
			line += " --" + flagName(f) + " 1a2b"
		}
	}
	return line + " --wait --json"
}

// sendableOf returns the public command of a function; false if it has none.
func sendableOf(function string) (sendable, bool) {
	i := slices.IndexFunc(sendables, func(s sendable) bool { return s.Function == function })
	if i < 0 {
		return sendable{}, false
	}
	return sendables[i], true
}

// flagName returns the flag of a field.
func flagName(f events.Field) string {
	switch f.Kind {
	case events.FieldTags:
		return "image-tag"
	case events.FieldTagMap:
		return "tag"
	case events.FieldThen:
		return "then-rebuild"
	default:
		return strings.ReplaceAll(f.Name, "_", "-")
	}
}

// dataFlags are the ways to give the data of a command.
type dataFlags struct {
	inline    string
	file      string
	unchecked bool // send words too that the service is not known to accept
}

// define adds a flag for each field, and --data and -f for the complete data.
func (s sendable) define(cmd *cobra.Command, d *dataFlags) {
	flags := cmd.Flags()
	s.defineFields(flags)
	flags.StringVar(&d.inline, "data", "", "the data as `JSON`, instead of flags for its fields")
	flags.StringVarP(&d.file, "file", "f", "", "`FILE` with the data as JSON; - is standard input")
	if !s.Reads() {
		flags.BoolVar(&d.unchecked, uncheckedFlag, false,
			"accept any word as image_type and os_type, also one that the service is not known to accept")
	}
}

// defineFields adds a flag for each field that is not left out.
func (s sendable) defineFields(flags *pflag.FlagSet, without ...string) {
	for _, f := range s.Fields {
		if slices.Contains(without, f.Name) {
			continue
		}
		switch f.Kind {
		case events.FieldBool:
			flags.Bool(flagName(f), false, f.Help)
		case events.FieldIDs:
			addList(flags, new([]string), flagName(f), f.Help+"; by comma, one a line, or repeated")
			flags.String(flagName(f)+"-file", "",
				f.Help+": a `FILE` with one id a line, # begins a comment, or CSV with the column desktop_id; - is standard input")
		case events.FieldNames:
			addList(flags, new([]string), flagName(f), f.Help+"; by comma, or repeated")
		case events.FieldTags, events.FieldTagMap:
			flags.StringArray(flagName(f), nil, f.Help)
		case events.FieldThen:
			flags.String(flagName(f), "", f.Help+" (`FILE`; - is standard input)")
		default:
			flags.String(flagName(f), "", f.Help)
		}
	}
}

// data returns the data of the flags, checked by the rules of the command. Every error is a usage error.
func (s sendable) data(cmd *cobra.Command, d dataFlags) (json.RawMessage, error) {
	raw, err := s.compose(cmd, d)
	if err == nil {
		err = events.CheckData(s.Type, raw)
	}
	heading, wayOut := "invalid "+s.Function+" command:", ""
	if err == nil && !s.Reads() && !d.unchecked { // a word that the service is not known to accept is most likely misspelt
		if unknown := events.UnknownWords(s.Fields, raw); len(unknown) > 0 {
			err = &events.InvalidError{Faults: unknown}
			heading, wayOut = "words that the service is not known to accept:", "\n--"+uncheckedFlag+" sends them nevertheless"
		}
	}
	if d.inline == "" && d.file == "" {
		err = byFlags(cmd, err)
	}
	if invalid, ok := errors.AsType[*events.InvalidError](err); ok {
		err = errors.New(heading + faultLines(invalid) + wayOut)
	}
	if err != nil {
		return nil, wrongUse(err)
	}
	return raw, nil
}

// faultLines has each fault on a line of its own.
func faultLines(invalid *events.InvalidError) string {
	var b strings.Builder
	for _, f := range invalid.Faults {
		b.WriteString("\n  " + f.String())
	}
	if invalid.More > 0 {
		fmt.Fprintf(&b, "\n  and %s", chain.Count(invalid.More, "more fault"))
	}
	return b.String()
}

func (s sendable) compose(cmd *cobra.Command, d dataFlags) (json.RawMessage, error) {
	fields, err := s.fromFlags(cmd)
	if err != nil {
		return nil, err
	}
	given := len(fields) > 0
	switch {
	case d.inline != "" && d.file != "", given && (d.inline != "" || d.file != ""):
		return nil, errors.New("give the data either by flags for its fields, by --data, or by -f")
	case d.inline != "":
		return bytes.TrimPrefix([]byte(d.inline), []byte("\ufeff")), nil // "$(cat FILE)" may begin with a byte order mark
	case d.file != "":
		content, err := readInput(cmd, d.file)
		if err == nil && len(bytes.TrimSpace(content)) == 0 {
			err = fmt.Errorf("%s is empty", inputName(d.file))
		}
		if err != nil {
			return nil, fmt.Errorf("-f: %w", err)
		}
		return content, nil
	default:
		return json.Marshal(fields)
	}
}

// fromFlags returns the fields whose flags were given.
func (s sendable) fromFlags(cmd *cobra.Command) (map[string]any, error) {
	flags := cmd.Flags()
	fields := map[string]any{}
	for _, f := range s.Fields {
		if flags.Lookup(flagName(f)) == nil {
			continue
		}
		if f.Kind == events.FieldIDs {
			ids, err := givenIDs(cmd, flagName(f))
			if err != nil {
				return nil, err
			}
			if ids != nil {
				fields[f.Name] = ids
			}
			continue
		}
		given := flags.Lookup(flagName(f))
		if !given.Changed {
			continue
		}
		value, err := readField(cmd, f, given)
		if !utf8.ValidString(given.Value.String()) && f.Kind != events.FieldThen { // which is the name of a file
			err = errors.New("must be UTF-8")
		}
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flagName(f), err)
		}
		fields[f.Name] = value
	}
	return fields, nil
}

func readField(cmd *cobra.Command, f events.Field, given *pflag.Flag) (any, error) {
	value := given.Value.String()
	switch f.Kind {
	case events.FieldBool:
		return value == "true", nil
	case events.FieldWhole:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("must be a whole number: %s; got %q", f.Help, value)
		}
		return n, nil
	case events.FieldTags:
		return givenTags(cmd, given.Name)
	case events.FieldTagMap:
		tags, err := givenTags(cmd, given.Name)
		byKey := make(map[string]string, len(tags))
		for _, tag := range tags {
			if _, twice := byKey[tag.Key]; twice {
				return nil, fmt.Errorf("the key %q is given twice; a desktop has each key once", tag.Key)
			}
			byKey[tag.Key] = tag.Value
		}
		return byKey, err
	case events.FieldNames:
		if list, ok := given.Value.(listFlag); ok {
			return notNil(*list.items), nil
		}
		return value, nil
	case events.FieldThen:
		content, err := readInput(cmd, value)
		if err != nil {
			return nil, err
		}
		if trimmed := bytes.TrimSpace(content); len(trimmed) > 0 && trimmed[0] == '{' {
			return map[string]json.RawMessage{"rebuild": trimmed}, validJSON(trimmed)
		}
		ids, err := readIDs(bytes.NewReader(content), value)
		return map[string]any{"rebuild": map[string]any{"desktop_ids": ids}}, err
	default:
		return value, nil
	}
}

// givenTags returns the tags of a flag, in order.
func givenTags(cmd *cobra.Command, name string) ([]events.Tag, error) {
	pairs, err := cmd.Flags().GetStringArray(name)
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
}

// givenIDs returns the ids of a list flag and of its -file flag; nil if neither was given.
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
		ids = append(ids, more...)
	}
	return ids, nil
}

const uncheckedFlag = "image-type-unchecked"
