package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"recompose/shared/chain"
	"recompose/shared/safety"
)

func listsSetCommand() *cobra.Command {
	var p listPlace
	files := map[safety.ListName]*[]string{safety.AllowList: {}, safety.DenyList: {}}
	cmd := &cobra.Command{
		Use:   "set",
		Short: "Replace a list by the ids of files",
		Long: `Replace a list by the ids of a file: one a line, # begins a comment, or CSV with the column desktop_id; - is standard
input. A flag that is given several times makes one list of all its files. With both flags the deny list is set first; the
change is not atomic. With an empty allow list no desktop may be written to.`,
		Example: `  recompose lists set --allow lab.txt
  recompose lists set --aws recompose --deny executives.txt`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			given := map[safety.ListName][]string{}
			for _, name := range bothLists {
				if !cmd.Flags().Changed(string(name)) {
					continue
				}
				given[name] = []string{}
				for _, file := range *files[name] {
					ids, err := listFile(cmd, name, file)
					if err != nil {
						return wrongUse(fmt.Errorf("--%s: %w", name, err))
					}
					given[name] = append(given[name], ids...)
				}
			}
			if len(given) == 0 {
				return wrongUse(errors.New("no list is given: --allow FILE, --deny FILE or both"))
			}
			return changeLists(cmd, p, given, func(ctx context.Context, o *safety.Operators, name safety.ListName) (safety.Change, error) {
				return o.SetList(ctx, name, given[name], whoAmI())
			})
		}),
	}
	p.define(cmd, "print the lists before and now as JSON")
	cmd.Flags().StringArrayVar(files[safety.AllowList], "allow", nil, "`FILE` with the only desktops that may be written to")
	cmd.Flags().StringArrayVar(files[safety.DenyList], "deny", nil, "`FILE` with desktops that may not be written to")
	return cmd
}

// listFile reads the ids of a list. Its error names the wrong line.
func listFile(cmd *cobra.Command, name safety.ListName, path string) ([]string, error) {
	in, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // only read
	ids, err := safety.ReadIDs(in)
	path = inputName(path)
	if err != nil {
		return nil, ofFile(path, err)
	}
	if len(ids) == 0 && name == safety.DenyList {
		return nil, fmt.Errorf("%s names no desktop; to deny none, use recompose lists clear --deny", path)
	}
	return ids, nil
}

func listsClearCommand() *cobra.Command {
	var p listPlace
	var which [2]bool
	cmd := &cobra.Command{
		Use:     "clear",
		Short:   "Remove a list",
		Long:    `Remove a list. Without an allow list every desktop that is not on the deny list may be written to.`,
		Example: `  recompose lists clear --aws recompose --deny`,
		Args:    noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			cleared := map[safety.ListName][]string{}
			for _, name := range chosen(which) {
				cleared[name] = nil
			}
			if len(cleared) == 0 {
				return wrongUse(errors.New("no list is given: --allow, --deny or both"))
			}
			return changeLists(cmd, p, cleared, func(ctx context.Context, o *safety.Operators, name safety.ListName) (safety.Change, error) {
				return o.ClearList(ctx, name)
			})
		}),
	}
	p.define(cmd, "print the lists before and now as JSON")
	cmd.Flags().BoolVar(&which[0], "allow", false,
		"remove the allow list: every desktop that is not denied may be written to")
	cmd.Flags().BoolVar(&which[1], "deny", false, "remove the deny list")
	return cmd
}

// changedJSON is what --json prints of a list that was changed.
type changedJSON struct {
	Before  *listJSON `json:"before"`
	Now     *listJSON `json:"now"`
	Added   int       `json:"added"`             // ids that are new on the list
	Removed int       `json:"removed"`           // ids that are no longer on it
	Damaged string    `json:"damaged,omitempty"` // why it could not be read before
	Left    int       `json:"left,omitempty"`    // pages of the former list that could not be removed
}

// changeLists changes lists, and prints them before and now. now has the new ids of each list.
func changeLists(cmd *cobra.Command, p listPlace, now map[safety.ListName][]string,
	do func(context.Context, *safety.Operators, safety.ListName) (safety.Change, error),
) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	o, where, finish, err := p.open(cmd)
	if err != nil {
		return err
	}
	defer finish()
	if !p.json && where != "" {
		printLine(out, "%-14s %s", "in", escape(where))
	}
	changes := map[safety.ListName]changedJSON{}
	for _, name := range bothLists {
		if _, ok := now[name]; !ok {
			continue
		}
		_, old, _ := o.ListIDs(ctx, name) // damaged, or no answer; it may still be changed
		c, err := do(ctx, o, name)
		if errors.Is(err, safety.ErrListUnknown) {
			return &exitError{exitUnknown, err}
		}
		if err != nil && len(changes) > 0 {
			return &exitError{exitFailed, fmt.Errorf("the %s list is changed, and the %s list is not: %w", bothLists[0], name, err)}
		}
		if err != nil {
			return err
		}
		added, removed := without(now[name], old), without(old, now[name])
		j := changedJSON{Before: shownList(c.Before, nil), Now: shownList(c.Now, nil), Added: len(added),
			Removed: len(removed), Left: c.Left}
		if c.Damaged != nil {
			j.Damaged = c.Damaged.Error()
		}
		changes[name] = j
		if !p.json {
			printChange(out, name, c, added, removed)
		}
	}
	if p.json {
		return printJSON(out, changes)
	}
	printLine(out, "It applies from the next write on. Jobs that the service has accepted continue.")
	return nil
}

func printChange(out io.Writer, name safety.ListName, c safety.Change, added, removed []string) {
	row := func(what, text string) { printLine(out, "%-14s %s", string(name)+" "+what, text) }
	before := listText(name, c.Before)
	if c.Damaged != nil {
		before = escape(c.Damaged.Error())
	}
	row("before", before)
	row("now", listText(name, c.Now))
	if len(added) > 0 {
		row("added", some(added))
	}
	if len(removed) > 0 {
		row("removed", some(removed))
	}
	if c.Left > 0 {
		row("left", chain.Count(c.Left, "page")+" of the former list could not be removed; they are not used")
	}
}

// without returns the ids of one list that are not in the other, sorted.
func without(ids, others []string) []string {
	there := make(map[string]bool, len(others))
	for _, id := range others {
		there[id] = true
	}
	left := []string{}
	for _, id := range ids {
		if !there[id] {
			left = append(left, id)
		}
	}
	slices.Sort(left)
	return slices.Compact(left)
}

// some returns the first ids of a list.
func some(ids []string) string {
	const most = 10
	text := strings.Join(ids[:min(len(ids), most)], ", ")
	if len(ids) > most {
		text += ", …"
	}
	return fmt.Sprintf("%d: %s", len(ids), escape(text))
}
