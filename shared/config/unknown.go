package config

import (
	"os"
	"slices"
	"strings"
)

const prefix = "RECOMPOSE_"

// Unknown lists variables with our prefix, in any letter case, that are not settings: most often they are misspelt,
// and the intended setting has no effect. Variables that Kubernetes sets for a Service whose name begins with
// recompose are not listed.
func (c *Config) Unknown() []string {
	known := c.known()
	var unknown []string
	for _, line := range os.Environ() {
		name, value, _ := strings.Cut(line, "=")
		if strings.HasPrefix(strings.ToUpper(name), prefix) && value != "" && !slices.Contains(known, name) && !ofKubernetes(name) {
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
// fewest edits, minus an amount for each word that both contain.
func (c *Config) nearest(name string) string {
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

// distance is the number of letters to insert, delete or change to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
