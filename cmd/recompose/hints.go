package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
)

// Flags that a command line for the same place needs too, and those of one that follows the same chain.
var (
	placeFlags  = []string{"nats-url", "aws"}
	followKeeps = append([]string{"failed-to", "json"}, placeFlags...)
)

// kept are the flags with these names as they were given, ready to be pasted. Credentials in a URL are masked.
func kept(cmd *cobra.Command, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			b.WriteString(given(f))
		}
	}
	return b.String()
}

// given is a flag as the command line has it.
func given(f *pflag.Flag) string {
	name, value := " --"+f.Name, f.Value.String()
	switch list, isList := f.Value.(pflag.SliceValue); {
	case f.Value.Type() == "stringSlice":
		value = strings.Join(list.GetSlice(), ",")
	case isList:
		var b strings.Builder
		for _, v := range list.GetSlice() {
			b.WriteString(name + " " + quoted(v))
		}
		return b.String()
	case f.Value.Type() == "bool" && value == "true":
		return name
	case f.Value.Type() == "bool":
		return name + "=" + value
	case f.Name == "nats-url":
		value = natsqueue.Masked(value)
	}
	return name + " " + quoted(value)
}

// waitLine is the command line that follows a chain, which is named by these arguments.
func waitLine(cmd *cobra.Command, arguments string) resumeFunc {
	return func(forEver bool) string {
		line := programName() + " wait " + arguments
		if forEver {
			line += " --for-ever"
		}
		return line + kept(cmd, followKeeps...)
	}
}

// repeatLine is the command line that sends the same command with the same id, and follows it; "" where its data came from
// standard input or the command line is none of send.
func repeatLine(cmd *cobra.Command, e events.Envelope) string {
	if cmd.Parent() == nil || cmd.Parent().Name() != "send" {
		return ""
	}
	line := programName() + " send " + cmd.Name()
	ok := true
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "id", "wait", "timeout", "correlation": // below, or not wanted
		default:
			ok = ok && f.Value.String() != "-"
			line += given(f)
		}
	})
	if !ok {
		return ""
	}
	if e.Correlation != e.ID {
		line += " --correlation " + quoted(e.Correlation)
	}
	return line + " --id " + quoted(e.ID) + " --wait"
}

// repeatHint is how to send the same command once more; a shell takes what it adds for a comment.
func repeatHint(cmd *cobra.Command, e events.Envelope) string {
	if line := repeatLine(cmd, e); line != "" {
		return line + "  # the same command, which is done once"
	}
	return fmt.Sprintf("send the same data with --id %s --wait: the command is done once", quoted(e.ID))
}
