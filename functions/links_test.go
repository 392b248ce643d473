package functions_test

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/functions"
)

// goList returns the fields of each line that go list prints.
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

// ours lists, for each package of the project, which packages of the project it may import. A package without a row, or
// an import that is not in its row, fails the test. "functions/*" is each function.
var ours = map[string]string{
	"events":                     "",
	"shared/workspace":           "",
	"shared/emulator":            "",
	"shared/chain":               "events shared/printable",
	"shared/config":              "",
	"shared/embednats":           "",
	"shared/telemetry/health":    "",
	"shared/telemetry/logging":   "",
	"shared/telemetry/profiles":  "",
	"shared/datafolder":          "events shared/service",
	"shared/textfile":            "",
	"shared/store":               "",
	"shared/store/memstore":      "shared/store",
	"shared/store/natsstore":     "shared/store",
	"shared/store/dynamostore":   "shared/store",
	"shared/safety":              "events shared/queue shared/store shared/textfile shared/workspace",
	"shared/rollout/fence":       "events",
	"shared/rollout":             "events shared/chain shared/rollout/fence shared/safety shared/store shared/textfile shared/workspace",
	"shared/queue":               "events shared/telemetry/logging",
	"shared/queue/natsqueue":     "events shared/chain shared/queue shared/telemetry/logging",
	"shared/queue/awsqueue":      "events shared/queue shared/telemetry/logging",
	"shared/telemetry/metrics":   "events shared/queue shared/queue/natsqueue shared/safety shared/telemetry/health shared/workspace",
	"shared/ledger":              "events shared/store",
	"shared/ledger/memledger":    "shared/ledger shared/store shared/store/memstore",
	"shared/ledger/natsledger":   "events shared/ledger shared/store shared/store/natsstore",
	"shared/ledger/dynamoledger": "shared/ledger shared/store shared/store/dynamostore",
	"shared/service":             "events shared/config shared/store",
	"shared/credentials":         "shared/config shared/workspace",
	"shared/verdict":             "events shared/queue shared/workspace",
	"shared/once": "events shared/config shared/ledger shared/queue shared/rollout/fence shared/safety shared/store " +
		"shared/verdict shared/workspace",
	"shared/printable":     "",
	"shared/chain/reasons": "events shared/chain shared/ledger shared/ledger/dynamoledger shared/queue/natsqueue shared/safety shared/store",
	"shared/awsstack":      "shared/queue/awsqueue",
	"shared/deployment": "events shared/awsstack shared/chain/reasons shared/config shared/ledger shared/ledger/dynamoledger shared/ledger/natsledger " +
		"shared/printable shared/queue shared/queue/awsqueue shared/queue/natsqueue shared/safety shared/service shared/store " +
		"shared/store/dynamostore shared/store/natsstore",
	"shared/deadletters": "events shared/chain shared/deployment shared/ledger shared/once shared/queue shared/store",
	"shared/worker": "events shared/config shared/credentials shared/deployment shared/ledger shared/once shared/printable shared/queue " +
		"shared/queue/natsqueue shared/safety shared/service shared/store shared/telemetry/health shared/telemetry/metrics shared/workspace",
	"shared/lambdaboot": "events shared/config shared/credentials shared/ledger shared/ledger/dynamoledger shared/once shared/queue " +
		"shared/queue/awsqueue shared/safety shared/service shared/store/dynamostore shared/telemetry/logging shared/workspace",

	"functions/*":        "events shared/once shared/ledger shared/queue shared/rollout shared/safety shared/store shared/verdict shared/workspace",
	"functions/*/lambda": "functions/* shared/lambdaboot shared/once shared/queue shared/workspace",
	"functions":          "functions/* shared/config shared/once shared/queue shared/workspace",
	"cmd/recompose": "events functions shared/awsstack shared/chain shared/chain/reasons shared/config shared/credentials shared/datafolder " +
		"shared/deadletters shared/deployment shared/embednats shared/emulator shared/ledger shared/ledger/memledger shared/once shared/printable shared/queue shared/queue/awsqueue " +
		"shared/queue/natsqueue shared/rollout shared/safety shared/service shared/store shared/store/memstore shared/store/natsstore " +
		"shared/telemetry/logging shared/telemetry/profiles shared/textfile shared/worker shared/workspace",

	"shared/testkit/awstest":    "",
	"shared/testkit/dynamotest": "",
	"shared/testkit/natstest":   "shared/embednats",
	"shared/testkit/testclock":  "",
	"shared/testkit/storetest":  "shared/store",
	"shared/testkit/chaostest":  "events shared/emulator",
	"shared/testkit/functiontest": "events shared/config shared/emulator shared/ledger shared/ledger/memledger shared/once shared/queue " +
		"shared/testkit/testclock shared/workspace",
	"shared/testkit/ledgertest": "events shared/config shared/ledger shared/once shared/queue shared/store shared/workspace",
	"shared/testkit/queuetest":  "events shared/queue",

	"deploy/nats":              "", // tests alone
	"functions/testdata/hello": "", // the program that cold starts are compared with
}

// theirs lists the only packages that may import the heavy modules; testkit may import all of them.
var theirs = map[string]string{
	"github.com/nats-io/nats.go":        "shared/queue/natsqueue shared/store/natsstore shared/ledger/natsledger shared/embednats",
	"github.com/nats-io/nats-server/v2": "shared/embednats",
	"github.com/aws/":                   "shared/queue/awsqueue shared/store/dynamostore shared/lambdaboot shared/awsstack",
	"github.com/prometheus/":            "shared/telemetry/metrics",
	"github.com/spf13/cobra":            "cmd/recompose",
	"github.com/stretchr/testify":       "",
	"pgregory.net/rapid":                "",
	"testing":                           "",
}

func TestWhoMayImportWhom(t *testing.T) {
	t.Parallel()
	for _, row := range goList(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...") {
		pkg := strings.TrimPrefix(row[0], module)
		may, known := ours[general(pkg)]
		require.True(t, known, "%s has no row in the table", pkg)
		for _, imported := range row[1:] {
			own, isOurs := strings.CutPrefix(imported, module)
			if isOurs {
				require.Contains(t, strings.Fields(may), general(own), "%s imports %s", pkg, own)
				require.True(t, strings.HasPrefix(pkg, testkit) || !strings.HasPrefix(own, testkit), "%s imports %s, which is for tests", pkg, own)
				if strings.HasSuffix(pkg, "/lambda") && strings.HasPrefix(own, "functions/") {
					require.Equal(t, pkg, own+"/lambda", "a program links its own function alone")
				}
			}
			for begins, may := range theirs {
				if strings.HasPrefix(imported, begins) && !isOurs && !strings.HasPrefix(pkg, testkit) {
					require.Contains(t, strings.Fields(may), pkg, "%s imports %s", pkg, imported)
				}
			}
		}
	}
}

const (
	module  = "recompose/"
	testkit = "shared/testkit/"
)

// general is a package as the table names it.
func general(pkg string) string {
	parts := strings.Split(pkg, "/")
	if len(parts) > 1 && parts[0] == "functions" && parts[1] != "testdata" {
		parts[1] = "*"
	}
	return strings.Join(parts, "/")
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
				"github.com/aws/aws-sdk-go-v2/config", "recompose/shared/emulator", "recompose/cmd/", "recompose/shared/testkit/awstest",
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
