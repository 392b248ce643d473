package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"recompose/functions"
)

// ran is what a run of the program within this process gave.
type ran struct {
	code        int
	out, errOut string
}

func program(t *testing.T, stdin string, args ...string) ran {
	t.Helper()
	var out, errOut bytes.Buffer
	code := run(t.Context(), args, strings.NewReader(stdin), &out, &errOut)
	return ran{code, out.String(), errOut.String()}
}

func TestUsageErrorsAreExitCode2(t *testing.T) {
	t.Parallel()
	utf32 := filepath.Join(t.TempDir(), "seed")
	require.NoError(t, os.WriteFile(utf32, []byte("\xff\xfe\x00\x00{\x00\x00\x00"), 0o600))
	for name, test := range map[string]struct {
		args []string
		want string // in the output
	}{
		"nothing":                        {nil, "missing command"},
		"unknown command":                {[]string{"chian"}, `unknown command "chian"; did you mean "chains"`},
		"unknown command with flags":     {[]string{"demmo", "--desktops", "3"}, `unknown command "demmo"; did you mean "demo"?` + "\nRun `recompose --help` for its use"},
		"unknown command like none":      {[]string{"machines"}, "unknown command \"machines\"\n"},
		"unknown subcommand":             {[]string{"lists", "shwo"}, `unknown command "shwo"; did you mean "show"?` + "\nRun `recompose lists --help`"},
		"unknown subcommand with flags":  {[]string{"dead", "lst", "--json"}, `unknown command "lst"; did you mean "list"?` + "\nRun `recompose dead --help`"},
		"misspelt flag of a function":    {[]string{"send", "rebuild", "--image-ids", "x"}, "unknown flag: --image-ids; did you mean \"--image-id\"?\nRun `recompose send rebuild --help`"},
		"misspelt function":              {[]string{"send", "rebuld", "--image-id", "x"}, `unknown function "rebuld"; did you mean "rebuild"? There are checkimages`},
		"a field that is not given":      {[]string{"send", "getdesktop"}, "Run `recompose send getdesktop --help`"},
		"shorthand":                      {[]string{"demo", "-x"}, "unknown shorthand flag: 'x' in -x\nRun `recompose demo --help`"},
		"unknown flag":                   {[]string{"demo", "--desktop"}, "unknown flag"},
		"flag that is no number":         {[]string{"demo", "--desktops", "x"}, `--desktops: must be a whole number; got "x"`},
		"time without a unit":            {[]string{"wait", "c", "--timeout", "5"}, "--timeout: must be a duration with a unit, such as 90s, 10m or 1h30m; got \"5\""},
		"too few desktops":               {[]string{"demo", "--desktops", "0"}, "--desktops"},
		"too many desktops":              {[]string{"demo", "--desktops", "5001"}, "1 to 5000; got 5001"},
		"more failures than desktops":    {[]string{"demo", "--desktops", "2", "--fail", "3"}, "--fail"},
		"arguments to demo":              {[]string{"demo", "x"}, `unexpected "x": demo takes no arguments`},
		"arguments of a completion":      {[]string{"completion", "bash", "x"}, `unexpected "x": bash takes no arguments`},
		"help of an unknown command":     {[]string{"help", "chain"}, `unknown command "chain"; did you mean "chains"?`},
		"help of an unknown subcommand":  {[]string{"help", "lists", "shwo"}, `unknown command "shwo"; did you mean "show"?`},
		"a flag without its value":       {[]string{"wait", "c", "--timeout"}, "--timeout: must be followed by a value\nRun `recompose wait --help`"},
		"two ids to redrive":             {[]string{"dead", "redrive", "a", "b"}, `redrive takes one id, and "b" is a second one`},
		"flags that exclude each other":  {[]string{"demo", "--rollout", "--fail", "1"}, "--rollout and --fail: give one of them"},
		"send without function":          {[]string{"send"}, strings.Join(sendableNames(), ", ")},
		"send to an unknown function":    {[]string{"send", "watchjob"}, `unknown function "watchjob"; there are ` + strings.Join(sendableNames(), ", ")},
		"run of an unknown function":     {[]string{"run", "nosuch"}, `unknown function "nosuch"; there are ` + strings.Join(functions.Names(), ", ")},
		"wait without correlation":       {[]string{"wait"}, "correlation id"},
		"events of an unknown type":      {[]string{"events", "--type", "job"}, `unknown type "job"; there are job.accepted`},
		"events since when":              {[]string{"events", "--since", "yesterday"}, `got "yesterday"`},
		"emulator with a bad speed":      {[]string{"emulator", "--speed", "-1"}, "speed"},
		"emulator without its seed":      {[]string{"emulator", "--seed", "/nonexistent/seed"}, "--seed: open /nonexistent/seed"},
		"emulator with an empty seed":    {[]string{"emulator", "--seed", os.DevNull}, "--seed: " + os.DevNull + " is empty"},
		"data that is a file":            {[]string{"up", "--data", utf32}, "--data: "},
		"data of a folder":               {[]string{"send", "rebuild", "-f", os.TempDir()}, "-f: read " + os.TempDir()},
		"completions of no shell":        {[]string{"completion", "fsh"}, `unknown command "fsh"; did you mean "fish" or "zsh"?`},
		"completions of what shell":      {[]string{"completion"}, "missing shell: bash, zsh, fish or powershell"},
		"emulator with a seed in UTF-32": {[]string{"emulator", "--seed", utf32}, "UTF-32"},
		"up on two services":             {[]string{"up", "--region", "cn-north-4", "--workspace-endpoint", "https://w"}, "not both"},
		"send with an empty id":          {[]string{"send", "rebuild", "--id", "", "--desktop-ids", "a"}, "--id: must not be empty"},
		"send with no id":                {[]string{"send", "rebuild", "--id", "--wait", "--desktop-ids", "a"}, "--id: must be followed by a value; got the flag --wait"},
		"send with no image":             {[]string{"send", "rebuild", "--image-id", "--image-type", "gold"}, "--image-id: must be followed by a value; got the flag --image-type"},
		"send with an empty stack":       {[]string{"send", "rebuild", "--aws=", "--desktop-ids", "a"}, "--aws: must not be empty"},
		"send with an empty time":        {[]string{"send", "rebuild", "--not-after", ""}, "--not-after: must not be empty"},
		"rollback of no desktop":         {[]string{"rollout", "rollback", "x", "--desktop-ids", ""}, "--desktop-ids: must not be empty"},
		"retry of empty lines":           {[]string{"rollout", "retry", "x", "--desktop-ids", "\n\r\n"}, "--desktop-ids: must not be empty"},
		"retry with an empty file":       {[]string{"rollout", "retry", "x", "--desktop-ids-file", os.DevNull}, "--desktop-ids-file: " + os.DevNull + " names no desktop"},
		"wait with an empty digest":      {[]string{"wait", "c1", "--digest", ""}, "--digest: must not be empty"},
		"up with no speed":               {[]string{"up", "--speed", "0"}, "--speed: must be more than 0 and at most 1000000; got 0"},
		"up with a speed of no number":   {[]string{"up", "--speed", "nan"}, "--speed: must be more than 0 and at most 1000000; got NaN"},
		"up without desktops":            {[]string{"up", "--desktops", "0"}, "--desktops: must be 1 to 100000; got 0"},
		"up with fewer than none":        {[]string{"up", "--desktops=-1"}, "--desktops: must be 1 to 100000; got -1"},
		"emulator with no speed":         {[]string{"emulator", "--speed", "0"}, "--speed: must be more than 0 and at most 1000000; got 0"},
		"emulator with a bad job time":   {[]string{"emulator", "--job-time", "60m..3m"}, `--job-time: must be a duration or a range such as 3m..60m, more than 0; got "60m..3m"`},
		"emulator with fewer than none":  {[]string{"emulator", "--reads-per-minute=-1"}, "--reads-per-minute: must not be negative; got -1"},
		"emulator without desktops":      {[]string{"emulator", "--desktops", "0"}, "--desktops: must be 1 to 100000; got 0"},
		"demo with fewer than none":      {[]string{"demo", "--desktops=-1"}, "--desktops: must be 1 to 5000; got -1"},
		"up backwards":                   {[]string{"up", "--speed", "-Inf"}, "--speed: must be more than 0 and at most 1000000; got -Inf"},
		"profiles for other machines":    {[]string{"run", "--pprof", "0.0.0.0:6060"}, `"0.0.0.0:6060"`},
		"an odd address of NATS":         {[]string{"events", "--nats-url", "http://a:1"}, "--nats-url: must be addresses like nats://"},
		"an odd address to wait at":      {[]string{"wait", "c", "--nats-url", "http://a:1"}, "--nats-url: must be addresses like nats://"},
		"a NATS server without answer":   {[]string{"events", "--nats-url", "nats://127.0.0.1:1"}, "and is --nats-url right?"},
		"up in an odd region":            {[]string{"up", "--region", "a b"}, "--region: "},
		"up on an odd service":           {[]string{"up", "--workspace-endpoint", "w"}, "--workspace-endpoint: "},
		"log format":                     {[]string{"emulator", "--log-format", "xml"}, `--log-format: must be text or json; got "xml"`},
		"log format of up":               {[]string{"up", "--log-format", "xml"}, `--log-format: must be text or json; got "xml"`},
		"emulator with a seed of text":   {[]string{"emulator", "--seed", "main.go"}, "--seed: main.go must be JSON as /_emulator/state returns it"},
		"emulator with data in a file":   {[]string{"emulator", "--data", "main.go"}, "--data: emulator: make data folder"},
		"true or false without =":        {[]string{"send", "desktoptoimage", "--execute-sysprep", "false"}, `unexpected "false"`},
		"timeout without wait":           {[]string{"send", "getdesktop", "--desktop-id", "a", "--timeout", "1s"}, "need --wait"},
		"control characters in an echo":  {[]string{"\x1b[31m"}, `\x1b[31m`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := program(t, "", test.args...)
			require.Equal(t, exitUsage, r.code, r.errOut)
			require.Contains(t, r.errOut, test.want)
			require.NotContains(t, r.errOut, "\x1b")
		})
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	t.Parallel()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" || c.HasParent() && c.Parent().Name() == "completion" {
			return
		}
		r := program(t, "", append(strings.Fields(c.CommandPath())[1:], "--help")...)
		require.Equal(t, exitDone, r.code, c.CommandPath())
		require.Contains(t, r.out, "Examples:", c.CommandPath())
		require.NotEmpty(t, c.Short, c.CommandPath())
		for line := range strings.Lines(c.Long) {
			require.LessOrEqual(t, utf8.RuneCountInString(line), 123, c.CommandPath())
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := program(t, "", "version")
	require.Regexp(t, `^recompose \S+ .*\(go1\..*\)\n$`, r.out)
	require.Equal(t, r, program(t, "", "--version"))
	require.Contains(t, program(t, "", "version", "--json").out, `"go":"go1.`)
}
