package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/rollout"
)

// fieldFlags are the flags of fields that have another name: of the data of commands, and of their envelope.
var fieldFlags = otherNames()

func otherNames() map[string]string {
	names := map[string]string{"correlationid": "correlation"}
	for _, s := range sendables {
		for _, f := range s.Fields {
			if flag := flagName(f); flag != dashed(f.Name) {
				names[f.Name] = flag
			}
		}
	}
	return names
}

// dashed returns a field as the name of a flag: window.from is window-from.
func dashed(field string) string { return strings.NewReplacer("_", "-", ".", "-").Replace(field) }

// flagOf returns the flag of a field, and which part of the flag's value the field is; "" if the command has none.
func flagOf(cmd *cobra.Command, field string) (flag, part string) {
	for end := len(field); end > 0; end = strings.LastIndexAny(field[:end], ".[") {
		name := fieldFlags[field[:end]]
		if name == "" {
			name = dashed(field[:end])
		}
		f := cmd.Flags().Lookup(name)
		if f == nil {
			continue
		}
		if file := cmd.Flags().Lookup(name + "-file"); file != nil && file.Changed && !f.Changed {
			name = file.Name
		}
		return "--" + name, field[end:]
	}
	return "", ""
}

// byFlags returns an error about data or settings that were given by flags: it names the flags in place
// of the fields and variables.
func byFlags(cmd *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*events.InvalidError](err); ok {
		named := &events.InvalidError{Faults: slices.Clone(invalid.Faults), More: invalid.More}
		for i, f := range named.Faults {
			named.Faults[i] = faultByFlag(cmd, f)
		}
		return named
	}
	if invalid, ok := errors.AsType[*rollout.SpecError](err); ok { // of a part of a spec
		named := &rollout.SpecError{Faults: slices.Clone(invalid.Faults)}
		for i, f := range named.Faults {
			named.Faults[i].Fault = faultByFlag(cmd, f.Fault)
		}
		return named
	}
	if invalid, ok := errors.AsType[*config.Error](err); ok {
		named := &config.Error{Faults: slices.Clone(invalid.Faults)}
		for i, f := range named.Faults {
			name := dashed(strings.ToLower(strings.TrimPrefix(f.Variable, "RECOMPOSE_")))
			if flag := cmd.Flags().Lookup(name); flag != nil && flag.Changed {
				named.Faults[i].Variable = "--" + name
			}
		}
		return named
	}
	if unreadable, ok := errors.AsType[*events.UnreadableError](err); ok {
		if flag, _ := flagOf(cmd, unreadable.Attribute); flag != "" {
			return fmt.Errorf("%s: %s", flag, strings.TrimPrefix(unreadable.Reason, unreadable.Attribute+" "))
		}
	}
	return err
}

func faultByFlag(cmd *cobra.Command, f events.Fault) events.Fault {
	flag, part := flagOf(cmd, f.Field)
	switch {
	case flag == "":
		return f
	case strings.HasPrefix(part, "."): // the rest of the fault is about the content of a file
		f.Field = flag + ": " + part[1:]
	default:
		f.Field, f.Rule = flag+part, textByFlags(cmd, f.Rule)
	}
	return f
}

// fieldName matches the name of a field that a text is about, or a condition of it. A name without _ could be any word.
var fieldName = regexp.MustCompile(`\bwith [a-z0-9]+([._][a-z0-9]+)+|\b[a-z0-9]+([._][a-z0-9]+)+:`)

// textByFlags returns a text that names the flags of a command in place of the fields.
func textByFlags(cmd *cobra.Command, text string) string {
	return fieldName.ReplaceAllStringFunc(text, func(found string) string {
		field := strings.TrimSuffix(strings.TrimPrefix(found, "with "), ":")
		if flag, part := flagOf(cmd, field); flag != "" && part == "" {
			return strings.Replace(found, field, flag, 1)
		}
		return found
	})
}
