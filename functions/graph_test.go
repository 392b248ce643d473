package functions_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the import graph into docs/architecture.md")

// The import graph stands between these two lines of the page.
const (
	architecture = "../docs/architecture.md"
	graphBegins  = "<!-- import graph, written by make imports -->\n"
	graphEnds    = "<!-- end of the import graph -->\n"
)

func TestTheImportGraphIsFresh(t *testing.T) {
	t.Parallel()
	page := readText(t, architecture)
	before, rest, begun := strings.Cut(page, graphBegins)
	_, after, ended := strings.Cut(rest, graphEnds)
	require.True(t, begun && ended, "%s has no lines %q and %q", architecture, graphBegins, graphEnds)
	want := before + graphBegins + importGraph(t) + graphEnds + after
	if *update {
		require.NoError(t, os.WriteFile(architecture, []byte(want), 0o644))
		return
	}
	require.Equal(t, want, page, "the import graph is out of date; run: make imports")
}

// importGraph draws which package imports which, as a Mermaid diagram. All functions are one node. The program, testkit
// and packages of tests are left out, and so is each import that a longer path shows: else the graph is unreadable.
func importGraph(t *testing.T) string {
	t.Helper()
	imports := map[string][]string{}
	for _, row := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./events/...", "./functions/...", "./shared/...") {
		pkg := general(strings.TrimPrefix(row[0], module))
		if strings.HasPrefix(pkg, testkit) || strings.Contains(pkg, "testdata") {
			continue
		}
		imports[pkg] = slices.Clone(imports[pkg]) // a package without imports is a node, too
		for _, imported := range row[1:] {
			if own, isOurs := strings.CutPrefix(imported, module); isOurs && !slices.Contains(imports[pkg], general(own)) {
				imports[pkg] = append(imports[pkg], general(own))
			}
		}
	}
	var nodes, arrows strings.Builder
	id := strings.NewReplacer("/", "_", "*", "each")
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		fmt.Fprintf(&nodes, "  %s[%q]\n", id.Replace(pkg), pkg)
		for _, imported := range slices.Sorted(slices.Values(imports[pkg])) {
			if !slices.ContainsFunc(imports[pkg], func(by string) bool { return by != imported && reaches(imports, by, imported) }) {
				fmt.Fprintf(&arrows, "  %s --> %s\n", id.Replace(pkg), id.Replace(imported))
			}
		}
	}
	return "\n```mermaid\nflowchart LR\n" + nodes.String() + arrows.String() + "```\n\n"
}

// reaches reports whether a package imports another, directly or through others. Imports have no cycles.
func reaches(imports map[string][]string, from, to string) bool {
	return slices.ContainsFunc(imports[from], func(by string) bool { return by == to || reaches(imports, by, to) })
}
