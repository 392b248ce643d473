package config

import (
	"os"
	"slices"
	"strings"
)

const prefix = "RECOMPOSE_"

// Unknown lists variables that begin like ours, in whatever letter case, and mean nothing: most often they are misspelt, and
// what they should do is not done. So do variables of NATS and of the vendor's SDK that are near misses of ours. Those that Kubernetes makes for a Service whose name begins with recompose are not ours.
func (c *Config) Unknown() []string {
	known := c.known()
	var unknown []string
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		if value == "" || slices.Contains(known, name) || ofKubernetes(name) {
			continue
		}
		if strings.HasPrefix(strings.ToUpper(name), prefix) || c.misspelt(name) != "" {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// known are the names of all variables.
func (c *Config) known() []string {
	var names []string
	for _, s := range c.settings {
		names = append(names, s.Variable)
		if s.mayBeFile() {
			names = append(names, s.Variable+"_FILE")
		}
	}
	return names
}

// ofKubernetes reports whether Kubernetes gives such a variable to containers for a Service.
func ofKubernetes(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// nearest is the known name that is most like another: the same without our prefix, or else that with the fewest edits, where
// words that both have count for it.
func (c *Config) nearest(name string) string {
	if meant := c.misspelt(name); meant != "" {
		return meant
	}
	name = strings.ToUpper(name)
	rest := strings.TrimPrefix(name, prefix)
	best, least := "", 0
	for _, known := range c.known() {
		if known == rest || known == "HUAWEICLOUD_SDK_"+rest {
			return known
		}
		apart := distance(name, known)
		for word := range strings.SplitSeq(rest, "_") {
			if slices.Contains(strings.Split(known, "_"), word) {
				apart -= 2 * len(word)
			}
		}
		if best == "" || apart < least {
			best, least = known, apart
		}
	}
	return best
}

// nearMisses are the beginnings of names that other programs have too: such a name is an error only where it is a near miss
// of ours.
var nearMisses = []string{"NATS_", "HUAWEI"}

// ofOthers are names of other programs that differ from ours by one letter.
var ofOthers = []string{"NATS_NKEY"}

// misspelt is the variable that a name of [nearMisses] misspells: one that is not set and differs by a letter, or a long one
// by two; "" where there is none.
func (c *Config) misspelt(name string) string {
	upper := strings.ToUpper(name)
	begins := func(beginning string) bool { return strings.HasPrefix(upper, beginning) }
	if !slices.ContainsFunc(nearMisses, begins) || slices.Contains(ofOthers, upper) {
		return ""
	}
	meant, least := "", 3
	for _, known := range c.known() {
		rest := strings.TrimPrefix(strings.TrimPrefix(known, "HUAWEICLOUD_SDK_"), "NATS_")
		most := 1
		if len(rest) >= 8 {
			most = 2
		}
		if d := distance(upper, known); d <= most && d < least && rest != known && os.Getenv(known) == "" {
			meant, least = known, d
		}
	}
	return meant
}

// distance is how many letters must be put in, taken out, changed or swapped with the next one to make a of b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(last[j+1], row[j]) + 1
			switch {
			case a[i] == b[j]:
				row[j+1] = min(row[j+1], last[j])
			case i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j]:
				row[j+1] = min(row[j+1], last[j]+1, before[j-1]+1)
			default:
				row[j+1] = min(row[j+1], last[j]+1)
			}
		}
	}
	return row[len(b)]
}
