package workspace

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxIDLength = 255

// CheckID refuses an id that could change the path of a URL: it must be 1 to 255 characters of A-Z, a-z, 0-9, hyphen
// and underscore, and begin with a letter or digit. Every id in the vendor's samples fits. field names the id in the
// error. The client checks every id itself; callers use CheckID to refuse bad input earlier.
func CheckID(field, value string) error {
	if value == "" {
		return fmt.Errorf("%s is empty: give an id", field)
	}
	if len(value) > maxIDLength {
		return fmt.Errorf("%s is %d characters long, %q…: give at most %d", field, len(value), clip(value, 40), maxIDLength)
	}
	for i := range len(value) {
		c := value[i]
		alnum := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9'
		if alnum || i > 0 && (c == '-' || c == '_') {
			continue
		}
		return fmt.Errorf("%s %q: must be letters, digits, hyphens and underscores, and begin with a letter or digit",
			field, value)
	}
	return nil
}

// clip cuts s to at most n bytes without splitting a character.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// printable escapes the characters that could control a terminal or split a log line: control, format and invalid
// characters.
func printable(s string) string {
	clean := func(r rune) bool { return r != utf8.RuneError && strconv.IsPrint(r) }
	if strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if clean(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
