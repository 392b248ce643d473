package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/config"
	"recompose/shared/safety"
)

func listsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lists",
		Short: "Show and set which desktops may be written to",
		Long: `Show and set the two lists of desktops of a deployment: with an allow list no other desktop may be written to, and
none of the deny list may be. Workers and functions read them directly before each write, so a change holds for the very
next one.

A worker can have lists of its own beside them, in files: RECOMPOSE_ALLOW_DESKTOPS_FILE and RECOMPOSE_DENY_DESKTOPS_FILE.`,
		Example: `  recompose lists show
  recompose lists set --allow lab.txt
  recompose lists clear --aws recompose --deny`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_ = cmd.Help()
			return nothingDone(errors.New("missing command: show, set or clear"))
		},
	}
	cmd.AddCommand(listsShowCommand(), listsSetCommand(), listsClearCommand())
	return cmd
}

// listPlace is the deployment whose lists are meant.
type listPlace struct {
	at   place
	json bool
}

func (p *listPlace) define(cmd *cobra.Command, json string) {
	cmd.Flags().SortFlags = false
	p.at.define(cmd.Flags())
	cmd.Flags().BoolVar(&p.json, "json", false, json)
}

// open opens the lists. where is for people, "" where there is only one deployment.
func (p *listPlace) open(cmd *cobra.Command) (o *safety.Operators, where string, done func(), err error) {
	settings, err := config.Load(config.Options{})
	if err != nil {
		return nil, "", nil, err
	}
	if settings.Table != "" && p.at == (place{}) { // earlier versions took the lists of the table
		return nil, "", nil, nothingDone(fmt.Errorf("RECOMPOSE_TABLE is %s, and it does not choose the lists: give --aws STACK for "+
			"those of a stack, or --nats-url URL for those on NATS", settings.Table))
	}
	line, _, err := p.at.connect(cmd, config.Unused, "lists")
	if err != nil {
		return nil, "", nil, err
	}
	if o, err = line.operators(cmd.Context()); err != nil {
		line.close()
		return nil, "", nil, err
	}
	return o, line.where, line.close, nil
}

// bothLists are the lists, in the order in which they are shown and set: what is denied is denied before more is allowed.
var bothLists = []safety.ListName{safety.DenyList, safety.AllowList}

// listJSON is a list as --json prints it.
type listJSON struct {
	Count int       `json:"count"`
	By    string    `json:"by"`
	At    time.Time `json:"at"`
	IDs   []string  `json:"ids,omitempty"`
}

func shownList(l *safety.List, ids []string) *listJSON {
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
			o, where, done, err := p.open(cmd)
			if err != nil {
				return err
			}
			defer done()
			shown := map[safety.ListName]*listJSON{}
			out, mark := cmd.OutOrStdout(), ""
			if ids {
				mark = "# "
			}
			if !p.json && where != "" {
				say(out, "%sin        %s", mark, foreign(where))
			}
			for _, name := range names {
				l, all, err := o.ListIDs(cmd.Context(), name)
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

func chosen(which [2]bool) (names []safety.ListName) {
	for i, name := range []safety.ListName{safety.AllowList, safety.DenyList} {
		if which[i] {
			names = append(names, name)
		}
	}
	return names
}

func listText(name safety.ListName, l *safety.List) string {
	switch {
	case l == nil && name == safety.AllowList:
		return "not set: every desktop may be written to that is not on the deny list"
	case l == nil:
		return "not set"
	}
	text := fmt.Sprintf("%s, set %s by %s", count(l.Count, "desktop"), l.At.Local().Format(time.DateTime), foreign(l.By))
	if l.Count == 0 && name == safety.AllowList {
		text += ": none may be written to"
	}
	return text
}
