package main

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/spf13/cobra"

	"recompose/shared/rollout"
)

func rolloutSchemaCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of a rollout's spec",
		Long: `Print the JSON Schema of a rollout's spec, for editors and checks. It describes the form; recompose rollout plan checks the
rules between fields, too.`,
		Example: `  recompose rollout schema > rollout.schema.json`,
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			schema, err := specSchema()
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), schema)
			}
			text, err := json.MarshalIndent(schema, "", "  ")
			if err != nil {
				return fmt.Errorf("write the schema: %w", err)
			}
			printLine(cmd.OutOrStdout(), "%s", text)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it on one line")
	return cmd
}

// specSchema returns the schema of a spec, from its Go types.
func specSchema() (*jsonschema.Schema, error) {
	text := func(pattern, description string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: "string", Pattern: pattern, Description: description}
	}
	schema, err := jsonschema.For[rollout.Spec](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[rollout.Duration](): text(`^([0-9]+(\.[0-9]+)?(h|m|s|ms))+$`, "a duration such as 10m or 1h30m"),
		reflect.TypeFor[rollout.Amount](): {
			Types: []string{"integer", "string"}, Pattern: `^[0-9]{1,3}(\.[0-9]{1,2})?%$|^[0-9]+$`,
			Description: "a number of desktops, or a share of them such as 2%",
		},
	}})
	if err != nil {
		return nil, fmt.Errorf("schema of the spec: %w", err)
	}
	fieldsMayBeAbsent(schema)
	schema.Schema, schema.Title = "https://json-schema.org/draft/2020-12/schema", "spec of a recompose rollout"
	schema.Required = []string{"name", "image", "targets"}
	of := func(path ...string) *jsonschema.Schema {
		s := schema
		for _, name := range path {
			s = s.Properties[name]
		}
		return s
	}
	of("name").Pattern = "^[a-z0-9-]{1,40}$"
	for _, part := range []string{"where", "except"} { // YAML reads 2 as a number; the spec takes it as text
		tags := of("targets", part, "tags").AdditionalProperties
		tags.Type, tags.Types = "", []string{"string", "number", "boolean"}
	}
	of("users", "connected").Enum = []any{rollout.Skip, rollout.Defer, rollout.Force}
	of("users", "then").Enum = []any{rollout.Skip, rollout.Force}
	of("strategy", "waves").Items.Pattern = `^[0-9]{1,3}(\.[0-9]{1,2})?%$`
	of("window").Required = []string{"from", "to", "timezone"}
	of("window", "days").Items.Enum = []any{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	for _, name := range []string{"from", "to"} {
		of("window", name).Pattern = "^[0-2][0-9]:[0-5][0-9]$"
	}
	return schema, nil
}

// fieldsMayBeAbsent makes every field of an object optional: absent ones have defaults.
func fieldsMayBeAbsent(s *jsonschema.Schema) {
	if s == nil {
		return
	}
	s.Required = nil
	for _, field := range s.Properties {
		fieldsMayBeAbsent(field)
	}
	fieldsMayBeAbsent(s.Items)
}
