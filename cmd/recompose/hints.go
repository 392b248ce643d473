package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
)

// Flags that a suggested command line repeats: those of the deployment, and those of following a chain.
var (
	placeFlags  = []string{"nats-url", "aws"}
	followKeeps = append([]string{"failed-to", "json"}, placeFlags...)
)

// kept returns the flags with these names as they were given, quoted for a shell. Credentials in a URL are masked.
func kept(cmd *cobra.Command, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			b.WriteString(given(f))
		}
	}
	return b.String()
}

// given returns a flag as on the command line.
func given(f *pflag.Flag) string {
	name, value := " --"+f.Name, f.Value.String()
	switch list, isList := f.Value.(pflag.SliceValue); {
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

// waitLine returns the command line that follows the chain of these arguments.
func waitLine(cmd *cobra.Command, arguments string) resumeFunc {
	return func(forEver bool) string {
		line := programName() + " wait " + arguments
		if forEver {
			line += " --for-ever"
		}
		return line + kept(cmd, followKeeps...)
	}
}

// repeatLine returns the command line that sends the same command with the same id and follows it; "" if its data came
// from standard input or cmd is not a subcommand of send.
func repeatLine(cmd *cobra.Command, e events.Envelope) string {
	if cmd.Parent() == nil || cmd.Parent().Name() != "send" {
		return ""
	}
	line := programName() + " send " + cmd.Name()
	ok := true
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "id", "wait", "timeout", "correlation": // set below, or omitted
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

// repeatHint explains how to repeat a command. Text after the command line is a comment for the shell.
func repeatHint(cmd *cobra.Command, e events.Envelope) string {
	if line := repeatLine(cmd, e); line != "" {
		return line + "  # the same command, which is done once"
	}
	return fmt.Sprintf("send the same data with --id %s --wait: the command is done once", quoted(e.ID))
}
