package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

var update = flag.Bool("update", false, "write the golden samples")

func samplePath(name string) string { return filepath.Join("testdata", name+".json") }

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, want := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			e := json.NewEncoder(&b)
			e.SetIndent("", "  ")
			require.NoError(t, e.Encode(want))
			if *update {
				require.NoError(t, os.WriteFile(samplePath(name), b.Bytes(), 0o644))
			}
			golden, err := os.ReadFile(samplePath(name))
			require.NoError(t, err, "write it with: go test ./events -run Golden -update")
			require.Equal(t, string(golden), b.String(), "the sample is the contract; write a changed one with -update")
		})
	}
}

// Read the sample, decode it, decode its data, encode both: the same JSON.
func TestGoldenRoundTrip(t *testing.T) {
	t.Parallel()
	for name := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			golden, err := os.ReadFile(samplePath(name))
			require.NoError(t, err)
			e, err := events.Decode(nil, golden, events.Bare{})
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(name, e.Type), e.Type)

			data := decodeData(t, e)
			b, err := json.Marshal(data)
			require.NoError(t, err)
			require.JSONEq(t, string(e.Data), string(b))

			e.Data = b
			second, err := json.Marshal(e)
			require.NoError(t, err)
			require.JSONEq(t, string(golden), string(second))

			var unmarshalled events.Envelope
			require.NoError(t, json.Unmarshal(golden, &unmarshalled))
			require.Equal(t, e.ID, unmarshalled.ID)
			require.JSONEq(t, string(e.Data), string(unmarshalled.Data))
		})
	}
}

// decodeData decodes the data of an envelope as the type that belongs to it, commands by the rules of commands.
func decodeData(t *testing.T, e events.Envelope) any {
	t.Helper()
	if events.IsCommand(e.Type) {
		c, err := decodeCommand(e.Type, e.Data)
		require.NoError(t, err)
		return c
	}
	i := slices.IndexFunc(events.Events, func(row events.Event) bool { return row.Type == e.Type })
	require.GreaterOrEqual(t, i, 0, "%s has no row in Events", e.Type)
	into := reflect.New(reflect.TypeOf(events.Events[i].Data)).Interface()
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(into))
	return into
}

func decodeCommand(typ string, data json.RawMessage) (any, error) {
	i := slices.IndexFunc(events.Commands, func(row events.Command) bool { return row.Type == typ })
	if i < 0 {
		panic(typ + " has no row in Commands")
	}
	return events.Commands[i].Decode(data)
}

// Each type has its row, its sample and its line in doc.go. No sample is left over.
func TestEachTypeHasItsSampleAndItsLine(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	require.NoError(t, err)
	all := samples()
	for _, f := range files {
		require.Contains(t, all, strings.TrimSuffix(filepath.Base(f), ".json"), "a file without a sample")
	}
	doc, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	lines := map[string]string{}
	for _, c := range events.Commands {
		lines[c.Type] = `\s`
		if c.Reads() {
			lines[c.Type] += `+` + c.Function + `\s.*\s` + regexp.QuoteMeta(strings.Split(c.Answer, ".v")[0][len("recompose.event."):]) + `$`
		}
	}
	for _, e := range events.Events {
		lines[e.Type] = `\s+` + reflect.TypeOf(e.Data).Name() + `\s`
	}
	require.ElementsMatch(t, typeConstants(t), slices.Collect(maps.Keys(lines)), "each type has a row in Commands or Events")
	for typ, line := range lines {
		require.NotZero(t, all[typ], "%s needs a sample in samples_test.go", typ)
		require.Regexp(t, `(?m)^//\t`+regexp.QuoteMeta(typ)+line, string(doc), "%s needs its line in doc.go", typ)
	}
}

// Each command of a function has what a row needs.
func TestTheRowsOfCommands(t *testing.T) {
	t.Parallel()
	for _, c := range events.Commands {
		require.Equal(t, c.Function, strings.Split(c.Type, ".")[2], "the function is the third word of the type")
		if c.Type != events.CommandType(c.Function) {
			continue
		}
		require.NotNil(t, c.Fields, c.Type)
		require.NotEmpty(t, c.Call, c.Type)
		require.NotEmpty(t, c.Help, c.Type)
		require.True(t, !c.Reads() || slices.Contains(events.EventTypes, c.Answer), "%s: Answer is the type of an event; got %q", c.Type, c.Answer)
	}
	require.Zero(t, events.CommandOf(events.FnWatchJob))
	require.Zero(t, events.CommandOf(events.FnRollout))
}

// typeConstants are the values of the constants Type… in the source, so that the test covers all of them.
func typeConstants(t *testing.T) []string {
	t.Helper()
	var types []string
	inspect := func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && strings.HasPrefix(spec.Names[0].Name, "Type") {
			typ, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			types = append(types, typ)
		}
		return true
	}
	for _, name := range []string{"catalogue.go", "rolloutcommands.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, inspect)
	}
	return types
}

// The samples of one chain are one chain: it is open until its last event.
func TestGoldenChainEnds(t *testing.T) {
	t.Parallel()
	root, published := goldenChain()
	var chain []events.Envelope
	for _, name := range []string{"job.accepted.v1", "job.completed.v1", "job.accepted.v1.rebuild", "job.completed.v1.rebuild", "images.checked.v1.rebuild"} {
		require.Len(t, events.Open(events.Root{ID: root.ID}, chain), 1, "before %s", name)
		chain = append(chain, published[name])
	}
	require.Len(t, chain, len(published))
	require.Empty(t, events.Open(events.Root{ID: root.ID}, chain))
}
