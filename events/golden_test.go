package events_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
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
	require.True(t, events.IsEvent(e.Type))
	if slices.Contains(events.RolloutEventTypes, e.Type) {
		return decodeInto(t, e, &events.Rollout{})
	}
	into := map[string]any{
		events.TypeJobAccepted: &events.JobAccepted{}, events.TypeJobCompleted: &events.JobCompleted{},
		events.TypeImagesChecked: &events.ImagesChecked{}, events.TypeDesktopDescribed: &events.DesktopDescribed{},
		events.TypeDesktopsListed: &events.DesktopsListed{}, events.TypeImagesListed: &events.ImagesListed{},
		events.TypeCommandSplit: &events.CommandSplit{}, events.TypeCommandFailed: &events.CommandFailed{},
		events.TypeJobProgress: &events.JobProgress{}, events.TypeCommandUnclear: &events.CommandUnclear{},
		events.TypeServiceAccepted: &events.ServiceAccepted{}, events.TypeLedgerAccepted: &events.LedgerAccepted{},
	}[e.Type]
	require.NotNil(t, into, "a new type: %s", e.Type)
	return decodeInto(t, e, into)
}

func decodeInto(t *testing.T, e events.Envelope, into any) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(e.Data))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(into))
	return into
}

func decodeCommand(typ string, data json.RawMessage) (c any, err error) {
	switch typ {
	case events.TypeCheckImages:
		c, err = events.DecodeCheckImages(data)
	case events.TypeGetDesktop:
		c, err = events.DecodeGetDesktop(data)
	case events.TypeListDesktops:
		c, err = events.DecodeListDesktops(data)
	case events.TypeListImages:
		c, err = events.DecodeListImages(data)
	case events.TypeRebuild:
		c, err = events.DecodeRebuild(data)
	case events.TypeDesktopToImage:
		c, err = events.DecodeDesktopToImage(data)
	default:
		if !slices.Contains(events.RolloutTypes, typ) {
			panic("a new type: " + typ)
		}
		c, err = events.DecodeRollout(typ)(data)
	}
	return c, err
}

// No sample is left over, and each type has one and a line in the catalogue.
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
	types := typeConstants(t)
	require.Len(t, types, 44)
	for _, typ := range types {
		require.Contains(t, all, typ)
		require.FileExists(t, samplePath(typ))
		require.Regexp(t, `(?m)^//\t`+typ+`\s`, string(doc), "%s needs its line in doc.go", typ)
	}
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
	for _, name := range []string{"types.go", "rolloutcommands.go"} {
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
