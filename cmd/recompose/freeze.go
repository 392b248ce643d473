package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/config"
	"recompose/shared/safety"
	"recompose/shared/store/natsstore"
)

// maxFreezeReason is the most bytes of a reason. It goes into logs and events.
const maxFreezeReason = 500

func freezeCommand() *cobra.Command {
	var reason string
	var at place
	var status, asJSON bool
	cmd := &cobra.Command{
		Use:   "freeze --reason TEXT",
		Short: "Stop all writes until thaw",
		Long: `Stop all writes: every worker of this deployment reads the freeze directly before each write. Commands that write wait,
and continue after ` + "`recompose thaw`" + ` unless they have become too old. Reads continue, and so do jobs that the service
has accepted: they cannot be recalled. A second freeze replaces the reason, the person and the time of the first.`,
		Example: `  recompose freeze --reason "image 7f3a does not boot, ticket 4711"
  recompose freeze --aws recompose --reason "image 7f3a does not boot, ticket 4711"
  recompose freeze --status`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			switch reason = strings.TrimSpace(reason); {
			case status && reason != "":
				return wrongUse(errors.New("--status and --reason: give one of them; --status changes nothing"))
			case status:
				return freezeStatus(cmd, at, asJSON)
			case reason == "":
				return wrongUse(errors.New("--reason: give the reason for those who find the writes frozen"))
			case len(reason) > maxFreezeReason:
				return wrongUse(fmt.Errorf("--reason: may have at most %d bytes; got %d", maxFreezeReason, len(reason)))
			}
			f := safety.Freeze{Reason: strings.ToValidUTF8(reason, "?"), By: whoAmI(),
				At: time.Now().UTC().Truncate(time.Second)}
			return changeFreeze(cmd, at, asJSON, func(ctx context.Context, s *safety.Operators) (*safety.Freeze, error) {
				return &f, s.SetFreeze(ctx, f)
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, in words")
	cmd.Flags().BoolVar(&status, "status", false, "only show whether writes are frozen")
	freezeFlags(cmd, &at, &asJSON)
	return cmd
}

func thawCommand() *cobra.Command {
	var at place
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "thaw",
		Short:   "Resume writes after a freeze",
		Long:    `Resume writes after ` + "`recompose freeze`" + `. Commands that wait begin within about a minute.`,
		Example: `  recompose thaw`,
		Args:    noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return changeFreeze(cmd, at, asJSON, func(ctx context.Context, s *safety.Operators) (*safety.Freeze, error) {
				return nil, s.Thaw(ctx)
			})
		}),
	}
	freezeFlags(cmd, &at, &asJSON)
	return cmd
}

func freezeFlags(cmd *cobra.Command, at *place, asJSON *bool) {
	at.define(cmd.Flags())
	cmd.Flags().BoolVar(asJSON, "json", false, "print the freeze before and now as JSON")
}

// freezeChange is what --json prints; null means not frozen.
type freezeChange struct {
	Before *safety.Freeze `json:"before"`
	Now    *safety.Freeze `json:"now"`
}

// changeFreeze sets or ends the freeze, and prints the freeze before and now. It reads the new state back if this user
// may read it; else it prints what the store acknowledged.
func changeFreeze(
	cmd *cobra.Command, at place, asJSON bool, do func(context.Context, *safety.Operators) (*safety.Freeze, error),
) error {
	conn, _, err := at.connect(cmd, config.Unused, cmd.Name())
	if err != nil {
		return err
	}
	defer conn.close()
	ctx := cmd.Context()
	s, err := conn.operators(ctx)
	if err != nil {
		return err
	}
	var t freezeChange
	var unread error
	t.Before, unread = s.Frozen(ctx)
	was := freezeText(t.Before)
	if unread != nil { // damaged, no answer, or no right to read; the freeze may still be set or ended
		was = "not known: " + escape(unread.Error())
	}
	t.Now, err = do(ctx, s)
	if errors.Is(err, natsstore.ErrNoBucket) {
		return err
	}
	if err != nil {
		return &exitError{exitUnknown, fmt.Errorf("%w\nWhether it was stored is not known. It is safe to repeat the command",
			err)}
	}
	if unread == nil {
		if t.Now, err = s.Frozen(ctx); err != nil {
			return &exitError{exitUnknown, err}
		}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), t)
	}
	out := cmd.OutOrStdout()
	if conn.Where() != "" {
		printLine(out, "in        %s", escape(conn.Where()))
	}
	printLine(out, "before    %s", was)
	printLine(out, "now       %s", freezeText(t.Now))
	if t.Now != nil {
		printLine(out, "No further write begins; commands that write wait. Jobs that the service has accepted "+
			"continue.\nTo end it: %s thaw%s", programName(), kept(cmd, placeFlags...))
	}
	return nil
}

// freezeStatus prints the freeze in force.
func freezeStatus(cmd *cobra.Command, at place, asJSON bool) error {
	conn, _, err := at.connect(cmd, config.Unused, cmd.Name())
	if err != nil {
		return err
	}
	defer conn.close()
	o, err := conn.operators(cmd.Context())
	if err != nil {
		return err
	}
	f, err := o.Frozen(cmd.Context())
	if err != nil && !unreached(err) {
		err = &exitError{exitUnknown, err}
	}
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), struct {
			Now *safety.Freeze `json:"now"`
		}{f})
	}
	if conn.Where() != "" {
		printLine(cmd.OutOrStdout(), "in        %s", escape(conn.Where()))
	}
	printLine(cmd.OutOrStdout(), "now       %s", freezeText(f))
	return nil
}

func freezeText(f *safety.Freeze) string {
	if f == nil {
		return "not frozen"
	}
	return fmt.Sprintf("frozen since %s by %s: %s", f.At.Local().Format(time.DateTime), escape(f.By), escape(f.Reason))
}

// whoAmI returns user@host.
func whoAmI() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return strings.ToValidUTF8(name+"@"+host, "?")
}
