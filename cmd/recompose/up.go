package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/datafolder"
	"recompose/shared/embednats"
	"recompose/shared/emulator"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/telemetry/logging"
	"recompose/shared/worker"
	"recompose/shared/workspace"
)

// upFlags are the flags of `up`.
type upFlags struct {
	data           string
	natsListen     listenAddress
	emulatorListen listenAddress
	desktops       int
	speed          float64
	endpoint       string
	region         string
	form           string
}

func upCommand() *cobra.Command {
	f := upFlags{natsListen: "127.0.0.1:4222", emulatorListen: defaultEmulatorListen}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run NATS, all functions and an emulator in one process",
		Long: `Run NATS and all functions in one process, against an emulator of the Workspace API, or with --region or
--workspace-endpoint (or RECOMPOSE_REGION, RECOMPOSE_WORKSPACE_ENDPOINT) against that service with the credentials of
the environment. The first line of the output reports whether the service is real.

The data folder has all state: after a stop or a kill, the next start continues.

With NATS_USER and NATS_PASSWORD every NATS client must log in with them. Without, every user of this machine may send.
Other machines can connect only with them and with TLS (NATS_CERT, NATS_KEY).`,
		Example: `  recompose up
  recompose up --desktops 250 --speed 200
  HUAWEICLOUD_SDK_AK=... HUAWEICLOUD_SDK_SK_FILE=sk HUAWEICLOUD_SDK_PROJECT_ID=... recompose up --region ap-southeast-1`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error { return f.up(cmd) }),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.data, "data", "recompose-data", "folder for all state")
	flags.Var(&f.natsListen, "nats-listen", "address for NATS clients; port 0 takes a free one")
	flags.Var(&f.emulatorListen, "emulator-listen", "address of the emulator, on this machine")
	flags.IntVar(&f.desktops, "desktops", 13, "number of desktops of the emulator, if its data folder is new")
	flags.Float64Var(&f.speed, "speed", 60, "divides the durations of the emulator's jobs")
	flags.StringVar(&f.region, "region", "", "use the real service in this region")
	flags.StringVar(&f.endpoint, "workspace-endpoint", "", "use the service at this address")
	flags.StringVar(&f.form, "log-format", logging.Text, "form of the log on standard error: text or json")
	return cmd
}

func (f upFlags) up(cmd *cobra.Command) error {
	ctx := cmd.Context()
	if err := f.check(); err != nil {
		return err
	}
	c, err := loadConfig(cmd, config.Options{Service: config.IfSet, Flags: map[string]string{
		"RECOMPOSE_REGION": f.region, "RECOMPOSE_WORKSPACE_ENDPOINT": f.endpoint,
	}})
	if err != nil {
		return err
	}
	log, err := newLog(cmd.ErrOrStderr(), c, f.form)
	if err != nil {
		return err
	}
	own, folder, err := f.service(ctx, c, log)
	if err != nil {
		return err
	}
	dir := filepath.Join(f.data, folder)
	options, err := f.natsOptions(c, filepath.Join(dir, "nats"), own)
	if err != nil {
		return err
	}
	printLine(cmd.OutOrStdout(), "%s", own)
	if !c.ServiceChosen() && c.Region != "" {
		printLine(cmd.OutOrStdout(), "(HW_REGION_NAME is set; to use the real service there, give --region %s)",
			escape(c.Region))
	}
	unlock, err := lockState(cmd, dir, own)
	if err != nil {
		return err
	}
	defer unlock()
	w, err := newWorker(ctx, c, log)
	if err != nil {
		return err
	}
	defer w.Close()
	api, fleet, stop, err := f.client(cmd, c, w, filepath.Join(dir, "workspace"), log)
	if err != nil {
		return err
	}
	defer stop()
	options.Log = log
	server, err := embednats.Start(options)
	if err != nil {
		return err
	}
	defer server.Close()
	nc, err := server.Connect(natsqueue.Logged(log)...)
	if err != nil {
		return fmt.Errorf("connect to the embedded NATS server: %w", err)
	}
	defer nc.Close()
	c.NATSReplicas, c.Setup = 0, config.SetupCreate // of the embedded server
	if err := w.SetUp(ctx, nc); err != nil {
		return err
	}
	if at := w.URL(); at != "" {
		printLine(cmd.OutOrStdout(), "health    %s/readyz", at)
	}
	if err := claim(ctx, w, own, functions.Routes()); err != nil {
		return unlessInterrupted(ctx, err)
	}
	fns := functions.New(c, api, w.Start(ctx, own))
	if c.ServiceChosen() {
		printLine(cmd.OutOrStdout(), "%s", escape(w.Desktops(ctx)))
	}
	if line := f.senders(c, own); line != "" {
		printLine(cmd.OutOrStdout(), "senders   %s", line)
	}
	if err := f.instruct(cmd, c, fleet, server.ClientURL()); err != nil {
		return err
	}
	defer announceStop(cmd)()
	return stopError(w.Run(ctx, fns))
}

// check checks the flags.
func (f upFlags) check() error {
	switch err := cmp.Or(divisor("--speed", f.speed), fleetSize(f.desktops)); {
	case f.region != "" && f.endpoint != "":
		return wrongUse(errors.New("give --region or --workspace-endpoint, not both"))
	case err != nil:
		return err
	case !config.Loopback("http://" + string(f.emulatorListen)):
		return wrongUse(fmt.Errorf("--emulator-listen: must be an address of this machine alone, such as %s, because the emulator "+
			"is served without TLS; got %q", defaultEmulatorListen, string(f.emulatorListen)))
	}
	return nil
}

// lockState locks the folder with the state of a service. It reports a folder of a real service that is new.
func lockState(cmd *cobra.Command, dir string, own events.Service) (unlock func(), err error) {
	_, noState := os.Stat(dir)
	unlock, err = datafolder.Lock(dir)
	if _, wrong := errors.AsType[*fs.PathError](err); wrong {
		return nil, nothingDone(fmt.Errorf("--data: %w", err))
	}
	if err == nil && !own.Emulator() && noState != nil {
		printLine(cmd.OutOrStdout(), "NEW       %s has no state yet: no list of desktops and no freeze is set, and ids of commands that were sent\n"+
			"          to another folder are not known. If this is not the first start, stop now and give --data.", escape(absolute(dir)))
	}
	return unlock, err
}

// client returns a client of the configured service, or starts an emulator until stop and returns its desktops too.
func (f upFlags) client(
	cmd *cobra.Command, c *config.Config, w *worker.Worker, dir string, log *slog.Logger,
) (api *workspace.Client, fleet []string, stop func(), err error) {
	if c.ServiceChosen() {
		if api, err = w.Client(); err != nil {
			err = nothingDone(err)
		}
		return api, nil, func() {}, err
	}
	world, site, err := f.emulate(cmd.Context(), c, dir, log)
	if err != nil {
		return nil, nil, nil, err
	}
	stop = func() {
		site.Close(cmd.Context())
		world.Close()
	}
	if api, err = emulatorClient(site.URL, emulator.DefaultProjectID, c, w.Called); err != nil {
		stop()
		return nil, nil, nil, err
	}
	w.Uses(api, credentials.Name(emulatorKey(), ""))
	c.Pace = f.speed
	printLine(cmd.OutOrStdout(), "emulator  %s", site.URL)
	return api, world.DesktopIDs(), stop, nil
}

// service returns the service behind it, and the name of the folder with its state.
func (f upFlags) service(ctx context.Context, c *config.Config, log *slog.Logger) (events.Service, string, error) {
	if !c.ServiceChosen() {
		return events.Service{Kind: events.ServiceEmulator, Project: emulator.DefaultProjectID}, "emulator", nil
	}
	own, err := awaitService(ctx, c, log)
	if err != nil {
		return own, "", err
	}
	folder, err := datafolder.Of(f.data, own, c.Endpoint())
	if _, unread := errors.AsType[*fs.PathError](err); err != nil && !unread {
		err = nothingDone(err)
	}
	return own, folder, err
}

// emulate starts the emulator. Close the site, then the server.
func (f upFlags) emulate(
	ctx context.Context, c *config.Config, dir string, log *slog.Logger,
) (*emulator.Server, *emulator.Site, error) {
	world, err := emulator.New(emulator.Options{
		Desktops: f.desktops, Speed: f.speed, SignatureWindow: c.SignatureWindow, DataDir: dir, Log: log,
		Hosts: []string{hostOf(f.emulatorListen)},
	})
	if err != nil {
		return nil, nil, err
	}
	site, err := emulator.Serve(ctx, string(f.emulatorListen), world)
	if err != nil {
		_ = world.Close()
		return nil, nil, chooseAnother("--emulator-listen", err)
	}
	return world, site, nil
}

// natsOptions returns the options of the embedded server. It requires the configured user of every client, and serves
// other machines only with a user and with TLS.
func (f upFlags) natsOptions(c *config.Config, dir string, own events.Service) (embednats.Options, error) {
	o := embednats.Options{
		StoreDir: dir, Listen: string(f.natsListen), SyncAlways: !own.Emulator(), User: c.NATSUser, Password: string(c.NATSPassword),
	}
	if c.NATSCreds != "" && !own.Emulator() {
		return o, nothingDone(errors.New("NATS_CREDS: the embedded NATS server cannot check a credentials file, so every " +
			"user of this machine could have desktops wiped: give NATS_USER and NATS_PASSWORD instead, or unset it"))
	}
	if !config.Loopback("nats://" + string(f.natsListen)) {
		o.CertFile, o.KeyFile = c.NATSCert, c.NATSKey
	}
	if err := o.Check(); err != nil {
		return o, nothingDone(err)
	}
	return o, nil
}

// senders reports who can send writes to a real service; "" for an emulator.
func (f upFlags) senders(c *config.Config, own events.Service) string {
	switch {
	case own.Emulator():
		return ""
	case c.NATSUser != "":
		return "everyone with NATS_USER and NATS_PASSWORD"
	default:
		return "every user and program on this machine, without a password; set NATS_USER and NATS_PASSWORD to require them"
	}
}

// emulatorClient returns a client of an emulator in this process.
func emulatorClient(endpoint, project string, c *config.Config, onCall func(workspace.CallInfo)) (*workspace.Client, error) {
	return workspace.New(workspace.Options{
		Endpoint: endpoint, ProjectID: project, Auth: emulatorKey(), ReadsPerMinute: -1, WritesPerMinute: -1,
		Concurrency: c.Concurrency, SignatureWindow: c.SignatureWindow, OnCall: onCall,
	})
}

func emulatorKey() workspace.AKSK {
	return workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey}
}

// instruct prints how to send a command to it.
func (f upFlags) instruct(cmd *cobra.Command, c *config.Config, fleet []string, natsURL string) error {
	out := cmd.OutOrStdout()
	natsURL = strings.NewReplacer("//0.0.0.0:", "//127.0.0.1:", "//[::]:", "//[::1]:").Replace(natsURL)
	printLine(out, "NATS      %s", natsURL)
	printLine(out, "data      %s", escape(absolute(f.data)))
	options := " --nats-url " + quoted(natsURL) + " --wait"
	paste := programName() + " send desktoptoimage --desktop-id ID --image-name " + uniqueName("golden-") +
		" --execute-sysprep=true --then-rebuild FILE" + options
	if len(fleet) > 1 {
		file := filepath.Join(f.data, "fleet.txt")
		if err := writeFleet(file, fleet[1:]); err != nil {
			return err
		}
		printLine(out, "desktops  %s is the golden one; the other %d are in %s", fleet[0], len(fleet)-1, escape(file))
		paste = programName() + " send desktoptoimage --desktop-id " + quoted(fleet[0]) + " --image-name " + uniqueName("golden-") +
			" --execute-sysprep=true --then-rebuild " + quoted(absolute(file)) + options
	}
	var with []string
	if c.Deployment != "" {
		with = append(with, exportLine("RECOMPOSE_DEPLOYMENT", c.Deployment))
	}
	if c.NATSUser != "" {
		with = append(with, "NATS_USER, NATS_PASSWORD")
	}
	if strings.HasPrefix(natsURL, "tls:") {
		with = append(with, "NATS_CA where the certificate needs it")
	}
	if len(with) > 0 {
		printLine(out, "\nIn another terminal, with %s:\n", strings.Join(with, ", "))
	} else {
		printLine(out, "\nIn another terminal:\n")
	}
	printLine(out, "  %s", paste)
	printLine(out, "\n%s The next start continues from the data folder.", howToStop)
	return nil
}

// writeFleet writes the file by rename, so that a kill never leaves a partial file.
func writeFleet(file string, ids []string) error {
	desktops := make([]chain.FailedDesktop, len(ids))
	for i, id := range ids {
		desktops[i].DesktopID = id
	}
	fresh := file + ".new"
	if err := writeIDFile(fresh, "the emulator's desktops without the golden one", desktops); err != nil {
		return fmt.Errorf("write the fleet: %w", err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return fmt.Errorf("write the fleet: %w", err)
	}
	return nil
}
