package rollout_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"recompose/shared/rollout"
)

func schema(t *testing.T) *jsonschema.Resolved {
	t.Helper()
	data, err := rollout.Schema()
	require.NoError(t, err)
	var s jsonschema.Schema
	require.NoError(t, json.Unmarshal(data, &s))
	resolved, err := s.Resolve(&jsonschema.ResolveOptions{ValidateDefaults: true})
	require.NoError(t, err)
	return resolved
}

// asYAML is what an editor checks: a document of YAML.
func asYAML(t *testing.T, text string) any {
	t.Helper()
	var v any
	require.NoError(t, yaml.Unmarshal([]byte(text), &v))
	data, err := json.Marshal(v)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &v))
	return v
}

func TestTheExampleFitsTheSchema(t *testing.T) {
	t.Parallel()
	s := schema(t)
	quoted := strings.NewReplacer("floor: 02", `floor: "02"`, "project_id: 0", `project_id: "0"`, "protect: true", `protect: "true"`).Replace(example(t))
	require.NoError(t, s.Validate(asYAML(t, quoted)))
	spec, err := rollout.ParseSpec([]byte(quoted))
	require.NoError(t, err)
	data, err := json.Marshal(spec)
	require.NoError(t, err)
	require.NoError(t, s.Validate(asYAML(t, string(data))))
}

func TestTheSchemaHasEachFieldWithItsDescriptionAndDefault(t *testing.T) {
	t.Parallel()
	data, err := rollout.Schema()
	require.NoError(t, err)
	var s jsonschema.Schema
	require.NoError(t, json.Unmarshal(data, &s))
	var count func(path string, s *jsonschema.Schema) int
	count = func(path string, s *jsonschema.Schema) int {
		n := len(s.Properties)
		for name, field := range s.Properties {
			require.NotEmpty(t, field.Description, path+name)
			n += count(path+name+".", field)
		}
		return n
	}
	require.Equal(t, len(rollout.Fields), count("", &s))
	require.JSONEq(t, `"2%"`, string(s.Properties["strategy"].Properties["max_failed"].Default))
	require.JSONEq(t, `true`, string(s.Properties["options"].Properties["skip_current"].Default))

	page, err := os.ReadFile("../../docs/rollouts.md")
	require.NoError(t, err)
	for _, f := range rollout.Fields {
		require.Contains(t, string(page), "`"+f.Name+"`", "docs/rollouts.md describes each field")
	}
}

func TestTheSpecInTheDocsIsValid(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/rollouts.md")
	require.NoError(t, err)
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```")
	_, err = rollout.ParseSpec([]byte(text))
	require.NoError(t, err)
	require.NoError(t, schema(t).Validate(asYAML(t, text)))
}
