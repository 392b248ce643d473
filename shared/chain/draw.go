package chain

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
)

// Lines draws the tree, one line a command or event.
func (t Tree) Lines() []string {
	var lines []string
	for _, root := range t.Roots {
		lines = root.below(append(lines, root.title()), "")
	}
	sum := fmt.Sprintf("chain     %s: %s within %s", t.Correlation, Count(t.Events, "event"), elapsed(t.Last.Sub(t.First)))
	if t.Progress > 0 {
		sum += "; not drawn: " + Count(t.Progress, "report") + " of progress"
	}
	lines = append(lines, "", sum)
	if len(t.Open) == 0 {
		return append(lines, "open      nothing: it has ended")
	}
	for i, p := range t.Open {
		if i == MaxDetails {
			return append(lines, fmt.Sprintf("open      and %d more", len(t.Open)-i))
		}
		lines = append(lines, "open      "+p)
	}
	return lines
}

// below appends the lines of the node's children.
func (n *Node) below(lines []string, indent string) []string {
	children, more := n.shownChildren()
	for i, child := range children {
		branch, below := "├─ ", "│  "
		if i == len(children)-1 && more == "" {
			branch, below = "└─ ", "   "
		}
		lines = append(lines, indent+branch+child.title())
		trunk := " "
		if len(child.Children) > 0 {
			trunk = "│"
		}
		for _, detail := range child.details() {
			lines = append(lines, indent+below+trunk+"     "+detail)
		}
		lines = child.below(lines, indent+below)
	}
	if more != "" {
		lines = append(lines, indent+"└─ "+more)
	}
	return lines
}

// shownChildren leaves out commands beyond MaxAlike that failed for the same reason, and counts them.
func (n *Node) shownChildren() (shown []*Node, more string) {
	alike := map[string]int{}
	commands, desktops := 0, 0
	for _, child := range n.Children {
		if child.failedWithoutEffect() {
			reason, _, _ := strings.Cut(child.Children[0].Texts[0], "): ") // the rest names desktops and requests
			if alike[reason]++; alike[reason] > MaxAlike {
				commands, desktops = commands+1, desktops+child.Desktops["asked"]
				continue
			}
		}
		shown = append(shown, child)
	}
	if commands > 0 {
		more = fmt.Sprintf("and %s of %s that failed in the same way; --json shows each",
			Count(commands, "command"), Count(desktops, "desktop"))
	}
	return shown, more
}

// failedWithoutEffect reports whether a node is a command whose only answer is a failure without effect.
func (n *Node) failedWithoutEffect() bool {
	if n.Kind != nodeCommand || n.Open || len(n.Children) != 1 {
		return false
	}
	end := n.Children[0]
	return end.Type == events.TypeCommandFailed && end.Effect == events.EffectNone && len(end.Texts) > 0
}

// title returns the first line of a node.
func (n *Node) title() string {
	var b strings.Builder
	if n.Kind == nodeCommand {
		fmt.Fprintf(&b, "%s command %s", cmp.Or(n.Function, "unknown"), n.ID)
		if len(n.Desktops) > 0 {
			fmt.Fprintf(&b, ", %s", Count(n.Desktops["asked"], "desktop"))
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
		if len(n.Texts) > 0 {
			b.WriteString(n.Texts[0])
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
	return b.String()
}

// ends counts the end events of a command. An id that was used with several data has several.
func (n *Node) ends() int {
	ends := 0
	for _, c := range n.Children {
		if !c.noEnd {
			ends++
		}
	}
	return ends
}

// details returns the further lines of an event: some desktops by name, the others as counts.
func (n *Node) details() []string {
	if n.Kind != nodeEvent || len(n.Texts) < 2 {
		return nil
	}
	lines := slices.Clone(n.Texts[1:])
	if len(lines) > MaxDetails {
		more := len(lines) - MaxDetails
		lines = append(lines[:MaxDetails], "and "+strconv.Itoa(more)+" more: "+tallyWords(n.Desktops))
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

// elapsed rounds a duration for people.
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
