package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/awsstack"
	"recompose/shared/config"
	"recompose/shared/ledger/dynamoledger"
)

func listsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lists",
		Short: "See and set which desktops may be written to, on AWS",
		Long: `See and set the two lists of desktops of the functions on AWS: with an allow list no other desktop may be written to, and
none of the deny list may be. The functions read them directly before each write, so a change holds for the very next one.

Workers on NATS have files instead: RECOMPOSE_ALLOW_DESKTOPS_FILE and RECOMPOSE_DENY_DESKTOPS_FILE.`,
		Example: `  recompose lists show --aws recompose
  recompose lists set --aws recompose --allow lab.txt
  recompose lists clear --aws recompose --deny`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return &exitError{exitUsage, errors.New("say what to do with the lists: show, set, clear")}
		},
	}
	cmd.AddCommand(listsShowCommand(), listsSetCommand(), listsClearCommand())
	return cmd
}

// listTable is where the lists are.
type listTable interface {
	ListIDs(ctx context.Context, name dynamoledger.ListName) (*dynamoledger.List, []string, error)
	SetList(ctx context.Context, name dynamoledger.ListName, ids []string, by string) (dynamoledger.Change, error)
	ClearList(ctx context.Context, name dynamoledger.ListName) (dynamoledger.Change, error)
}

// listPlace says which table is meant: that of a stack, or else the one that RECOMPOSE_TABLE names.
type listPlace struct {
	stack string
	json  bool
}

func (p *listPlace) define(cmd *cobra.Command, json string) {
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&p.stack, "aws", "", "the name of the `STACK`; without it, the table that RECOMPOSE_TABLE names")
	cmd.Flags().BoolVar(&p.json, "json", false, json)
}

// open opens the table. where is for people.
func (p *listPlace) open(ctx context.Context) (t listTable, where string, err error) {
	if p.stack != "" {
		target, err := awsstack.Find(ctx, p.stack)
		if err != nil {
			return nil, "", fmt.Errorf("--aws: %w", err)
		}
		s, err := tableOf(ctx, target)
		return s, stackText(target), err
	}
	settings, err := config.Load(config.Options{})
	if err != nil {
		return nil, "", err
	}
	if settings.Table == "" {
		return nil, "", wrongUse(errors.New("--aws: say which lists are meant: give the name of the stack, or the name of its table in RECOMPOSE_TABLE"))
	}
	s, err := dynamoledger.New(ctx, dynamoledger.Options{Table: settings.Table})
	if err != nil {
		return nil, "", wrongUse(err)
	}
	return s, "table " + settings.Table, nil
}

// bothLists are the lists, in the order in which they are shown and set: what is denied is denied before more is allowed.
var bothLists = []dynamoledger.ListName{dynamoledger.Deny, dynamoledger.Allow}

// listJSON is a list as --json prints it.
type listJSON struct {
	Count int       `json:"count"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	IDs   []string  `json:"ids,omitempty"`
}

func shownList(l *dynamoledger.List, ids []string) *listJSON {
	if l == nil {
		return nil
	}
	return &listJSON{l.Count, l.By, l.At, ids}
}

func listsShowCommand() *cobra.Command {
	var p listPlace
	var which [2]bool
	var ids bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show who set the lists, when, and of how many desktops",
		Long:  `Show who set the lists, when, and of how many desktops. All of them are read, as the functions read them.`,
		Example: `  recompose lists show --aws recompose
  recompose lists show --aws recompose --allow --ids > lab.txt`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			names := chosen(which)
			if len(names) == 0 {
				names = bothLists
			}
			if ids && len(names) != 1 && !p.json {
				return wrongUse(errors.New("--ids: give one of --allow and --deny, so that what is printed can be set again"))
			}
			t, where, err := p.open(cmd.Context())
			if err != nil {
				return err
			}
			shown := map[dynamoledger.ListName]*listJSON{}
			out, mark := cmd.OutOrStdout(), ""
			if ids {
				mark = "# "
			}
			if !p.json {
				say(out, "%sin        %s", mark, foreign(where))
			}
			for _, name := range names {
				l, all, err := t.ListIDs(cmd.Context(), name)
				if err != nil {
					return err
				}
				if !ids {
					all = nil
				}
				shown[name] = shownList(l, all)
				if p.json {
					continue
				}
				say(out, "%s%-9s %s", mark, name, listText(name, l))
				for _, id := range all {
					say(out, "%s", foreign(id))
				}
			}
			if p.json {
				return printJSON(out, shown)
			}
			return nil
		}),
	}
	p.define(cmd, "print the lists as JSON; null is a list that is not set")
	cmd.Flags().BoolVar(&which[0], "allow", false, "only the allow list")
	cmd.Flags().BoolVar(&which[1], "deny", false, "only the deny list")
	cmd.Flags().BoolVar(&ids, "ids", false, "the ids, too, one a line as set takes them")
	return cmd
}

func chosen(which [2]bool) (names []dynamoledger.ListName) {
	for i, name := range []dynamoledger.ListName{dynamoledger.Allow, dynamoledger.Deny} {
		if which[i] {
			names = append(names, name)
		}
	}
	return names
}

func listText(name dynamoledger.ListName, l *dynamoledger.List) string {
	switch {
	case l == nil && name == dynamoledger.Allow:
		return "not set: every desktop may be written to that is not on the deny list"
	case l == nil:
		return "not set"
	}
	text := fmt.Sprintf("%s, set %s by %s", count(l.Count, "desktop"), l.At.Local().Format(time.DateTime), foreign(l.By))
	if l.Count == 0 && name == dynamoledger.Allow {
		text += ": none may be written to"
	}
	return text
}
