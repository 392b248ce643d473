package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/telemetry/logging"
	"recompose/shared/textfile"
)

const defaultEmulatorListen = "127.0.0.1:8087"

func emulatorCommand() *cobra.Command {
	var settings emulator.Options
	listen := listenAddress(defaultEmulatorListen)
	var seed, form, jobTime string
	cmd := &cobra.Command{
		Use:   "emulator",
		Short: "Serve an emulator of the Workspace API",
		Long: `Serve an emulator of the Workspace API over HTTP: the calls that recompose makes, with signatures, jobs that take
time, and faults on demand. State, journal and faults are at /_emulator/ (from this machine only).

It is for tests and trials. Do not expose it to others.`,
		Example: `  recompose emulator
  recompose emulator --desktops 250 --speed 60 --data ./workspace
  curl http://127.0.0.1:8087/_emulator/state`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if seed != "" {
				var err error
				if settings.Seed, err = readSeed(seed); err != nil {
					return wrongUse(fmt.Errorf("--seed: %w", err))
				}
			}
			for _, name := range []string{"reads-per-minute", "writes-per-minute", "token-lifetime", "key-lifetime", "signature-window"} {
				if value := cmd.Flags().Lookup(name).Value.String(); strings.HasPrefix(value, "-") {
					return wrongUse(fmt.Errorf("--%s: must not be negative; got %s", name, value))
				}
			}
			if err := cmp.Or(divisor("--speed", settings.Speed), divisor("--pace", cmp.Or(settings.Pace, 1)), fleetSize(settings.Desktops)); err != nil {
				return err
			}
			if jobTime != "" {
				var err error
				if settings.JobTime, err = emulator.ParseJobTime(jobTime); err != nil {
					return wrongUse(fmt.Errorf("--job-time: %w", err))
				}
			}
			log, err := logging.New(cmd.ErrOrStderr(), "info", form)
			if err != nil {
				return wrongUse(fmt.Errorf("--log-format: %w", err))
			}
			settings.Log = log
			settings.Hosts = append(settings.Hosts, hostOf(listen))
			return serveEmulator(cmd, string(listen), settings)
		}),
	}
	f := cmd.Flags()
	f.Var(&listen, "listen", "address to serve on; port 0 takes a free one")
	addList(f, &settings.Hosts, "host",
		"`NAME` by which callers reach it, besides localhost and IP addresses; repeat or separate by comma")
	f.IntVar(&settings.Desktops, "desktops", 10, "number of generated desktops")
	f.StringVar(&seed, "seed", "", "`FILE` with the first state, as /_emulator/state returns it")
	f.Float64Var(&settings.Speed, "speed", 1, "divides the durations of jobs; clocks and signatures stay real")
	f.Float64Var(&settings.Pace, "pace", 0, "how fast it reports to run, if not --speed; for tests")
	_ = f.MarkHidden("pace")
	f.StringVar(&jobTime, "job-time", "", "how long jobs take before --speed: a `DURATION`, or a range such as 3m..60m (default 10m for a rebuild, 20m for an image)")
	f.IntVar(&settings.ReadsPerMinute, "reads-per-minute", 0, "refuse more GET calls a minute with 429; the service takes 200; 0: no limit")
	f.IntVar(&settings.WritesPerMinute, "writes-per-minute", 0, "refuse more POST calls a minute with 429, check-images among them; the service takes 100; 0: no limit")
	f.StringVar(&settings.AccessKey, "ak", emulator.DefaultAccessKey, "access key that callers must use")
	f.StringVar(&settings.SecretKey, "sk", emulator.DefaultSecretKey, "secret key that callers must use")
	f.StringVar(&settings.ProjectID, "project-id", emulator.DefaultProjectID, "project that callers must use")
	f.StringVar(&settings.IAMUser, "iam-user", emulator.DefaultIAMUser, "IAM user that may log in at /v3/auth/tokens")
	f.StringVar(&settings.IAMPassword, "iam-password", emulator.DefaultIAMPassword, "its password")
	f.StringVar(&settings.IAMDomain, "iam-domain", emulator.DefaultIAMDomain, "its account")
	f.DurationVar(&settings.TokenLifetime, "token-lifetime", 24*time.Hour, "validity of a token after its login")
	f.BoolVar(&settings.Agency, "agency", false,
		"serve the metadata of a server with an agency, which returns temporary keys")
	f.DurationVar(&settings.KeyLifetime, "key-lifetime", 24*time.Hour,
		"validity of temporary keys; new ones are issued when a third is left")
	f.StringVar(&settings.DataDir, "data", "", "folder for its state; without it the state is lost at the end")
	f.DurationVar(&settings.SignatureWindow, "signature-window", config.SignatureWindow, "greatest age of a signature")
	f.DurationVar(&settings.ClockSkew, "clock-skew", 0, "how far its clock is ahead of this machine's; negative: behind")
	f.StringVar(&form, "log-format", logging.Text, "text or json")
	return cmd
}

// readSeed reads the first state of an emulator.
func readSeed(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if content, err = textfile.Decode(content); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, fmt.Errorf("%s is empty", file)
	}
	var state map[string]json.RawMessage
	if err := json.Unmarshal(content, &state); err != nil {
		return nil, fmt.Errorf("%s must be JSON as /_emulator/state returns it: %w", file, err)
	}
	return content, nil
}

func serveEmulator(cmd *cobra.Command, listen string, settings emulator.Options) error {
	server, err := emulator.New(settings)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		err = fmt.Errorf("--data: %w", err)
	}
	if err != nil {
		return wrongUse(err)
	}
	defer server.Close()
	site, err := emulator.Serve(cmd.Context(), listen, server)
	if err != nil {
		return chooseAnother("--listen", err)
	}
	defer site.Close(cmd.Context())
	out := cmd.OutOrStdout()
	printLine(out, "EMULATOR %s", site.URL)
	printLine(out, "%s in project %s; the first is %s", chain.Count(len(server.DesktopIDs()), "desktop"),
		settings.ProjectID, firstDesktop(server.DesktopIDs()))
	printLine(out, "\nTo use it with recompose:\n")
	for _, line := range [][2]string{
		{"RECOMPOSE_WORKSPACE_ENDPOINT", site.URL},
		{"HUAWEICLOUD_SDK_PROJECT_ID", settings.ProjectID},
		{"HUAWEICLOUD_SDK_AK", settings.AccessKey},
		{"HUAWEICLOUD_SDK_SK", settings.SecretKey},
	} {
		printLine(out, "  %s", exportLine(line[0], line[1]))
	}
	if settings.Agency {
		printLine(out, "\nor, instead of the two keys:\n")
		printLine(out, "  %s", exportLine("RECOMPOSE_AGENCY", config.AgencyMetadata))
		printLine(out, "  %s", exportLine("RECOMPOSE_METADATA_ENDPOINT", site.URL))
	}
	printLine(out, "\nCtrl-C ends it.")
	select {
	case <-cmd.Context().Done():
		return nil
	case err := <-site.Failed:
		return fmt.Errorf("serve the emulator: %w", err)
	}
}

func firstDesktop(ids []string) string {
	if len(ids) == 0 {
		return "none"
	}
	return ids[0]
}

// maxFleet bounds the desktops of the emulator, which are in memory.
const maxFleet = 100_000

// fleetSize checks the size of the emulator's fleet.
func fleetSize(desktops int) error {
	if desktops < 1 || desktops > maxFleet {
		return wrongUse(fmt.Errorf("--desktops: must be 1 to %d; got %d", maxFleet, desktops))
	}
	return nil
}

// hostOf returns the host of an address to listen on.
func hostOf(listen listenAddress) string {
	host, _, _ := net.SplitHostPort(string(listen)) // the flag rejects an invalid address
	return host
}

// chooseAnother adds the flag of an address to the error of listening on it.
func chooseAnother(flag string, err error) error {
	return fmt.Errorf("%s: %w; choose another address with %s, or stop the process that uses it", flag, err, flag)
}
