package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/safety"
)

func listsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lists",
		Short: "Show and set which desktops may be written to",
		Long: `Show and set the two lists of desktops of a deployment: with an allow list only its desktops may be written to, and the
desktops of the deny list may not. Functions read the lists directly before each write, so a change holds for the next
one.

A worker can have additional lists in files: RECOMPOSE_ALLOW_DESKTOPS_FILE and RECOMPOSE_DENY_DESKTOPS_FILE.`,
		Example: `  recompose lists show
  recompose lists set --allow lab.txt
  recompose lists clear --aws recompose --deny`,
		Args: subcommand, RunE: missing(": show, set or clear"),
	}
	cmd.AddCommand(listsShowCommand(), listsSetCommand(), listsClearCommand())
	return cmd
}

// listPlace selects the deployment of the lists.
type listPlace struct {
	at   place
	json bool
}

func (p *listPlace) define(cmd *cobra.Command, json string) {
	cmd.Flags().SortFlags = false
	p.at.define(cmd.Flags())
	cmd.Flags().BoolVar(&p.json, "json", false, json)
}

// open opens the lists. where names the deployment for people; "" if there is only one.
func (p *listPlace) open(cmd *cobra.Command) (o *safety.Operators, where string, done func(), err error) {
	settings, err := config.Load(config.Options{})
	if err != nil {
		return nil, "", nil, err
	}
	if settings.Table != "" && p.at == (place{}) { // earlier versions used the lists of the table
		return nil, "", nil, nothingDone(fmt.Errorf("RECOMPOSE_TABLE is %s, and it does not select the lists: "+
			"give --aws STACK for those of a stack, or --nats-url URL for those on NATS", settings.Table))
	}
	conn, _, err := p.at.connect(cmd, config.Unused, "lists")
	if err != nil {
		return nil, "", nil, err
	}
	if o, err = conn.operators(cmd.Context()); err != nil {
		conn.close()
		return nil, "", nil, err
	}
	return o, conn.Where(), conn.close, nil
}

// bothLists are the lists in the order in which they are shown and set: deny first, then allow more.
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
		Short: "Show the lists, and who set them when",
		Long:  `Show the number of desktops on the lists, and who set them when. The complete lists are read, as functions read them.`,
		Example: `  recompose lists show --aws recompose
  recompose lists show --aws recompose --allow --ids > lab.txt`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			names := chosen(which)
			if len(names) == 0 {
				names = bothLists
			}
			if ids && len(names) != 1 && !p.json {
				return wrongUse(errors.New("--ids: give one of --allow and --deny, so that set can read the output"))
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
				printLine(out, "%sin        %s", mark, escape(where))
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
				printLine(out, "%s%-9s %s", mark, name, listText(name, l))
				for _, id := range all {
					printLine(out, "%s", escape(id))
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
	cmd.Flags().BoolVar(&ids, "ids", false, "also print the ids, one a line as set reads them")
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
		return "not set: every desktop that is not on the deny list may be written to"
	case l == nil:
		return "not set"
	}
	text := fmt.Sprintf("%s, set %s by %s", chain.Count(l.Count, "desktop"), l.At.Local().Format(time.DateTime),
		escape(l.By))
	if l.Count == 0 && name == safety.AllowList {
		text += ": none may be written to"
	}
	return text
}
