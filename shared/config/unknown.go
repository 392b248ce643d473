package config

import (
	"maps"
	"os"
	"slices"
	"strings"
)

const prefix = "RECOMPOSE_"

// retired are the variables of earlier releases that have no effect any more, and the reason. They warn for one release;
// then they are removed here and refused as unknown.
var retired = map[string]string{
	"RECOMPOSE_PACE": "an emulator reports how fast it runs",
}

// Retired lists the variables that are set and have no effect any more, with the reason.
func Retired() []Fault {
	var faults []Fault
	for _, name := range slices.Sorted(maps.Keys(retired)) {
		if os.Getenv(name) != "" {
			faults = append(faults, Fault{name, "has no effect any more: " + retired[name] + "; remove it, the next release refuses it"})
		}
	}
	return faults
}

// Unknown lists variables with our prefix, in any letter case, that are not settings: most often they are misspelt,
// and the intended setting has no effect. It also lists variables with a prefix of NATS or of the vendor's SDK that
// are near misses of a setting. Variables that Kubernetes sets for a Service whose name begins with recompose are not
// listed.
func (c *Config) Unknown() []string {
	known := c.known()
	var unknown []string
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		if value == "" || slices.Contains(known, name) || retired[name] != "" || ofKubernetes(name) {
			continue
		}
		if strings.HasPrefix(strings.ToUpper(name), prefix) || c.misspelt(name) != "" {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// known returns the names of all variables.
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

// ofKubernetes reports whether Kubernetes sets such a variable in containers for a Service.
func ofKubernetes(name string) bool {
	return strings.HasSuffix(name, "_SERVICE_HOST") || strings.HasSuffix(name, "_PORT") || strings.Contains(name, "_PORT_")
}

// nearest is the known name that is most similar to another: the same without our prefix, or else the one with the
// fewest edits, minus an amount for each word that both contain, one letter apart at most.
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
			if slices.ContainsFunc(strings.Split(known, "_"), func(k string) bool {
				return k == word || len(word) >= 4 && distance(k, word) == 1
			}) {
				apart -= 3 * len(word)
			}
		}
		if best == "" || apart < least {
			best, least = known, apart
		}
	}
	return best
}

// nearMisses are prefixes of names that other programs use too: such a name is an error only if it is a near miss of a
// setting.
var nearMisses = []string{"NATS_", "HUAWEI"}

// ofOthers are names of other programs that differ from a setting by one letter.
var ofOthers = []string{"NATS_NKEY"}

// misspelt returns the setting that a name with a prefix of [nearMisses] misspells: one that is not set and differs
// by one letter, or by two if its name is long; "" if there is none.
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

// distance is the number of letters to insert, delete, change or swap with the next one to turn a into b.
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
