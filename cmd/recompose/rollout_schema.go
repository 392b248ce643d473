package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"recompose/shared/rollout"
)

func rolloutSchemaCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a rollout's spec",
		Long: `Print the JSON Schema of a rollout's spec, for editors and checks. It describes the form;
recompose rollout plan checks the rules between fields, too.`,
		Example: `  recompose rollout schema > rollout.schema.json`,
		Args:    noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			schema, err := rollout.Schema()
			switch {
			case err != nil:
				return fmt.Errorf("schema of the spec: %w", err)
			case asJSON:
				return printJSON(cmd.OutOrStdout(), json.RawMessage(schema))
			}
			printLine(cmd.OutOrStdout(), "%s", schema)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it on one line")
	return cmd
}
