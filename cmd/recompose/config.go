package main

import (
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"recompose/shared/config"
	"recompose/shared/telemetry/logging"
	"recompose/shared/worker"
)

// configJSON is what `recompose config --json` prints.
type configJSON struct {
	Settings    []config.Setting `json:"settings"`
	Service     string           `json:"service"`     // base URL, "" if not known
	Credentials string           `json:"credentials"` // without secrets; "" if there are none, or two kinds
	Desktops    string           `json:"desktops"`    // which may be rebuilt; "" if a list cannot be read
	Faults      []config.Fault   `json:"faults"`
	Unknown     []string         `json:"unknown"`           // unknown variables that begin with RECOMPOSE_
	Retired     []config.Fault   `json:"retired,omitempty"` // variables that are set and have no effect any more
}

func configCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the settings that `recompose run` would use, and their errors",
		Long: `Show every setting, its source, and all errors. Secrets are masked. Exit code 2 if there are errors.

A secret may be in a file: VARIABLE_FILE names it. An empty variable counts as not set.`,
		Example: `  recompose config
  HUAWEICLOUD_SDK_SK_FILE=/run/secrets/sk recompose config --json`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(config.Options{Service: config.Required, NATS: config.Required})
			wrong := new(config.Error)
			if err != nil && !errors.As(err, &wrong) {
				return err
			}
			shown := configJSON{
				Settings: c.Settings(), Service: c.Endpoint(), Credentials: c.Credentials(),
				Faults: wrong.Faults, Unknown: c.Unknown(), Retired: config.Retired(),
			}
			shown.readLists(c)
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), shown); err != nil {
					return err
				}
			} else {
				showConfig(cmd, shown)
			}
			if len(shown.Faults) > 0 {
				return &exitError{exitUsage, nil}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// readLists reads the lists of desktops as a worker reads them before each write. A worker with an invalid list runs,
// but all its writes wait.
func (s *configJSON) readLists(c *config.Config) {
	lists := worker.Lists(c, logging.Silent())
	s.Desktops, _ = lists.Describe() // the error is among the problems
	for _, p := range lists.Problems() {
		if !slices.ContainsFunc(s.Faults, func(f config.Fault) bool { return f.Variable == p.Variable }) {
			s.Faults = append(s.Faults, config.Fault{Variable: p.Variable, Problem: p.Path + ": " + p.Err.Error()})
		}
	}
}

func showConfig(cmd *cobra.Command, shown configJSON) {
	out := cmd.OutOrStdout()
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, s := range shown.Settings {
		source := s.Source
		if s.From != "" {
			source += " " + s.From
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t(%s)\n", s.Variable, escape(s.Value), escape(source))
	}
	_ = table.Flush()
	if shown.Service != "" {
		printLine(out, "\nThe Workspace service is at %s", escape(shown.Service))
	}
	if shown.Credentials != "" {
		printLine(out, "\nIt is called with %s", escape(shown.Credentials))
	}
	if shown.Desktops != "" {
		printLine(out, "\nDesktops: %s", escape(shown.Desktops))
	}
	for _, r := range shown.Retired {
		printLine(out, "\n%s %s", r.Variable, r.Problem)
	}
	if len(shown.Faults) == 0 {
		printLine(out, "\nNothing is missing or wrong.")
		return
	}
	printLine(out, "\nMissing or wrong:")
	for _, f := range shown.Faults {
		printLine(out, "  %s: %s", f.Variable, escapeLines(f.Problem))
	}
}
