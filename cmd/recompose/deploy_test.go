package main

import (
	"bytes"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"recompose/shared/config"
)

// deployed is how a file of deploy/ starts a worker.
type deployed struct {
	args      []string
	variables map[string]string
	secrets   []string // names of the files with secrets
}

// unit reads deploy/systemd.
func unit(t *testing.T) deployed {
	t.Helper()
	d := deployed{variables: map[string]string{}}
	text, err := os.ReadFile("../../deploy/systemd/recompose.service")
	require.NoError(t, err)
	settings, err := os.ReadFile("../../deploy/systemd/recompose.env")
	require.NoError(t, err)
	for line := range strings.Lines(string(settings)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			d.variables[name] = value
		}
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "ExecStart":
			d.args = strings.Fields(value)[1:]
		case "LoadCredential":
			name, _, _ := strings.Cut(value, ":")
			d.secrets = append(d.secrets, name)
		case "Environment":
			for assignment := range strings.FieldsSeq(value) {
				name, value, _ := strings.Cut(assignment, "=")
				d.variables[name] = value
			}
		case "TimeoutStopSec":
			require.Equal(t, "60s", value, "docs/operations.md")
		}
	}
	return d
}

// kubernetes reads deploy/kubernetes.
func kubernetes(t *testing.T) deployed {
	t.Helper()
	text, err := os.ReadFile("../../deploy/kubernetes/recompose.yaml")
	require.NoError(t, err)
	var settings struct{ Data map[string]string }
	var workers struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args []string
						Env  []struct{ Name, Value string }
					}
				}
			}
		}
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	require.NoError(t, documents.Decode(&settings))
	require.NoError(t, documents.Decode(&workers))
	container := workers.Spec.Template.Spec.Containers[0]
	d := deployed{args: container.Args, variables: settings.Data}
	for _, e := range container.Env {
		d.variables[e.Name] = e.Value
	}
	keys := regexp.MustCompile(`secretName: recompose # keys: (.*)`).FindSubmatch(text)
	d.secrets = strings.Split(string(keys[1]), ", ")
	return d
}

// A worker takes what the unit and the manifest give it: the command line, every variable and every file with a secret.
func TestAWorkerTakesTheSettingsOfUnitAndManifest(t *testing.T) {
	empty, _ := config.Load(config.Options{}) // whatever the environment is
	for _, s := range empty.Settings() {
		for _, variable := range []string{s.Variable, s.Or, s.Variable + "_FILE"} {
			if variable != "" {
				t.Setenv(variable, "")
			}
		}
	}
	for name, d := range map[string]deployed{"systemd": unit(t), "kubernetes": kubernetes(t)} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			require.Equal(t, exitDone, run(t.Context(), append(slices.Clone(d.args), "--help"), strings.NewReader(""), &out, &errOut), errOut.String())
			require.Equal(t, "run", d.args[0])
			folder, files := t.TempDir(), []string{}
			for variable, value := range d.variables {
				if strings.HasSuffix(variable, "_FILE") {
					files = append(files, path.Base(value))
					value = path.Join(folder, path.Base(value))
					require.NoError(t, os.WriteFile(value, []byte("a-secret\n"), 0o600))
				}
				t.Setenv(variable, value)
			}
			require.ElementsMatch(t, d.secrets, files)
			c, err := config.Load(config.Options{Service: config.Required, NATS: config.Required})
			require.NoError(t, err)
			require.Empty(t, c.Unknown())
			read := map[string]bool{}
			for _, s := range c.Settings() {
				read[s.Variable] = s.Source == config.SourceEnv
				read[s.Variable+"_FILE"] = s.Source == config.SourceFile
			}
			read["GOMEMLIMIT"] = true // Go's own
			for variable := range d.variables {
				require.True(t, read[variable], "%s is no setting, or is not read", variable)
			}
			require.Equal(t, config.Secret("a-secret"), c.SK)
			require.Equal(t, config.Secret("a-secret"), c.NATSPassword)
			require.InDelta(t, 100, c.ReadsPerMinute, 0)
		})
	}
}

// The table of alarms in docs/operations.md is that of the rules.
func TestEveryAlertIsInTheDocuments(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../../deploy/prometheus/recompose.rules.yaml")
	require.NoError(t, err)
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	alerts := func(form string, text []byte) []string {
		names := map[string]bool{}
		for _, match := range regexp.MustCompile(form).FindAllSubmatch(text, -1) {
			names[string(match[1])] = true
		}
		return slices.Sorted(maps.Keys(names))
	}
	there := alerts(`- alert: (\w+)`, rules)
	require.Greater(t, len(there), 10)
	require.Equal(t, there, alerts("(?m)^\\| `(Recompose\\w+)` \\|", page))
}
