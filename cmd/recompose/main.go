// Command recompose captures golden desktops as images and rebuilds fleets of Workspace cloud desktops from them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"recompose/shared/config"
)

// Exit codes. Scripts rely on them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2 // nothing was done: the command line, its data or the settings are wrong, or there is no deployment
	exitUnknown = 3 // the result is not known
	exitPerson  = 4 // a rollout waits for a person
)

func main() {
	if err := config.ApplyProxy(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "recompose: RECOMPOSE_PROXY:", err)
		os.Exit(exitFailed)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run runs the program with arguments and streams, and returns its exit code. When ctx ends it stops as after Ctrl-C.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot() //nolint:contextcheck // cobra hands the context on
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	checkShell(root)
	checkTopic(root)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	exit := exitOf(cmd, err)
	if exit.err != nil {
		_, _ = fmt.Fprintln(stderr, "recompose: "+escapeLines(exit.err.Error()))
	}
	return exit.code
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "recompose",
		Short: "Golden-image automation for Huawei Cloud Workspace",
		Long: `recompose captures a cloud desktop as an image, waits until the job is really done, rebuilds a fleet from that
image and checks that every desktop runs it. Functions exchange messages on NATS.

Exit codes: 0 done, 1 failed, 2 nothing was done (usage error, or the deployment cannot be reached), 3 result unknown,
4 a rollout waits for a person.`,
		Example: `  recompose demo                  try it on this machine
  recompose up                    the same as a server, to send commands to
  recompose run                   workers on your NATS cluster`,
		Version:       thisBuild().String(),
		Args:          subcommand,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          missing(""),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(demoCommand(), upCommand(), runCommand(), emulatorCommand(), sendCommand(), invokeCommand(),
		desktopsCommand(), imagesCommand(),
		waitCommand(), eventsCommand(), chainsCommand(), traceCommand(), freezeCommand(), thawCommand(), listsCommand(),
		rolloutCommand(), driftCommand(), deadCommand(), setupCommand(), configCommand(), versionCommand())
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	completeFlags(root)
	return root
}

// exitError ends the program with a code. Without err nothing more is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit %d: %v", e.code, e.err) }
func (e *exitError) Unwrap() error { return e.err }

// action wraps the function of a command. An error without an exit code gets 1. An invalid configuration, and a
// deployment that cannot be reached, get 2.
func action(do func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := givenValues(cmd); err != nil {
			return wrongUse(err)
		}
		err := do(cmd, args)
		if _, exit := errors.AsType[*exitError](err); err == nil || exit {
			return err
		}
		if _, settings := errors.AsType[*config.Error](err); settings || unreached(err) {
			return nothingDone(err)
		}
		return &exitError{exitFailed, err}
	}
}

// givenValues refuses flags that are given an empty text, or the next flag: most often a variable of a script is not set.
// Without an id, for example, a command would be done once more, and without desktops a rollback would be one of all.
func givenValues(cmd *cobra.Command) error {
	var wrong error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if texts := f.Value.Type(); wrong != nil || texts != "string" && texts != "strings" {
			return
		}
		value := f.Value.String()
		words := f.Name == "message" || f.Name == "image-description" // none is a value of these
		if value == "" && !words {
			wrong = fmt.Errorf("--%s: must not be empty; give a value, or leave the flag out", f.Name)
		}
		next, _, _ := strings.Cut(strings.TrimPrefix(value, "--"), "=")
		if strings.HasPrefix(value, "--") && cmd.Flags().Lookup(next) != nil {
			wrong = fmt.Errorf("--%s: must be followed by a value; got the flag %s", f.Name, value)
		}
	})
	return wrong
}
