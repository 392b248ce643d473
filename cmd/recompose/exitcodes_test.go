package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// commandCodes are commands with the exit codes that they end with: where nothing answers or nothing is set up, and for names
// that do not exist.
func commandCodes(t *testing.T) map[string]struct{ absent, unknown int } {
	t.Helper()
	spec := specOf(t, smallSpec)
	return map[string]struct{ absent, unknown int }{
		"rollout status nosuch":          {exitUsage, exitFailed},
		"rollout status nosuch --watch":  {exitUsage, exitFailed},
		"rollout list":                   {exitUsage, exitDone},
		"rollout plan -f " + spec:        {exitUsage, exitFailed}, // an unknown image
		"rollout start --yes -f " + spec: {exitUsage, exitFailed},
		"rollout approve nosuch":         {exitUsage, exitFailed},
		"rollout approve nosuch --plan-sha256 " + strings.Repeat("0", 64): {exitUsage, exitFailed},
		"rollout pause nosuch":                              {exitUsage, exitFailed},
		"rollout resume nosuch":                             {exitUsage, exitFailed},
		"rollout promote nosuch":                            {exitUsage, exitFailed},
		"rollout exclude nosuch --desktop-ids d --reason r": {exitUsage, exitFailed},
		"rollout set nosuch --max-unavailable 3":            {exitUsage, exitFailed},
		"rollout retry nosuch":                              {exitUsage, exitFailed},
		"rollout rollback nosuch":                           {exitUsage, exitFailed},
		"rollout abort nosuch":                              {exitUsage, exitFailed},
		"drift -f " + spec:                                  {exitUsage, exitDone}, // it counts unknown desktops
		"desktops --desktop-ids nosuch":                     {exitUsage, exitFailed},
		"images --name nosuch":                              {exitUsage, exitDone},
		"wait nosuch":                                       {exitUnknown, exitUnknown},
		"trace nosuch":                                      {exitUsage, exitFailed},
		"events --correlation nosuch":                       {exitUsage, exitDone},
		"chains":                                            {exitUsage, exitDone},
		"dead list":                                         {exitUsage, exitDone},
		"dead show nosuch":                                  {exitUsage, exitFailed},
		"dead redrive nosuch":                               {exitUsage, exitFailed},
		"dead drop nosuch":                                  {exitUsage, exitFailed},
		"lists show":                                        {exitUsage, exitDone},
		"lists clear --deny":                                {exitUsage, exitDone},
		"send getdesktop --desktop-id nosuch":               {exitUsage, exitDone},
		"send getdesktop --desktop-id nosuch --wait":        {exitUsage, exitFailed},
		"freeze --status":                                   {exitUsage, exitDone},
		"freeze --reason r":                                 {exitUsage, exitDone},
		"thaw":                                              {exitUsage, exitDone},
	}
}

func TestExitCodesWithoutADeployment(t *testing.T) {
	t.Parallel()
	empty := plainServer(t, "-js", "-sd", t.TempDir())
	for line, want := range commandCodes(t) {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			for at, text := range map[string]string{"nats://127.0.0.1:1": "Is `recompose up` running", empty: "run recompose setup"} {
				r := program(t, "", append(strings.Fields(line), "--nats-url", at)...)
				require.Equal(t, want.absent, r.code, at+r.out+r.errOut)
				require.Contains(t, r.errOut, text)
				reads := !strings.HasPrefix(line, "send") && !strings.HasPrefix(line, "rollout")
				require.False(t, reads && at != empty && strings.Contains(r.errOut, "was not sent"), r.errOut)
			}
		})
	}
}

func TestExitCodesOfNamesThatDoNotExist(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	for line, want := range commandCodes(t) {
		r := h.run(t, strings.Fields(line)...)
		require.Equal(t, want.unknown, r.code, line+"\n"+r.out+r.errOut)
		if strings.HasPrefix(line, "rollout") && strings.Contains(line, "nosuch") {
			require.Contains(t, r.errOut, "rollout list", line)
		}
	}
}

// A wrong address is a wrong command line: nothing was started, and the error has the form of an address.
func TestAnAddressToListenOnIsCheckedFirst(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"up --nats-listen 4222":                  `--nats-listen: must be host:port, such as 127.0.0.1:4222; got "4222"`,
		"up --nats-listen 127.0.0.1:99999":       `--nats-listen: must be host:port`,
		"up --nats-listen nats://127.0.0.1:4222": `--nats-listen: must be host:port`,
		"up --nats-listen 0.0.0.0:4222":          "--nats-listen 0.0.0.0:4222 can be reached from other machines",
		"up --emulator-listen 8087":              `--emulator-listen: must be host:port`,
		"up --emulator-listen 0.0.0.0:8087":      `--emulator-listen: must be an address of this machine alone, such as 127.0.0.1:8087`,
		"emulator --listen 8087":                 `--listen: must be host:port`,
	} {
		dir := filepath.Join(t.TempDir(), "data")
		args := strings.Fields(line)
		if args[0] == "up" {
			args = append(args, "--data", dir)
		}
		r := program(t, "", args...)
		require.Equal(t, exitUsage, r.code, line)
		require.Contains(t, r.errOut, want, line)
		require.Empty(t, r.out, line)
		require.NoDirExists(t, dir)
	}
}

func TestATimeLimitOfNothingIsNone(t *testing.T) {
	t.Parallel()
	ctx, cancel := timeLimit(0).within(t.Context())
	defer cancel()
	_, limited := ctx.Deadline()
	require.False(t, limited)
	var limit timeLimit
	require.NoError(t, limit.Set("90s"))
	require.Equal(t, "1m30s", limit.String())
	ctx, cancel = limit.within(t.Context())
	defer cancel()
	end, limited := ctx.Deadline()
	require.True(t, limited)
	require.Greater(t, time.Until(end), time.Minute)
	for line := range commandCodes(t) {
		cmd, _, err := newRoot().Find(strings.Fields(line))
		require.NoError(t, err)
		if f := cmd.Flags().Lookup("timeout"); f != nil {
			require.Contains(t, f.Usage, "; 0: no limit", line)
			require.ErrorContains(t, f.Value.Set("-1s"), "must not be negative; 0 is no limit", line)
		}
	}
}
