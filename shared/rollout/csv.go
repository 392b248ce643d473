package rollout

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"recompose/shared/safety"
)

// ReadTargets reads desktop ids from a file: one id a line, or CSV with a header. Of CSV it takes the column
// desktop_id, or else the first one; separators are comma, semicolon and tab. Text is UTF-8, or UTF-16 with a byte order mark.
//
// A desktop that is in the file twice, letter case apart, is an error that names both lines.
func ReadTargets(r io.Reader) ([]string, error) {
	rows, err := safety.ReadRows(r)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, errors.New("must name at least one desktop")
	}
	const shown = 20
	var faults []string
	ids := make([]string, len(rows))
	first := make(map[string]int, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
		id := strings.ToLower(row.ID)
		if line := first[id]; line > 0 {
			faults = append(faults, fmt.Sprintf("line %d: desktop %s is on line %d already; name each desktop once",
				row.Line, short(row.ID), line))
		} else {
			first[id] = row.Line
		}
	}
	if more := len(faults) - shown; more > 0 {
		faults = append(faults[:shown], fmt.Sprintf("and %d more desktops are in the file twice", more))
	}
	if len(faults) > 0 {
		return nil, errors.New(strings.Join(faults, "\n"))
	}
	return ids, nil
}
