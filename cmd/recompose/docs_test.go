package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
)

// shellBlocks are the commands in a document: the lines of each of its sh blocks.
func shellBlocks(t *testing.T, path string) [][]string {
	t.Helper()
	var blocks [][]string
	inside := false
	for line := range strings.Lines(readFile(t, path)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "```"):
			if inside = line == "```sh"; inside {
				blocks = append(blocks, nil)
			}
		case inside && line != "" && !strings.HasPrefix(line, "#"):
			blocks[len(blocks)-1] = append(blocks[len(blocks)-1], line)
		}
	}
	return blocks
}

func documents(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	return append(docs, "../../README.md", "../../CONTRIBUTING.md")
}

// Each recompose command in the documents is one that the program takes, flags and all; each make target exists and is
// run by CI. That the commands do what they should is for the other tests.
func TestTheCommandsInTheDocumentsAreReal(t *testing.T) {
	t.Parallel()
	makefile, ci := readFile(t, "../../Makefile"), readFile(t, "../../.ci/run")
	seen := 0
	for _, doc := range documents(t) {
		for _, line := range slices.Concat(shellBlocks(t, doc)...) {
			words := strings.Fields(strings.TrimSuffix(line, "&"))
			switch {
			case strings.HasSuffix(words[0], "recompose"):
				seen++
				for i, word := range words {
					words[i] = strings.Trim(word, `"'`)
				}
				if words[len(words)-1] == "\\" {
					words = words[:len(words)-1]
				}
				var out, errOut bytes.Buffer
				code := run(t.Context(), append(words[1:], "--help"), strings.NewReader(""), &out, &errOut)
				require.Equal(t, exitDone, code, "%s: %s: %s", doc, line, errOut.String())
			case words[0] == "make":
				seen++
				for _, target := range words[1:] {
					require.Regexp(t, `(?m)^`+regexp.QuoteMeta(target)+`:`, makefile, "%s: %s", doc, line)
					require.Regexp(t, `(?m)^make .*\b`+regexp.QuoteMeta(target)+`\b`, ci, "%s: %s is not run by CI", doc, line)
				}
			}
		}
	}
	require.Greater(t, seen, 5)
}

func TestEverySettingIsInTheDocuments(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	for _, match := range regexp.MustCompile("`([A-Z][A-Z0-9_]+|[a-z]+_proxy)`").FindAllStringSubmatch(readFile(t, "../../docs/configuration.md"), -1) {
		named[match[1]] = true
	}
	delete(named, "_FILE")
	delete(named, "_INBOX")
	delete(named, "RECOMPOSE_PACE")       // retired
	c, _ := config.Load(config.Options{}) // whatever the environment is
	for _, s := range c.Settings() {
		for _, variable := range []string{s.Variable, s.Or} {
			require.True(t, named[variable] || variable == "", "%s is not in docs/configuration.md", variable)
			delete(named, variable)
		}
	}
	require.Empty(t, named, "these are in docs/configuration.md and are no settings")
}

// Each link of a document to a file of the project leads to it, and to a heading that exists.
func TestTheLinksInTheDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	decisions, err := filepath.Glob("../../docs/adr/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, decisions)
	for _, doc := range append(decisions, documents(t)...) {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(readFile(t, doc), -1) {
			path, heading, named := strings.Cut(link[1], "#")
			if strings.Contains(path, "://") {
				continue
			}
			target := filepath.Join(filepath.Dir(doc), path)
			if path == "" {
				target = doc
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s: %s", doc, link[1])
			if named {
				require.Contains(t, headings(readFile(t, target)), heading, "%s: %s", doc, link[1])
			}
		}
	}
}

// headings are the anchors of a document, as GitHub makes them.
func headings(text string) []string {
	var anchors []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(text, -1) {
		anchor := regexp.MustCompile("[^a-z0-9 -]").ReplaceAllString(strings.ToLower(heading[1]), "")
		anchors = append(anchors, strings.ReplaceAll(anchor, " ", "-"))
	}
	return anchors
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}
