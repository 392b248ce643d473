package main

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
)

// countBy are the values of desktops by which they can be counted.
var countBy = map[string]func(events.DesktopRow) []string{
	"image":  func(d events.DesktopRow) []string { return []string{cmp.Or(d.ImageID, "not known"), d.ImageName} },
	"status": func(d events.DesktopRow) []string { return []string{cmp.Or(d.Status, "being deleted"), d.TaskStatus} },
	"login":  func(d events.DesktopRow) []string { return []string{cmp.Or(d.LoginStatus, "not known"), ""} },
	"os":     func(d events.DesktopRow) []string { return []string{cmp.Or(d.OSType, "not known"), d.OSVersion} },
}

func desktopsCommand() *cobra.Command {
	var l listFlags
	var users bool
	var by string
	s, _ := sendableOf(events.FnListDesktops)
	cmd := &cobra.Command{
		Use:   "desktops",
		Short: "List the desktops of the service, and which image they run",
		Long: `List the desktops of the service: all, those that are named, or those that match every filter. A worker reads
the list (the function listdesktops); it changes nothing.

Users are not named unless --users is given. ? means that the service does not show a value.

Exit codes: 0 listed, 1 failed, or a named desktop does not exist, 2 nothing was sent, 3 the end is not known.`,
		Example: `  recompose desktops
  recompose desktops --tag ring=a --status ACTIVE --ids > ring-a.txt
  recompose desktops --image-id 5e6f --csv > old.csv
  recompose desktops --count-by image --aws recompose`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if by != "" && countBy[by] == nil {
				return wrongUse(fmt.Errorf("--count-by: must be one of %s; got %q",
					strings.Join(slices.Sorted(maps.Keys(countBy)), ", "), by))
			}
			commands, err := listCommands(cmd, s, rowFields(l.json || l.csv, users))
			if err != nil {
				return err
			}
			pages, err := list[events.DesktopsListed](&l, cmd, s.Function, events.TypeDesktopsListed, commands...)
			if err != nil {
				return err
			}
			rows, missing := desktopsOf(pages)
			if err := l.printDesktops(cmd, rows, by, users); err != nil {
				return err
			}
			if len(rows) == 0 {
				hintStatus(cmd)
			}
			for _, id := range missing {
				printLine(cmd.ErrOrStderr(), "desktop %s: the service does not know it", escape(id))
			}
			if len(missing) > 0 {
				return &exitError{exitFailed, nil}
			}
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	s.defineFields(flags, "fields", "project_id")
	for _, name := range []string{"desktop-ids", "desktop-ids-file"} { // this command sends several, if need be
		flags.Lookup(name).Usage = strings.Replace(flags.Lookup(name).Usage, ", at most 100", "", 1)
	}
	flags.StringVar(&by, "count-by", "", "print only how many desktops have each `WORD`: image, status, login or os")
	flags.BoolVar(&users, "users", false, "name the users and groups to whom a desktop is assigned")
	l.define(cmd)
	exclusive(cmd, "count-by", "ids", "csv")
	exclusive(cmd, "count-by", "users")
	return cmd
}

// rowFields returns the fields that are requested of each desktop.
func rowFields(all, users bool) []string {
	fields := []string{
		"computer_name", "login_status", "image_id", "image_name", "os_type", "os_version", "user_attached", "tags",
	}
	if all {
		people := func(name string) bool { return name == events.RowUsers }
		fields = slices.DeleteFunc(slices.Clone(events.RowFields), people)
	}
	if users {
		fields = append(fields, events.RowUsers)
	}
	return fields
}

// desktopsOf returns the desktops on all pages by name, and the ids that the service does not know.
func desktopsOf(pages []events.DesktopsListed) (rows []events.DesktopRow, missing []string) {
	for _, p := range pages {
		rows, missing = append(rows, p.Desktops...), append(missing, p.Missing...)
	}
	slices.SortFunc(rows, func(a, b events.DesktopRow) int {
		return cmp.Or(cmp.Compare(a.ComputerName, b.ComputerName), cmp.Compare(a.DesktopID, b.DesktopID))
	})
	return rows, missing
}

// hintStatus prints a hint if the status that no desktop has is not a known one. It may be right: the service may have more.
func hintStatus(cmd *cobra.Command) {
	status := cmd.Flags().Lookup("status").Value.String()
	if status == "" || slices.Contains(events.DesktopStatuses, strings.ToUpper(status)) {
		return
	}
	printLine(cmd.ErrOrStderr(), "--status: %s is no known status (%s); --count-by status in its place lists those that desktops have",
		escape(status), strings.Join(events.DesktopStatuses, ", "))
}

// listCommands returns the commands for the flags: several if more desktops are named than one command may name.
func listCommands(cmd *cobra.Command, s sendable, rowFields []string) ([]any, error) {
	data, err := s.fromFlags(cmd)
	if err != nil {
		return nil, wrongUse(err)
	}
	data["fields"] = rowFields
	ids, named := data["desktop_ids"].([]string)
	if !named {
		return []any{data}, s.checked(cmd, data)
	}
	if len(ids) == 0 {
		return nil, wrongUse(errors.New("--desktop-ids: must name at least one desktop"))
	}
	var commands []any
	for part := range slices.Chunk(ids, events.MaxListed) {
		one := maps.Clone(data)
		one["desktop_ids"] = part
		if err := s.checked(cmd, one); err != nil {
			return nil, err
		}
		commands = append(commands, one)
	}
	return commands, nil
}

// checked checks data by the rules of the command.
func (s sendable) checked(cmd *cobra.Command, data any) error {
	raw, err := json.Marshal(data)
	if err == nil {
		err = events.CheckData(s.Type, raw)
	}
	if err != nil {
		return wrongUse(byFlags(cmd, err))
	}
	return nil
}

func (l *listFlags) printDesktops(cmd *cobra.Command, rows []events.DesktopRow, by string, users bool) error {
	out := cmd.OutOrStdout()
	switch {
	case by != "":
		return printCounts(cmd, rows, by, l.json)
	case l.ids:
		for _, d := range rows {
			printLine(out, "%s", escape(d.DesktopID))
		}
		return nil
	case l.json:
		for _, d := range rows {
			if err := printJSON(out, d); err != nil {
				return err
			}
		}
		return nil
	case l.csv:
		return printCSV(cmd, desktopColumns, rows, users)
	}
	header := []string{"DESKTOP", "NAME", "STATUS", "LOGIN", "IMAGE", "ASSIGNED", "TAGS"}
	if users {
		header = append(header, "USERS")
	}
	var table [][]string
	for _, d := range rows {
		status := cmp.Or(d.Status, "deleting")
		if d.TaskStatus != "" {
			status += ", " + d.TaskStatus
		}
		row := []string{
			d.DesktopID, cmp.Or(d.ComputerName, "?"), status, cmp.Or(d.LoginStatus, "?"),
			cmp.Or(d.ImageName, d.ImageID, "?"), yesNo(d.UserAttached), tagsText(d.Tags),
		}
		if users {
			row = append(row, usersText(d.AttachUserInfos))
		}
		table = append(table, row)
	}
	if len(rows) > 0 {
		printTable(cmd, header, table)
		printLine(out, "")
	}
	printLine(out, "%s", chain.Count(len(rows), "desktop"))
	if len(rows) == 0 {
		return nil
	}
	return printCounts(cmd, rows, "image", false)
}

// printCounts prints how many desktops have each value, the most frequent first.
func printCounts(cmd *cobra.Command, rows []events.DesktopRow, by string, asJSON bool) error {
	counts := map[[2]string]int{}
	for _, d := range rows {
		value := countBy[by](d)
		counts[[2]string{value[0], value[1]}]++
	}
	values := slices.SortedFunc(maps.Keys(counts), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, v := range values {
		if !asJSON {
			printLine(cmd.OutOrStdout(), "%6d  %s", counts[v], strings.TrimSpace(escape(v[0])+"  "+escape(v[1])))
			continue
		}
		if err := printJSON(cmd.OutOrStdout(), struct {
			Value string `json:"value"`
			More  string `json:"more,omitempty"`
			Count int    `json:"count"`
		}{v[0], v[1], counts[v]}); err != nil {
			return err
		}
	}
	return nil
}

// column is one of a CSV.
type column[T any] struct {
	name   string
	of     func(T) string
	people bool // it names people
}

var desktopColumns = []column[events.DesktopRow]{
	{name: "desktop_id", of: func(d events.DesktopRow) string { return d.DesktopID }},
	{name: "computer_name", of: func(d events.DesktopRow) string { return d.ComputerName }},
	{name: "status", of: func(d events.DesktopRow) string { return d.Status }},
	{name: "task_status", of: func(d events.DesktopRow) string { return d.TaskStatus }},
	{name: "login_status", of: func(d events.DesktopRow) string { return d.LoginStatus }},
	{name: "desktop_type", of: func(d events.DesktopRow) string { return d.DesktopType }},
	{name: "image_id", of: func(d events.DesktopRow) string { return d.ImageID }},
	{name: "image_name", of: func(d events.DesktopRow) string { return d.ImageName }},
	{name: "image_type", of: func(d events.DesktopRow) string { return d.ImageType }},
	{name: "os_type", of: func(d events.DesktopRow) string { return d.OSType }},
	{name: "os_version", of: func(d events.DesktopRow) string { return d.OSVersion }},
	{name: "product_id", of: func(d events.DesktopRow) string { return d.ProductID }},
	{name: "pool_id", of: func(d events.DesktopRow) string { return d.PoolID }},
	{name: "enterprise_project_id", of: func(d events.DesktopRow) string { return d.EnterpriseProjectID }},
	{name: "subnet_id", of: func(d events.DesktopRow) string { return d.SubnetID }},
	{name: "availability_zone", of: func(d events.DesktopRow) string { return d.AvailabilityZone }},
	{name: "in_maintenance_mode", of: func(d events.DesktopRow) string { return flagText(d.InMaintenanceMode) }},
	{name: "user_attached", of: func(d events.DesktopRow) string { return flagText(d.UserAttached) }},
	{name: "tags", of: func(d events.DesktopRow) string { return tagsText(d.Tags) }},
	{name: "created", of: func(d events.DesktopRow) string { return d.Created }},
	{name: "users", of: func(d events.DesktopRow) string { return usersText(d.AttachUserInfos) }, people: true},
}

func printCSV[T any](cmd *cobra.Command, columns []column[T], rows []T, people bool) error {
	w := csv.NewWriter(cmd.OutOrStdout())
	columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.people && !people })
	cells := make([]string, len(columns))
	for i, c := range columns {
		cells[i] = c.name
	}
	if err := w.Write(cells); err != nil {
		return err
	}
	for _, row := range rows {
		for i, c := range columns {
			cells[i] = inertCell(escape(c.of(row)))
		}
		if err := w.Write(cells); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// inertCell keeps a spreadsheet from running a text as a formula.
func inertCell(text string) string {
	if strings.IndexAny(text, "=+-@") == 0 {
		return "'" + text
	}
	return text
}

func yesNo(b *bool) string {
	switch {
	case b == nil:
		return "?"
	case *b:
		return "yes"
	}
	return "no"
}

func flagText(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}

func tagsText(tags []events.Tag) string {
	texts := make([]string, len(tags))
	for i, t := range tags {
		texts[i] = t.Key + "=" + t.Value
	}
	return strings.Join(texts, " ")
}

func usersText(users []events.RowUser) string {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = u.UserName
	}
	return strings.Join(names, " ")
}
