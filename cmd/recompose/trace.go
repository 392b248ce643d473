package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
)

func traceCommand() *cobra.Command {
	var root, natsURL string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "trace CORRELATION",
		Short: "Draw the tree of a chain",
		Long: `Draw the tree of a chain by what has been said in it: which command led to which, when, by which calls of the service,
to what end, and what is still open. Events are kept for 30 days.

The beginning of a correlation id is enough where no other begins so. A line is the time of an event, how long it came after the one above it, which function published it, and what it reports.`,
		Example: `  recompose trace 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f
  recompose trace 0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f --json | jq .open`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return errors.New("trace needs one correlation id")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			settings, err := config.Load(config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": natsURL}})
			if err != nil {
				return err
			}
			line, err := dial(cmd, settings, "trace")
			if err != nil {
				return err
			}
			defer line.close()
			found, _, err := chainsFrom(cmd.Context(), line.queue, args[0])
			if err != nil {
				return err
			}
			id, err := found.the(args[0])
			if err != nil {
				return nothingDone(err)
			}
			c := newChain(id, events.Root{ID: root})
			for _, e := range found[id] {
				c.add(e)
			}
			if len(c.said) == 0 {
				return fmt.Errorf("nothing has been said in the chain %q: its command waits, or its events are older than 30 days, or the id is another", args[0])
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), c.tree())
			}
			c.tree().draw(cmd.OutOrStdout())
			return nil
		}),
	}
	cmd.Flags().StringVar(&root, "command", "", "id of the first command, where the correlation id is another")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the tree as JSON")
	cmd.Flags().StringVar(&natsURL, "nats-url", "", "NATS server, before NATS_URL (default "+config.DefaultNATS+")")
	return cmd
}

// draw prints the tree for people.
func (t tree) draw(w io.Writer) {
	for _, root := range t.Roots {
		say(w, "%s", root.title())
		root.drawBelow(w, "")
	}
	say(w, "")
	say(w, "chain     %s: %s within %s", foreign(t.Correlation), count(t.Events, "event"), elapsed(t.Last.Sub(t.First)))
	if len(t.Open) == 0 {
		say(w, "open      nothing: it has ended")
		return
	}
	for i, p := range t.Open {
		if i == maxDetails {
			say(w, "open      and %d more", len(t.Open)-i)
			break
		}
		say(w, "open      %s", foreign(p))
	}
}

func (n *node) drawBelow(w io.Writer, indent string) {
	children, more := n.shownChildren()
	for i, child := range children {
		branch, below := "├─ ", "│  "
		if i == len(children)-1 && more == "" {
			branch, below = "└─ ", "   "
		}
		say(w, "%s%s%s", indent, branch, child.title())
		trunk := " "
		if len(child.Children) > 0 {
			trunk = "│"
		}
		for _, detail := range child.details() {
			say(w, "%s%s%s     %s", indent, below, trunk, foreign(detail))
		}
		child.drawBelow(w, indent+below)
	}
	if more != "" {
		say(w, "%s└─ %s", indent, foreign(more))
	}
}

// shownChildren leaves out commands that failed for the same reason as others before them, and counts them.
func (n *node) shownChildren() (shown []*node, more string) {
	alike := map[string]int{}
	commands, desktops := 0, 0
	for _, child := range n.Children {
		if child.failedWithoutEffect() {
			why, _, _ := strings.Cut(child.Children[0].Says[0], "): ") // the text behind it names desktops and requests
			if alike[why]++; alike[why] > maxAlike {
				commands, desktops = commands+1, desktops+child.Desktops["asked"]
				continue
			}
		}
		shown = append(shown, child)
	}
	if commands > 0 {
		more = fmt.Sprintf("and %s of %s that failed in the same way; --json shows each",
			count(commands, "command"), count(desktops, "desktop"))
	}
	return shown, more
}

// failedWithoutEffect reports whether a node is a command that has ended so, once.
func (n *node) failedWithoutEffect() bool {
	if n.Kind != nodeCommand || n.Open || len(n.Children) != 1 {
		return false
	}
	end := n.Children[0]
	return end.Type == events.TypeCommandFailed && end.Effect == events.EffectNone && len(end.Says) > 0
}

// title is the one line of a node.
func (n *node) title() string {
	var b strings.Builder
	if n.Kind == nodeCommand {
		fmt.Fprintf(&b, "%s command %s", or(n.Function, "unknown"), n.ID)
		if len(n.Desktops) > 0 {
			fmt.Fprintf(&b, ", %s", count(n.Desktops["asked"], "desktop"))
		}
		if ends := n.ends(); ends > 1 {
			fmt.Fprintf(&b, ", ended %d times", ends)
		}
	} else {
		b.WriteString(n.Time.Local().Format("15:04:05.0"))
		if n.AfterMS != nil {
			b.WriteString(" +" + elapsed(time.Duration(*n.AfterMS)*time.Millisecond))
		}
		b.WriteString("  " + n.Function + "  ")
		if len(n.Says) > 0 {
			b.WriteString(n.Says[0])
		}
		if n.Attempts > 1 {
			fmt.Fprintf(&b, ", attempt %d", n.Attempts)
		}
		for _, c := range n.Calls {
			b.WriteString("  [" + c.String() + "]")
		}
	}
	if n.Open {
		b.WriteString("  … still open")
		if n.Percent > 0 {
			fmt.Fprintf(&b, ", %d %%", n.Percent)
		}
	}
	return foreign(b.String())
}

// ends is how many ends were said of a command. There is one, or several where a command that only reads was redriven.
func (n *node) ends() int {
	ends := 0
	for _, c := range n.Children {
		if c.Type != events.TypeJobAccepted && !events.IsNotice(c.Type) {
			ends++
		}
	}
	return ends
}

// details are the further lines of an event: its desktops, in counts and a few by name.
func (n *node) details() []string {
	if n.Kind != nodeEvent || len(n.Says) < 2 {
		return nil
	}
	lines := slices.Clone(n.Says[1:])
	if len(lines) > maxDetails {
		more := len(lines) - maxDetails
		lines = append(lines[:maxDetails], "and "+strconv.Itoa(more)+" more: "+tallyWords(n.Desktops))
	}
	return lines
}

func tallyWords(m map[string]int) string {
	var parts []string
	for _, word := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%d %s", m[word], strings.ReplaceAll(word, "_", " ")))
	}
	return strings.Join(parts, ", ")
}

// elapsed is a duration as exact as it is worth telling.
func elapsed(d time.Duration) string {
	switch {
	case d < time.Second && d > -time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}
