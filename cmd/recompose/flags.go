package main

import (
	"strings"

	"github.com/spf13/pflag"
)

// listFlag is a flag with several values: repeated, by comma, or one a line, as in "$(cat FILE)".
type listFlag struct{ items *[]string }

// Set adds the values of one occurrence.
func (l listFlag) Set(value string) error {
	*l.items = append(*l.items, splitList(value)...)
	return nil
}

func (l listFlag) String() string {
	if l.items == nil {
		return ""
	}
	return strings.Join(*l.items, ",")
}

// Type is shown in help texts.
func (l listFlag) Type() string { return "strings" }

// addList defines a list flag.
func addList(flags *pflag.FlagSet, items *[]string, name, usage string) {
	flags.Var(listFlag{items}, name, usage)
}

// splitList divides a list by comma and line. It skips empty lines. Between commas it keeps empty values, so that the
// caller can reject them.
func splitList(list string) []string {
	var items []string
	for line := range strings.SplitSeq(strings.ReplaceAll(list, "\r", "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		for item := range strings.SplitSeq(line, ",") {
			items = append(items, strings.TrimSpace(item))
		}
	}
	return items
}
