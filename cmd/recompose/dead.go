package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/deadletters"
	"recompose/shared/queue"
)

var deadClasses = []string{queue.ClassUnreadable, queue.ClassPermanent, queue.ClassUsedUp, queue.ClassUndelivered}

func deadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "List, show, redrive and drop dead letters",
		Long: `Dead letters are the messages that functions have given up on, each kept with the reason for 90 days, or on AWS for 14.
Messages that --aws reads are hidden from other readers until the command ends; if it is killed, for five minutes.

  unreadable         has no id, so no event could be published
  permanent          no attempt could succeed
  attempts_used_up   every delivery ended in a crash or an unexpected error
  undelivered        on AWS: the function could not start, or its queue could not be reached`,
		Example: `  recompose dead list
  recompose dead show 3hfy2kq7mzva
  recompose dead redrive --function rebuild --dry-run
  recompose dead list --aws recompose`,
		Args: subcommand, RunE: missing(": list, show, redrive or drop"),
	}
	cmd.AddCommand(deadListCommand(), deadShowCommand(), deadRedriveCommand(), deadDropCommand())
	return cmd
}

// deadSelection selects dead letters by flags.
type deadSelection struct {
	class, function, since string
	all                    bool
	place                  place
	json                   bool
}

func (s *deadSelection) define(cmd *cobra.Command) {
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.class, "class", "", "only of this class: "+strings.Join(deadClasses, ", "))
	f.StringVar(&s.function, "function", "", "only of this function")
	s.defineOutput(cmd)
}

func (s *deadSelection) defineOutput(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.json, "json", false, "print one dead letter a line as JSON")
	s.place.define(cmd.Flags())
}

// filter returns the selection. Its error is a usage error.
func (s *deadSelection) filter() (queue.LetterFilter, error) {
	f := queue.LetterFilter{Class: s.class, Function: s.function}
	if s.class != "" {
		if err := oneOf("class", deadClasses, []string{s.class}); err != nil {
			return f, wrongUse(fmt.Errorf("--class: %w", err))
		}
	}
	if s.function != "" {
		if err := oneOf("function", functions.Names(), []string{s.function}); err != nil {
			return f, wrongUse(fmt.Errorf("--function: %w", err))
		}
	}
	if s.since != "" {
		now := time.Now()
		var err error
		if f.Since, err = moment(s.since, now, func(d time.Duration) time.Time { return now.Add(-d.Abs()) }); err != nil {
			return f, wrongUse(fmt.Errorf("--since: %w", err))
		}
	}
	return f, nil
}

func (s *deadSelection) people(cmd *cobra.Command) io.Writer { return people(cmd, s.json) }

func (s *deadSelection) connect(cmd *cobra.Command) (*connection, *config.Config, error) {
	conn, settings, err := s.place.connect(cmd, config.Unused, "dead "+cmd.Name())
	if err == nil && conn.Letters() == nil {
		conn.close()
		err = wrongUse(errors.New("--aws: give the name of the stack: a topic or a queue does not name the dead letters"))
	}
	return conn, settings, err
}

func deadListCommand() *cobra.Command {
	var s deadSelection
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
		Example: `  recompose dead list --since 24h
  recompose dead list --class attempts_used_up --function rebuild --json`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter()
			if err != nil {
				return err
			}
			conn, _, err := s.connect(cmd)
			if err != nil {
				return err
			}
			defer conn.close()
			letters, err := conn.Letters().DeadLetters(cmd.Context(), filter)
			if err != nil {
				return err
			}
			for _, l := range letters {
				if !s.json {
					printLine(cmd.OutOrStdout(), "%s  %s  %-14s  %-16s  %s", shortID(l.ID), givenUp(l).Local().Format(time.DateTime),
						escape(l.Function), escape(l.Class), escape(firstOf(l.Reason)))
				} else if err := printJSON(cmd.OutOrStdout(), deadLetterJSON(l, false)); err != nil {
					return err
				}
			}
			if !s.json {
				printLine(cmd.OutOrStdout(), "%s", chain.Count(len(letters), "dead letter"))
			}
			s.reportHidden(cmd, conn)
			return nil
		}),
	}
	cmd.Flags().StringVar(&s.since, "since", "",
		"only given up since this `TIME` (2026-01-15T08:30:00Z), or this long ago (2h)")
	s.define(cmd)
	return cmd
}

// reportHidden reports dead letters that cannot be read now.
func (s *deadSelection) reportHidden(cmd *cobra.Command, conn *connection) {
	if n := conn.Letters().Hidden(); n > 0 {
		printLine(s.people(cmd),
			"%d more cannot be read now: another recompose reads them, or was killed less than five minutes ago while it "+
				"read them", n)
	}
}

// givenUp returns when a letter was given up, or if that is not known, when its message was stored.
func givenUp(l queue.Letter) time.Time {
	if l.Last.IsZero() {
		return l.First
	}
	return l.Last
}

// shortID returns enough of a generated id to distinguish it from all others.
func shortID(id string) string {
	if len(id) != 52 {
		return escape(id)
	}
	return escape(id[:12])
}

// firstOf returns the beginning of a text that may be long.
func firstOf(s string) string {
	const most = 120
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

func deadShowCommand() *cobra.Command {
	var s deadSelection
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show a dead letter with its message",
		Long:    `Show why and where a dead letter was given up, and its message. The beginning of an id is enough.`,
		Example: `  recompose dead show 3hfy2kq7mzva`,
		Args:    oneDeadID,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			conn, settings, err := s.connect(cmd)
			if err != nil {
				return err
			}
			defer conn.close()
			letters, err := queue.LettersOf(cmd.Context(), conn.Letters(), args[0])
			if err != nil {
				return notUnique(err)
			}
			for i, l := range letters {
				if s.json {
					if err := printJSON(cmd.OutOrStdout(), deadLetterJSON(l, true)); err != nil {
						return err
					}
					continue
				}
				if i > 0 {
					printLine(cmd.OutOrStdout(), "")
				}
				showDead(cmd.OutOrStdout(), l)
				for _, note := range newPlanner(conn, settings).Plan(cmd.Context(), l).Notes {
					printLine(cmd.OutOrStdout(), "redriven     %s", escape(note))
				}
			}
			return nil
		}),
	}
	s.defineOutput(cmd)
	return cmd
}

func oneDeadID(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return fmt.Errorf("%s needs one id of a dead letter; recompose dead list shows them", cmd.Name())
	}
	return nil
}

// notUnique is the error of an id that several ids begin with: nothing was done.
func notUnique(err error) error {
	if errors.Is(err, queue.ErrManyLetters) {
		return nothingDone(err)
	}
	return err
}

func newPlanner(conn *connection, c *config.Config) *deadletters.Planner {
	return &deadletters.Planner{Deployment: conn, Functions: functions.Routes(), CommandMaxAge: c.CommandMaxAge, Now: time.Now()}
}

// showDead prints a dead letter for people.
func showDead(w io.Writer, l queue.Letter) {
	field := func(name, format string, args ...any) {
		printLine(w, "%-11s  %s", name, escape(fmt.Sprintf(format, args...)))
	}
	field("dead letter", "%s", l.ID)
	field("function", "%s", l.Function)
	field("class", "%s", l.Class)
	field("reason", "%s", l.Reason)
	field("attempts", "%d", l.Attempts)
	came := l.First.Local().Format(time.RFC3339)
	if l.MessageID == "" {
		field("came", "%s, on %s, number %d of %s", came, cmp.Or(l.Subject, "?"), l.Sequence, cmp.Or(l.Stream, "?"))
	} else {
		field("came", "%s, to queue %s; here it is message %s", came, l.Stream, l.MessageID)
	}
	if !l.Last.IsZero() {
		field("given up", "%s", l.Last.Local().Format(time.RFC3339))
	}
	if l.Command.ID != "" {
		field("command", "%s %s, from %s", l.Command.Type, l.Command.ID, l.Command.Source)
		field("chain", "%s", l.Correlation)
	}
	if l.Cut != "" {
		field("not whole", "%s", l.Cut)
	}
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		for _, value := range l.Headers[name] {
			field("header", "%s: %s", name, value)
		}
	}
	field("body", "%s", chain.Count(l.Size, "byte"))
	if len(l.Body) > 0 {
		printLine(w, "%s", bodyText(l.Body))
	}
}

// bodyText returns a body with escapes, and JSON on several lines.
func bodyText(body []byte) string {
	var pretty bytes.Buffer
	if json.Valid(body) && json.Indent(&pretty, body, "", "  ") == nil {
		return escapeLines(pretty.String())
	}
	return escapeLines(string(body))
}

// deadJSON is what --json prints of a dead letter.
type deadJSON struct {
	ID          string             `json:"id"`
	Number      uint64             `json:"number,omitempty"`
	MessageID   string             `json:"message_id,omitempty"`
	Function    string             `json:"function"`
	Class       string             `json:"class"`
	Reason      string             `json:"reason"`
	Attempts    int                `json:"attempts"`
	First       time.Time          `json:"first"`
	Last        time.Time          `json:"last,omitzero"`
	Stream      string             `json:"stream,omitempty"`
	Sequence    uint64             `json:"sequence,omitempty"`
	Subject     string             `json:"subject,omitempty"`
	Command     *events.CommandRef `json:"command,omitempty"`
	Correlation string             `json:"correlationid,omitempty"`
	Cut         string             `json:"cut,omitempty"`
	Size        int                `json:"size"`
	Headers     events.Headers     `json:"headers"`
	Body        string             `json:"body,omitempty"`
	Coded       []byte             `json:"body_base64,omitempty"` // instead of body if that is not UTF-8
}

func deadLetterJSON(l queue.Letter, whole bool) deadJSON {
	shown := deadJSON{
		ID: l.ID, Number: l.Number, MessageID: l.MessageID, Function: l.Function, Class: l.Class, Reason: l.Reason,
		Attempts: l.Attempts, First: l.First, Last: l.Last, Stream: l.Stream, Sequence: l.Sequence, Subject: l.Subject,
		Correlation: l.Correlation, Cut: l.Cut, Size: l.Size, Headers: l.Headers,
	}
	if l.Command.ID != "" {
		shown.Command = &l.Command
	}
	switch {
	case !whole:
	case utf8.Valid(l.Body):
		shown.Body = string(l.Body)
	default:
		shown.Coded = l.Body
	}
	return shown
}
