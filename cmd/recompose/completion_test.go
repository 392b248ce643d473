package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/store/natsstore"
)

// completions are what a shell offers for a command line whose last word is not finished.
func completions(t *testing.T, line ...string) (offered []string, directive string) {
	t.Helper()
	r := program(t, "", append([]string{"__completeNoDesc"}, line...)...)
	require.Equal(t, exitDone, r.code, r.errOut)
	lines := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n")
	last := line[len(line)-1]
	if flag, value, isFlag := strings.Cut(last, "="); isFlag && strings.HasPrefix(flag, "-") {
		last = value
	}
	for _, o := range lines[:len(lines)-1] { // shells leave out what does not begin so
		if strings.HasPrefix(o, last) {
			offered = append(offered, o)
		}
	}
	return offered, lines[len(lines)-1]
}

const (
	noFiles        = ":4"
	noFilesNoSpace = ":6"
	anyFile        = ":0"
	folders        = ":16"
)

func TestCompletion(t *testing.T) {
	t.Parallel()
	ids := filepath.Join(t.TempDir(), "fleet.txt")
	require.NoError(t, os.WriteFile(ids, []byte("d1\nd2 # second\nd3\n"), 0o600))
	for line, want := range map[string]struct {
		offered   []string
		directive string
	}{
		"fre":                                    {[]string{"freeze"}, noFiles},
		"lists ":                                 {[]string{"clear", "set", "show"}, noFiles},
		"lists clear --al":                       {[]string{"--allow"}, noFiles},
		"lists set --deny ":                      {nil, anyFile},
		"dead re":                                {[]string{"redrive"}, noFiles},
		"dead list --function reb":               {[]string{"rebuild"}, noFiles},
		"dead list --class ":                     {[]string{"unreadable", "permanent", "attempts_used_up", "undelivered"}, noFiles},
		"invoke ":                                {functions.Names(), noFiles},
		"invoke rebuild ":                        {nil, noFiles},
		"invoke rebuild -e ":                     {nil, anyFile},
		"run rebuild w":                          {[]string{"watchjob"}, noFiles},
		"send de":                                {[]string{"desktoptoimage"}, noFiles},
		"send rebuild --image-type ":             {[]string{"gold", "private", "market"}, noFiles},
		"send rebuild --os-type W":               {[]string{"Windows"}, noFiles},
		"send rebuild --encrypt-type ":           {[]string{"KEEP", "UNENCRYPTED", "ENCRYPTED"}, noFiles},
		"send rebuild --message ":                {nil, noFiles},
		"send desktoptoimage --execute-sysprep=": {[]string{"true", "false"}, noFiles},
		"up --data ":                             {nil, folders},
		"up --log-format ":                       {[]string{"text", "json"}, noFiles},
		"events --type job.":                     {[]string{"job.accepted", "job.completed", "job.progress"}, noFilesNoSpace},
		"events --type job.accepted,job.":        {[]string{"job.accepted,job.completed", "job.accepted,job.progress"}, noFilesNoSpace},
		"wait ":                                  {nil, noFiles},
		"send rebuild --desktop-ids-file " + ids + " --desktop-ids ":     {[]string{"d1", "d2", "d3"}, noFilesNoSpace},
		"send rebuild --desktop-ids-file " + ids + " --desktop-ids d2,":  {[]string{"d2,d1", "d2,d3"}, noFilesNoSpace},
		"send desktoptoimage --then-rebuild " + ids + " --desktop-id d3": {[]string{"d3"}, noFiles},
		"send rebuild --desktop-ids-file - --image-type pri":             {[]string{"private"}, noFiles},
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			offered, directive := completions(t, strings.Split(line, " ")...)
			require.ElementsMatch(t, want.offered, offered)
			require.Equal(t, want.directive, directive)
		})
	}
}

func TestCompletionOfIDsCallsOnlyALocalEmulator(t *testing.T) {
	world, err := emulator.New(emulator.Options{Desktops: 3})
	require.NoError(t, err)
	defer func() { require.NoError(t, world.Close()) }()
	var calls atomic.Int64
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		world.ServeHTTP(w, r)
	}))
	defer site.Close()
	t.Setenv("RECOMPOSE_WORKSPACE_ENDPOINT", site.URL)
	desktops := world.DesktopIDs()
	offered, directive := completions(t, "send", "rebuild", "--desktop-ids", desktops[0]+",")
	require.Equal(t, []string{desktops[0] + "," + desktops[1], desktops[0] + "," + desktops[2]}, offered)
	require.Equal(t, noFilesNoSpace, directive)
	offered, _ = completions(t, "send", "getdesktop", "--desktop-id", "")
	require.Equal(t, desktops, offered)
	offered, _ = completions(t, "send", "rebuild", "--image-id", "")
	require.NotEmpty(t, offered)
	image := world.State().Images[0]
	require.Contains(t, program(t, "", "__complete", "send", "rebuild", "--image-id", "").out, image.ID+"\t"+image.Name+" ("+image.ImageType+")\n")

	before := calls.Load()
	offered, _ = completions(t, "send", "rebuild", "--aws", "recompose", "--image-id", "")
	require.Empty(t, offered)
	t.Setenv("RECOMPOSE_WORKSPACE_ENDPOINT", "https://workspace.invalid")
	offered, _ = completions(t, "send", "rebuild", "--image-id", "")
	require.Empty(t, offered, "a real service gets no call")
	require.Equal(t, before, calls.Load())
}

func TestCompletionOfTheNamesOfRollouts(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	records, err := natsstore.Open(t.Context(), w.nc, natsstore.Options{Bucket: natsstore.Rollouts, Verify: true})
	require.NoError(t, err)
	put(t, records, rollout.IndexKey, rollout.Index{Names: []string{"november", "december"}})
	for _, verb := range []string{"status", "approve", "pause", "rollback"} {
		offered, directive := completions(t, "rollout", verb, "--nats-url", w.url, "nov")
		require.Equal(t, []string{"november"}, offered, verb)
		require.Equal(t, noFiles, directive, verb)
	}
	for _, line := range [][]string{
		{"--nats-url", w.url, "november", ""}, {"--aws", "recompose", ""}, {"--nats-url", "nats://" + freePort(t), ""},
	} {
		r := program(t, "", append([]string{"__completeNoDesc", "rollout", "abort"}, line...)...)
		require.Equal(t, exitDone, r.code)
		require.Equal(t, noFiles+"\n", r.out, "%s", line)
		require.Equal(t, "Completion ended with directive: ShellCompDirectiveNoFileComp\n", r.errOut, "%s", line)
	}
}

// The script for bash gets the words of the line from the package bash-completion, whose function stands here in its place.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	const script = `
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }
source <("$1" completion bash)
shift
recompose() { "$BIN" "$@"; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMP_TYPE=9
$(complete -p recompose | sed 's/.*-F \([^ ]*\).*/\1/')
printf '%s\n' "${COMPREPLY[@]}"`
	program := binary(t, "recompose")
	for line, want := range map[string]string{
		"recompose fre":                            "freeze",
		"recompose lists sh":                       "show",
		"recompose invoke get":                     "getdesktop",
		"recompose send rebuild --image-type pri":  "private",
		"recompose events --type job.accepted,com": "job.accepted,command.split\njob.accepted,command.failed\njob.accepted,command.unclear",
	} {
		cmd := exec.CommandContext(t.Context(), bash, append([]string{"--norc", "-c", script, "bash", program}, strings.Split(line, " ")...)...)
		cmd.Env = append(os.Environ(), "BIN="+program)
		out, err := cmd.Output()
		require.NoError(t, err, line)
		require.Equal(t, strings.Fields(want), strings.Fields(string(out)), line)
	}
}

func TestCompletionScriptsForEveryShell(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		r := program(t, "", "completion", shell)
		require.Equal(t, exitDone, r.code, r.errOut)
		require.Contains(t, r.out, "__complete", shell)
	}
}
