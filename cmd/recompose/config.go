package main

import (
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"recompose/shared/config"
	"recompose/shared/telemetry/logging"
)

// shownConfig is what `recompose config --json` prints.
type shownConfig struct {
	Settings    []config.Setting `json:"settings"`
	Service     string           `json:"service"`     // base URL, "" if not known
	Credentials string           `json:"credentials"` // in words, without secrets; "" if there are none, or two kinds
	Desktops    string           `json:"desktops"`    // which may be rebuilt, in words; "" if a list cannot be read
	Faults      []config.Fault   `json:"faults"`
	Unknown     []string         `json:"unknown"` // variables that begin with RECOMPOSE_ and mean nothing
}

func configCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the settings that `recompose run` would use, and what is wrong with them",
		Long: `Show every setting, where it comes from, and what is wrong. Secrets are masked. Exit code 2 if something is wrong.

A secret may stand in a file: VARIABLE_FILE names it. An empty variable is as good as none.`,
		Example: `  recompose config
  HUAWEICLOUD_SDK_SK_FILE=/run/secrets/sk recompose config --json`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(config.Options{Service: config.Required, NATS: config.Required})
			wrong := new(config.Error)
			if err != nil && !errors.As(err, &wrong) {
				return err
			}
			shown := shownConfig{
				Settings: c.Settings(), Service: c.Endpoint(), Credentials: c.Credentials(), Faults: wrong.Faults, Unknown: c.Unknown(),
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

// readLists reads the lists of desktops as a worker reads them before each write. While one is wrong, a worker runs and all
// its writes wait.
func (s *shownConfig) readLists(c *config.Config) {
	lists := listFiles(c, logging.Silent())
	s.Desktops, _ = lists.Describe() // the error is among the problems
	for _, p := range lists.Problems() {
		if !slices.ContainsFunc(s.Faults, func(f config.Fault) bool { return f.Variable == p.Variable }) {
			s.Faults = append(s.Faults, config.Fault{Variable: p.Variable, Problem: p.Path + ": " + p.Err.Error()})
		}
	}
}

func showConfig(cmd *cobra.Command, shown shownConfig) {
	out := cmd.OutOrStdout()
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, s := range shown.Settings {
		source := s.Source
		if s.From != "" {
			source += " " + s.From
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t(%s)\n", s.Variable, foreign(s.Value), foreign(source))
	}
	_ = table.Flush()
	if shown.Service != "" {
		say(out, "\nThe Workspace service is at %s", foreign(shown.Service))
	}
	if shown.Credentials != "" {
		say(out, "\nIt is called with %s", foreign(shown.Credentials))
	}
	if shown.Desktops != "" {
		say(out, "\nDesktops: %s", foreign(shown.Desktops))
	}
	if len(shown.Faults) == 0 {
		say(out, "\nNothing is missing or wrong.")
		return
	}
	say(out, "\nMissing or wrong:")
	for _, f := range shown.Faults {
		say(out, "  %s: %s", f.Variable, clean(f.Problem))
	}
}
