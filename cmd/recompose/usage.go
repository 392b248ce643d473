package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// misuse is an error of the command line, for which the help of the command is named.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// wrongUse returns the error of a wrong command line. Nothing was done, and the error names the help of the command.
func wrongUse(err error) error { return &exitError{exitUsage, misuse{err}} }

// nothingDone returns the error of a command that did nothing, for a reason that its help does not explain.
func nothingDone(err error) error { return &exitError{exitUsage, err} }

// exitOf returns the exit code and error of a command. An error of cobra is an error of the command line.
func exitOf(cmd *cobra.Command, err error) *exitError {
	exit, ok := errors.AsType[*exitError](err)
	if !ok {
		exit = &exitError{exitUsage, misuse{err}}
	}
	if _, ok := errors.AsType[misuse](exit.err); ok {
		return &exitError{exit.code, fmt.Errorf("%w\nRun `%s --help` for its use", exit.err, cmd.CommandPath())}
	}
	return exit
}

// subcommand rejects the arguments of a command that only groups subcommands.
func subcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return wrongUse(fmt.Errorf("unknown command %q%s", args[0], suggested("", nearestCommands(args[0], cmd))))
}

// noArguments rejects the arguments of a command that has only flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if err := givenValues(cmd); err != nil { // it took a flag for its value
		return err
	}
	return fmt.Errorf("unexpected %q: %s takes no arguments; a flag that is true or false takes its value with =, as in --json=false",
		args[0], cmd.Name())
}

// exclusive makes flags exclude each other.
func exclusive(cmd *cobra.Command, flags ...string) {
	cmd.MarkFlagsMutuallyExclusive(flags...) // completion leaves out the others
	arguments := cmd.Args                    // which are checked before the library reports such flags in its own words
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		var given []string
		for _, name := range flags {
			if cmd.Flags().Changed(name) {
				given = append(given, "--"+name)
			}
		}
		if len(given) > 1 {
			return errors.New(strings.Join(given, " and ") + ": give one of them")
		}
		return arguments(cmd, args)
	}
}

// checkTopic makes an unknown command an error of help: the library prints the help of the program, and succeeds.
func checkTopic(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" {
			c.Args = func(_ *cobra.Command, args []string) error {
				below, rest, err := root.Find(args)
				if err != nil {
					return err
				}
				return subcommand(below, rest)
			}
		}
	}
}

// missing is for a command that only has others: it prints its help, and the error which of them to give.
func missing(which string) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		_ = cmd.Help()
		return nothingDone(errors.New("missing command" + which))
	}
}

// oneChain checks that the argument is a correlation id.
func oneChain(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return fmt.Errorf("%s needs one correlation id; recompose chains lists them", cmd.Name())
	}
	return nil
}

// wrongFlag explains an error of the flags. If the command itself is misspelt, that explains unknown flags.
func wrongFlag(cmd *cobra.Command, err error) error {
	if cmd.HasSubCommands() && cmd.Flags().NArg() > 0 && cmd.Args != nil {
		if wrong := cmd.Args(cmd, cmd.Flags().Args()); wrong != nil {
			return wrong
		}
	}
	if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if errors.Is(err, errNegative) {
			return fmt.Errorf("--%s: %w; got %q", wrong.GetFlag().Name, errNegative, wrong.GetValue())
		}
		if rule := valueRules[wrong.GetFlag().Value.Type()]; rule != "" {
			return fmt.Errorf("--%s: must be %s; got %q", wrong.GetFlag().Name, rule, wrong.GetValue())
		}
	}
	if bare, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
		return fmt.Errorf("--%s: must be followed by a value", bare.GetFlag().Name)
	}
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags = append(flags, f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, suggested("--", nearestWords(unknown.GetSpecifiedName(), flags)))
}

// valueRules are the rules of the types of flags, of which the library reports only how Go failed to read a value.
var valueRules = map[string]string{
	"bool": "true or false", "duration": "a duration with a unit, such as 90s, 10m or 1h30m", "float64": "a number",
	"int": "a whole number", "int64": "a whole number", "host:port": "host:port, such as 127.0.0.1:4222",
}

// oneOf rejects arguments that are not in words.
func oneOf(what string, words []string, args []string) error {
	for _, a := range args {
		if !slices.Contains(words, a) {
			there := "; there are "
			if meant := suggested("", nearestWords(a, words)); meant != "" {
				there = meant + " There are "
			}
			return fmt.Errorf("unknown %s %q%s%s", what, a, there, strings.Join(words, ", "))
		}
	}
	return nil
}

// suggested returns the end of an error about an unknown word; "" without a suggestion.
func suggested(prefix string, words []string) string {
	const most = 3
	if len(words) == 0 || len(words) > most {
		return ""
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", prefix+w)
	}
	return "; did you mean " + strings.Join(quoted, " or ") + "?"
}

// nearestWords returns the words most similar to a word, or beginning with it.
func nearestWords(word string, words []string) []string {
	commands := &cobra.Command{}
	for _, w := range words {
		commands.AddCommand(&cobra.Command{Use: w, Run: func(*cobra.Command, []string) {}})
	}
	return nearestCommands(word, commands)
}

// nearestCommands returns the subcommands most similar to a word, or beginning with it.
func nearestCommands(word string, below *cobra.Command) []string {
	const farthest = 3 // letters that differ, as cobra counts
	for d := 1; d <= min(farthest, len(word)-1, (len(word)+1)/2); d++ {
		below.SuggestionsMinimumDistance = d
		if found := below.SuggestionsFor(word); len(found) > 0 {
			return found
		}
	}
	return nil
}
