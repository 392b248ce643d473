package main

import (
	"bytes"
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
	"recompose/shared/config"
	"recompose/shared/queue"
)

var deadClasses = []string{queue.ClassUnreadable, queue.ClassPermanent, queue.ClassUsedUp, queue.ClassUndelivered}

func deadCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "See and handle the messages that were given up on",
		Long: `See and handle dead letters: the messages that functions have given up on, each kept with the reason for 90 days, or on
AWS for 14. What --aws reads there nobody else can read meanwhile; if recompose is killed, for five minutes.

  unreadable         names no id, so that nothing could be answered
  permanent          no attempt could succeed
  attempts_used_up   every delivery ended in a crash or an unexpected error
  undelivered        on AWS: the function could not even start, or its queue could not be reached`,
		Example: `  recompose dead list
  recompose dead show 3hfy2kq7mzva
  recompose dead redrive --function rebuild --dry-run
  recompose dead list --aws recompose`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return nothingDone(errors.New("missing command: list, show, redrive or drop"))
		},
	}
	cmd.AddCommand(deadListCommand(), deadShowCommand(), deadRedriveCommand(), deadDropCommand())
	return cmd
}

// deadSelection says which dead letters are meant.
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

// filter is the choice by flags; the error is of wrong use.
func (s *deadSelection) filter() (queue.LetterFilter, error) {
	f := queue.LetterFilter{Class: s.class, Function: s.function}
	if s.class != "" {
		if err := oneOf("class", deadClasses, []string{s.class}); err != nil {
			return f, err
		}
	}
	if s.function != "" {
		if err := oneOf("function", functions.Names(), []string{s.function}); err != nil {
			return f, err
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

// people is where lines for people go: beside the JSON, not into it.
func (s *deadSelection) people(cmd *cobra.Command) io.Writer {
	if s.json {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

func (s *deadSelection) connect(cmd *cobra.Command) (*connection, *config.Config, error) {
	line, settings, err := s.place.connect(cmd, config.IfSet, "dead "+cmd.Name())
	if err == nil && line.letters == nil {
		line.close()
		err = wrongUse(errors.New("--aws: this needs the name of the stack, for the dead letters are not known by a topic or a queue"))
	}
	return line, settings, err
}

func deadListCommand() *cobra.Command {
	var s deadSelection
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, oldest first",
		Example: `  recompose dead list --since 24h
  recompose dead list --class attempts_used_up --function rebuild --json`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			filter, err := s.filter()
			if err != nil {
				return err
			}
			line, _, err := s.connect(cmd)
			if err != nil {
				return err
			}
			defer line.close()
			letters, err := line.letters.DeadLetters(cmd.Context(), filter)
			if err != nil {
				return err
			}
			for _, l := range letters {
				if !s.json {
					say(cmd.OutOrStdout(), "%s  %s  %-14s  %-16s  %s", shortID(l.ID), givenUp(l).Local().Format(time.DateTime), foreign(l.Function), foreign(l.Class), foreign(firstOf(l.Reason)))
				} else if err := printJSON(cmd.OutOrStdout(), shownDead(l, false)); err != nil {
					return err
				}
			}
			if !s.json {
				say(cmd.OutOrStdout(), "%s", count(len(letters), "dead letter"))
			}
			s.tellHidden(cmd, line)
			return nil
		}),
	}
	cmd.Flags().StringVar(&s.since, "since", "", "only given up since this `TIME` (2026-01-15T08:30:00Z), or for so long back (2h)")
	s.define(cmd)
	return cmd
}

// tellHidden says that there are more, which cannot be read now.
func (s *deadSelection) tellHidden(cmd *cobra.Command, line *connection) {
	if n := line.letters.Hidden(); n > 0 {
		say(s.people(cmd), "%d more cannot be read now: somebody else is reading them, or was killed while reading them less than five minutes ago", n)
	}
}

// givenUp is when a letter was given up, or where nothing says, when its message was stored.
func givenUp(l queue.Letter) time.Time {
	if l.Last.IsZero() {
		return l.First
	}
	return l.Last
}

// shortID is as much of an id as tells it from all others.
func shortID(id string) string {
	if len(id) != 52 {
		return foreign(id)
	}
	return foreign(id[:12])
}

// firstOf is the beginning of a text that may be long.
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
		Short:   "Show all that is kept of a dead letter",
		Long:    `Show all that is kept of a dead letter: why and where it was given up, and the message itself. The beginning of an id will do.`,
		Example: `  recompose dead show 3hfy2kq7mzva`,
		Args:    oneDeadID,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			line, settings, err := s.connect(cmd)
			if err != nil {
				return err
			}
			defer line.close()
			letters, err := lettersOf(cmd, line, args[0])
			if err != nil {
				return err
			}
			for i, l := range letters {
				if s.json {
					if err := printJSON(cmd.OutOrStdout(), shownDead(l, true)); err != nil {
						return err
					}
					continue
				}
				if i > 0 {
					say(cmd.OutOrStdout(), "")
				}
				showDead(cmd.OutOrStdout(), l)
				for _, note := range newPlanner(line, settings).plan(cmd.Context(), l).notes {
					say(cmd.OutOrStdout(), "redriven     %s", foreign(note))
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

// lettersOf reads the letters of an id, or of the beginning of one.
func lettersOf(cmd *cobra.Command, line *connection, id string) ([]queue.Letter, error) {
	letters, err := line.letters.DeadLettersOf(cmd.Context(), id)
	if errors.Is(err, queue.ErrManyLetters) {
		return nil, nothingDone(err)
	}
	return letters, err
}

// showDead prints a dead letter for people.
func showDead(w io.Writer, l queue.Letter) {
	field := func(name, format string, args ...any) {
		say(w, "%-11s  %s", name, foreign(fmt.Sprintf(format, args...)))
	}
	field("dead letter", "%s", l.ID)
	field("function", "%s", l.Function)
	field("class", "%s", l.Class)
	field("reason", "%s", l.Reason)
	field("attempts", "%d", l.Attempts)
	came := l.First.Local().Format(time.RFC3339)
	if l.MessageID == "" {
		field("came", "%s, on %s, number %d of %s", came, or(l.Subject, "?"), l.Sequence, or(l.Stream, "?"))
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
	field("body", "%s", count(l.Size, "byte"))
	if len(l.Body) > 0 {
		say(w, "%s", bodyText(l.Body))
	}
}

// bodyText is a body fit for a terminal: JSON over several lines, else as it is, both with escapes.
func bodyText(body []byte) string {
	var pretty bytes.Buffer
	if json.Valid(body) && json.Indent(&pretty, body, "", "  ") == nil {
		return clean(pretty.String())
	}
	return clean(string(body))
}

// deadJSON is a dead letter as --json prints it.
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
	Coded       []byte             `json:"body_base64,omitempty"` // instead of body where that is not UTF-8
}

func shownDead(l queue.Letter, whole bool) deadJSON {
	shown := deadJSON{
		ID: l.ID, Number: l.Number, MessageID: l.MessageID, Function: l.Function, Class: l.Class, Reason: l.Reason, Attempts: l.Attempts, First: l.First, Last: l.Last,
		Stream: l.Stream, Sequence: l.Sequence, Subject: l.Subject, Correlation: l.Correlation, Cut: l.Cut, Size: l.Size, Headers: l.Headers,
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
