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
		Short: "Let no write begin until thaw",
		Long: `Let no write begin: every worker of this deployment reads it directly before each write. What is to be
written waits and goes on after ` + "`recompose thaw`" + `, unless it has become too old by then. Reads go on, and so do the jobs
that the service has accepted already: nothing recalls those. A second freeze replaces the reason, the person and the time
of the first.`,
		Example: `  recompose freeze --reason "image 7f3a does not boot, ticket 4711"
  recompose freeze --aws recompose --reason "image 7f3a does not boot, ticket 4711"
  recompose freeze --status`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			switch reason = strings.TrimSpace(reason); {
			case status && reason != "":
				return wrongUse(errors.New("--status and --reason: give one of them; --status changes nothing"))
			case status:
				return freezeStatus(cmd, at, asJSON)
			case reason == "":
				return wrongUse(errors.New("--reason: say why; whoever finds the writes frozen wants to know"))
			case len(reason) > maxFreezeReason:
				return wrongUse(fmt.Errorf("--reason: may have at most %d bytes; got %d", maxFreezeReason, len(reason)))
			}
			f := safety.Freeze{Reason: strings.ToValidUTF8(reason, "?"), By: whoAmI(), At: time.Now().UTC().Truncate(time.Second)}
			return turn(cmd, at, asJSON, func(ctx context.Context, s *safety.Operators) (*safety.Freeze, error) {
				return &f, s.SetFreeze(ctx, f)
			})
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, in words")
	cmd.Flags().BoolVar(&status, "status", false, "only show whether writes are frozen")
	switchFlags(cmd, &at, &asJSON)
	return cmd
}

func thawCommand() *cobra.Command {
	var at place
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "thaw",
		Short:   "Let writes go on that were frozen",
		Long:    `Let writes go on that were frozen by ` + "`recompose freeze`" + `. Those that wait are begun within about a minute.`,
		Example: `  recompose thaw`,
		Args:    cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			return turn(cmd, at, asJSON, func(ctx context.Context, s *safety.Operators) (*safety.Freeze, error) {
				return nil, s.Thaw(ctx)
			})
		}),
	}
	switchFlags(cmd, &at, &asJSON)
	return cmd
}

func switchFlags(cmd *cobra.Command, at *place, asJSON *bool) {
	at.define(cmd.Flags())
	cmd.Flags().BoolVar(asJSON, "json", false, "print what was in force and what is as JSON")
}

// turned is what --json prints; null means not frozen.
type turned struct {
	Before *safety.Freeze `json:"before"`
	Now    *safety.Freeze `json:"now"`
}

// turn sets or ends the freeze, and prints what was in force and what is. That is read back where this user may read it;
// else it is what the store acknowledged.
func turn(cmd *cobra.Command, at place, asJSON bool, do func(context.Context, *safety.Operators) (*safety.Freeze, error)) error {
	line, _, err := at.connect(cmd, config.Unused, cmd.Name())
	if err != nil {
		return err
	}
	defer line.close()
	ctx := cmd.Context()
	s, err := line.operators(ctx)
	if err != nil {
		return err
	}
	var t turned
	var unread error
	t.Before, unread = s.Frozen(ctx)
	was := freezeText(t.Before)
	if unread != nil { // damaged, no answer, or no right to read: the freeze can still be set or ended, or that fails too
		was = "not known: " + foreign(unread.Error())
	}
	t.Now, err = do(ctx, s)
	if errors.Is(err, natsstore.ErrNoBucket) {
		return err
	}
	if err != nil {
		return &exitError{exitUnknown, fmt.Errorf("%w\nIt is not known whether it was stored. The command may be repeated", err)}
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
	if line.where != "" {
		say(out, "in        %s", foreign(line.where))
	}
	say(out, "before    %s", was)
	say(out, "now       %s", freezeText(t.Now))
	if t.Now != nil {
		say(out, "No further write is begun; those that come wait. Jobs that the service has accepted go on.\nTo end it: %s thaw%s", programName(), kept(cmd, placeFlags...))
	}
	return nil
}

// freezeStatus prints the freeze in force.
func freezeStatus(cmd *cobra.Command, at place, asJSON bool) error {
	line, _, err := at.connect(cmd, config.Unused, cmd.Name())
	if err != nil {
		return err
	}
	defer line.close()
	o, err := line.operators(cmd.Context())
	if err != nil {
		return err
	}
	f, err := o.Frozen(cmd.Context())
	if err != nil {
		return &exitError{exitUnknown, err}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), struct {
			Now *safety.Freeze `json:"now"`
		}{f})
	}
	if line.where != "" {
		say(cmd.OutOrStdout(), "in        %s", foreign(line.where))
	}
	say(cmd.OutOrStdout(), "now       %s", freezeText(f))
	return nil
}

func freezeText(f *safety.Freeze) string {
	if f == nil {
		return "not frozen"
	}
	return fmt.Sprintf("frozen since %s by %s: %s", f.At.Local().Format(time.DateTime), foreign(f.By), foreign(f.Reason))
}

// whoAmI is user@host, for people to ask.
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
