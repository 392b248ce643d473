package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/functions"
	"recompose/shared/config"
	"recompose/shared/deployment"
	"recompose/shared/emulator"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/rollout"
	"recompose/shared/telemetry/logging"
)

// words are the values of flags that take one word, or several by comma.
var words = flagWords()

func flagWords() map[string][]string {
	words := map[string][]string{
		"class":      deadClasses,
		"function":   functions.Names(),
		"log-format": {logging.Text, logging.JSON},
		"type":       shortTypes(),
	}
	for _, s := range sendables {
		for _, f := range s.Fields {
			if f.Words != nil {
				words[flagName(f)] = f.Words
			}
		}
	}
	return words
}

// checkShell makes an unknown shell an error: the library prints its help, which a script would store as a completion. The
// output of root must be set before.
func checkShell(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = subcommand
			c.RunE = func(*cobra.Command, []string) error {
				return wrongUse(errors.New("missing shell: bash, zsh, fish or powershell"))
			}
			for _, shell := range c.Commands() {
				shell.Args = noArguments
			}
		}
	}
}

// completeFlags registers completions of flag values for a command and its subcommands: words, files, and ids of
// desktops and images. It calls no service except an emulator on this machine.
func completeFlags(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		var complete cobra.CompletionFunc
		switch placeholder, _ := pflag.UnquoteUsage(f); {
		case placeholder == "FILE":
			complete = files
		case f.Name == "data" && f.Value.Type() == "string" && placeholder != "JSON":
			complete = cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs)
		case words[f.Name] != nil:
			complete = oneOrMore(f, func(*cobra.Command) []cobra.Completion { return words[f.Name] })
		case f.Name == "desktop-id" || f.Name == "desktop-ids":
			complete = oneOrMore(f, desktopIDs)
		case f.Name == "image-id":
			complete = oneOrMore(f, imageIDs)
		case f.Value.Type() == "bool":
			complete = cobra.FixedCompletions([]cobra.Completion{"true", "false"}, cobra.ShellCompDirectiveNoFileComp)
		default:
			return
		}
		if err := cmd.RegisterFlagCompletionFunc(f.Name, complete); err != nil {
			panic(err) // the flag exists and has no other completion
		}
	})
	for _, below := range cmd.Commands() {
		completeFlags(below)
	}
}

func files(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

// oneOrMore completes a flag with words. A list is completed after its last comma, with each word once.
func oneOrMore(f *pflag.Flag, known func(*cobra.Command) []cobra.Completion) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if f.Value.Type() != (listFlag{}).Type() {
			return known(cmd), cobra.ShellCompDirectiveNoFileComp
		}
		before := typed[:strings.LastIndex(typed, ",")+1]
		given := splitList(before + f.Value.String())
		var left []cobra.Completion
		for _, word := range known(cmd) {
			if name, _, _ := strings.Cut(word, "\t"); !slices.Contains(given, name) {
				left = append(left, before+word)
			}
		}
		return left, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// functionNames completes names of functions that are not given yet, up to a number of arguments.
func functionNames(most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		left := slices.DeleteFunc(functions.Names(), func(name string) bool { return slices.Contains(args, name) })
		return left, cobra.ShellCompDirectiveNoFileComp
	}
}

// desktopIDs returns the ids of the id file that another flag names, else the desktops of an emulator on this machine.
func desktopIDs(cmd *cobra.Command) []cobra.Completion {
	for _, name := range []string{"desktop-ids-file", "then-rebuild"} {
		f := cmd.Flags().Lookup(name)
		if f == nil || !f.Changed || f.Value.String() == "-" {
			continue
		}
		if ids, err := readIDFile(cmd, f.Value.String()); err == nil {
			return ids
		}
	}
	var ids []cobra.Completion
	for _, d := range localState(cmd).Desktops {
		ids = append(ids, cobra.CompletionWithDesc(d.DesktopID, d.ComputerName))
	}
	return ids
}

// imageIDs returns the images of an emulator on this machine.
func imageIDs(cmd *cobra.Command) []cobra.Completion {
	var ids []cobra.Completion
	for _, i := range localState(cmd).Images {
		ids = append(ids, cobra.CompletionWithDesc(i.ID, i.Name+" ("+i.ImageType+")"))
	}
	return ids
}

// rolloutNames completes the name of a rollout of the deployment on NATS. It offers none if that does not answer quickly.
func rolloutNames(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	place := cmd.Flags()
	settings, err := config.Load(config.Options{NATS: config.IfSet, Flags: map[string]string{
		"NATS_URL": place.Lookup("nats-url").Value.String()}})
	if len(args) > 0 || place.Changed("aws") || err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	names := make(chan []string, 1)
	go func() { names <- storedNames(ctx, settings) }() // a connection that is being made does not end with ctx
	select {
	case found := <-names:
		return found, cobra.ShellCompDirectiveNoFileComp
	case <-ctx.Done():
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// storedNames are the names of the rollouts of a deployment on NATS; none if it cannot be read.
func storedNames(ctx context.Context, settings *config.Config) []string {
	nc, err := natsqueue.Connect(ctx, deployment.ConnectOptions(settings, "completion", nil))
	if err != nil {
		return nil
	}
	defer nc.Close()
	d, err := deployment.OnNATS(nc, settings, logging.Silent())
	if err != nil {
		return nil
	}
	records, err := d.Rollouts(ctx)
	if err != nil {
		return nil
	}
	names, _ := rollout.Names(ctx, records, false) // none if they cannot be read
	return names
}

// completeWithin bounds the call of an emulator or a deployment while a person waits for completions.
const completeWithin = time.Second

// localState returns the state of the emulator that the settings name, else of `recompose up`. It is empty if the
// service is another one or does not answer.
func localState(cmd *cobra.Command) (state emulator.State) {
	settings, _ := config.Load(config.Options{Service: config.IfSet}) // other errors of the settings do not matter here
	endpoint := "http://" + defaultEmulatorListen
	if settings.ServiceChosen() {
		endpoint = settings.Endpoint()
	}
	onAWS := cmd.Flags().Lookup("aws")
	if !config.Loopback(endpoint) || onAWS != nil && onAWS.Changed {
		return state
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
	defer cancel()
	state, _ = emulator.ReadState(ctx, endpoint)
	return state
}
