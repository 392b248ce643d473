package functions_test

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
)

func TestOneRouteACommand(t *testing.T) {
	t.Parallel()
	routes := map[string]string{}
	for _, f := range functions.All(functions.Settings{}) {
		require.NotNil(t, f.Handle, f.Name)
		require.Equal(t, len(f.Reacts) > 0, f.React != nil, f.Name)
		if f.Type == "" {
			require.NotEmpty(t, f.Reacts, "%s takes nothing", f.Name)
			continue
		}
		require.Equal(t, events.CommandType(f.Name), f.Type)
		require.Empty(t, routes[f.Type], "two functions take %s", f.Type)
		routes[f.Type] = f.Name
	}
	for _, typ := range []string{events.TypeCheckImages, events.TypeDesktopToImage, events.TypeRebuild, events.TypeGetDesktop} {
		require.NotEmpty(t, routes[typ], "no function takes %s", typ)
	}
	require.Len(t, routes, 4)
}

func TestOnlyTheTwoCallsThatChangeSomethingWrite(t *testing.T) {
	t.Parallel()
	var writes []string
	for _, f := range functions.All(functions.Settings{}) {
		if f.Writes {
			writes = append(writes, f.Name)
			require.NotNil(t, f.GiveUp, "%s must say what it knows when it is given up", f.Name)
		}
	}
	require.Equal(t, []string{events.FnDesktopToImage, events.FnRebuild}, writes)
}

// goList gives, for each package of the pattern, what go list says.
func goList(t *testing.T, args ...string) [][]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	require.NoError(t, err, errors.String())
	var rows [][]string
	for line := range strings.Lines(string(out)) {
		rows = append(rows, strings.Fields(line))
	}
	return rows
}

// Who may import what. A rule names packages by the beginning of their path.
func TestWhoMayImportWhat(t *testing.T) {
	t.Parallel()
	only := map[string][]string{
		"github.com/nats-io/nats.go":        {"recompose/shared/queue/natsqueue", "recompose/shared/ledger/natsledger", "recompose/shared/embednats"},
		"github.com/nats-io/nats-server/v2": {"recompose/shared/embednats"},
		"github.com/aws/": {"recompose/shared/queue/awsqueue", "recompose/shared/ledger/dynamoledger", "recompose/shared/lambdaboot",
			"recompose/shared/awsstack"},
		"github.com/stretchr/testify": {"recompose/shared/queue/queuetest", "recompose/shared/ledger/ledgertest", "recompose/functions/functiontest",
			"recompose/functions/functiontest/chaostest"},
		"pgregory.net/rapid":     nil,
		"github.com/prometheus/": {"recompose/shared/metrics"},
		"github.com/spf13/cobra": {"recompose/cmd/recompose"},
	}
	for _, row := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		pkg, imports := row[0], row[1:]
		for _, imported := range imports {
			for begins, may := range only {
				if strings.HasPrefix(imported, begins) {
					require.Contains(t, may, pkg, "%s imports %s", pkg, imported)
				}
			}
			switch {
			case strings.HasPrefix(imported, "recompose/functions/functiontest/chaostest"):
				require.Fail(t, "only tests import it", "%s imports %s", pkg, imported)
			case imported == "recompose/functions":
				require.Equal(t, "recompose/cmd/recompose", pkg, "only the program imports the routing table")
			case pkg == imported+"/lambda": // the program of the function
			case strings.HasPrefix(imported, "recompose/functions/") && strings.HasPrefix(pkg, "recompose/functions/"):
				require.Equal(t, "recompose/functions/functiontest", imported, "%s links its neighbour", pkg)
			}
			if strings.HasPrefix(imported, "recompose/") {
				switch pkg {
				case "recompose/events", "recompose/shared/workspace", "recompose/shared/emulator", "recompose/shared/ledger":
					require.Fail(t, "knows nothing of ours", "%s imports %s", pkg, imported)
				case "recompose/shared/queue":
					require.Equal(t, "recompose/events", imported)
				}
			}
		}
	}
}

func TestAFunctionLinksNoTransport(t *testing.T) {
	t.Parallel()
	for _, name := range functions.Names() {
		for _, row := range goList(t, "-deps", "./functions/"+name) {
			for _, heavy := range []string{"github.com/nats-io/", "github.com/aws/", "github.com/spf13/", "github.com/stretchr/", "recompose/shared/emulator"} {
				require.False(t, strings.HasPrefix(row[0], heavy), "%s links %s", name, row[0])
			}
		}
	}
}

func TestALambdaLinksItsFunctionAlone(t *testing.T) {
	t.Parallel()
	for _, name := range functions.Names() {
		own := "recompose/functions/" + name
		for _, row := range goList(t, "-deps", "-tags", "lambda.norpc", "./functions/"+name+"/lambda") {
			for _, heavy := range []string{
				"github.com/nats-io/", "github.com/spf13/", "github.com/stretchr/", "github.com/prometheus/", "testing", "net/rpc",
				"github.com/aws/aws-sdk-go-v2/config", "recompose/shared/emulator", "recompose/cmd/", "recompose/shared/queue/awsqueue/awstest",
			} {
				require.False(t, strings.HasPrefix(row[0], heavy), "%s links %s", name, row[0])
			}
			if strings.HasPrefix(row[0], "recompose/functions") {
				require.Contains(t, []string{own, own + "/lambda"}, row[0], "%s links its neighbour", name)
			}
		}
	}
}

func TestNothingFromTestsInTheProgram(t *testing.T) {
	t.Parallel()
	deps := goList(t, "-deps", "./cmd/recompose")
	require.False(t, slices.ContainsFunc(deps, func(row []string) bool {
		return strings.HasPrefix(row[0], "github.com/stretchr/") || row[0] == "testing" || strings.HasPrefix(row[0], "pgregory.net/")
	}), "a test library is linked into the program")
}
