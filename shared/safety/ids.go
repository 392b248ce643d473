package safety

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"recompose/events"
	"recompose/shared/textfile"
)

const (
	// maxID is the greatest length of an id, as events.IsDesktopID has it.
	maxID = 255
	// MaxFile is the greatest size of a file of ids in bytes; a hundred thousand desktops need four million.
	MaxFile = 16 << 20
	// column is the name of the CSV column with the ids.
	column = "desktop_id"
)

// CheckID returns an error unless the text is a well-formed id of a desktop.
func CheckID(id string) error {
	if events.IsDesktopID(id) {
		return nil
	}
	const shown = 60
	text := fmt.Sprintf("%q", id)
	if len(id) > shown {
		text = fmt.Sprintf("%q…", strings.ToValidUTF8(id[:shown], ""))
	}
	return fmt.Errorf("%s is not a desktop id: it must be 1 to %d letters, digits, - or _, beginning with a letter or digit", text, maxID)
}

// ReadIDs reads one id from each line. It ignores white space around the id, empty lines, text after a # and byte
// order marks. A file whose first line is a header with the column desktop_id is read as CSV, separated by comma,
// semicolon or tab. Text is UTF-8, or UTF-16 with a byte order mark.
//
// Anything else is an error, a *LineError if a line is wrong: a list that is understood only in part must not be used.
func ReadIDs(r io.Reader) ([]string, error) {
	rows, err := readRows(r, false)
	var ids []string
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	return ids, err
}

// Row is an id in a file.
type Row struct {
	ID   string
	Line int
}

// ReadRows is ReadIDs with the lines of the ids. It also reads CSV without the column desktop_id: its first column has the
// ids, below a header of two columns or more.
func ReadRows(r io.Reader) ([]Row, error) { return readRows(r, true) }

func readRows(r io.Reader, anyHeader bool) ([]Row, error) {
	content, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err == nil && len(content) > MaxFile {
		err = fmt.Errorf("has more than %d bytes, the limit", MaxFile)
	}
	if err == nil {
		content, err = textfile.Decode(content)
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(content)), "\n")
	first := 0
	for first < len(lines) && (bare(lines[first]) == "" || strings.HasPrefix(strings.ToLower(lines[first]), "sep=")) {
		first++ // Excel can put a line with the separator before the header
	}
	w := wrong{}
	rest := strings.Join(lines[first:], "\n")
	for _, separator := range ",;\t" {
		rows := newTable(rest, separator)
		header, err := rows.Read()
		at, found := columnOf(header)
		switch {
		case err != nil || found > 1:
			continue
		case found == 0 && (!anyHeader || len(header) < 2):
			continue
		case found == 0 && strings.ContainsAny(bare(header[0]), "0123456789"):
			return nil, &LineError{Line: first + 1, Err: fmt.Errorf("looks like a desktop, and must be a header with the names of the columns, "+
				"one of them %s", column)}
		}
		ids := w.table(rows, first, at, header)
		return ids, w.err()
	}
	return w.lines(lines), w.err()
}

// bare returns a line without its comment and the white space around it.
func bare(line string) string {
	line, _, _ = strings.Cut(line, "#")
	return strings.TrimFunc(line, func(r rune) bool { return unicode.IsSpace(r) || r == '\ufeff' })
}

func newTable(text string, separator rune) *csv.Reader {
	rows := csv.NewReader(strings.NewReader(text))
	rows.Comma, rows.FieldsPerRecord = separator, -1
	return rows
}

// columnOf finds the column of the ids in a header, and returns how many there are.
func columnOf(header []string) (at, found int) {
	for i, name := range header {
		if strings.EqualFold(bare(name), column) {
			at = i
			found++
		}
	}
	return at, found
}

// LineError describes the first wrong line of a file of ids.
type LineError struct {
	Line int
	Err  error
	More int // number of further wrong lines
}

func (e *LineError) Error() string {
	switch e.More {
	case 0:
		return fmt.Sprintf("line %d: %v", e.Line, e.Err)
	case 1:
		return fmt.Sprintf("line %d: %v; and 1 more line is wrong", e.Line, e.Err)
	default:
		return fmt.Sprintf("line %d: %v; and %d more lines are wrong", e.Line, e.Err, e.More)
	}
}

func (e *LineError) Unwrap() error { return e.Err }

// wrong collects the errors of a file.
type wrong struct{ first *LineError }

func (w *wrong) add(line int, err error) {
	if w.first != nil {
		w.first.More++
		return
	}
	w.first = &LineError{Line: line, Err: err}
}

func (w *wrong) err() error {
	if w.first == nil {
		return nil
	}
	return w.first
}

func (w *wrong) lines(lines []string) (ids []Row) {
	for i, line := range lines {
		id := bare(line)
		if id == "" {
			continue
		}
		if err := CheckID(id); err != nil {
			if w.first == nil && strings.ContainsAny(id, ",;\t") {
				err = fmt.Errorf("%w; one id a line, or CSV whose header has one column %s", err, column)
			}
			w.add(i+1, err)
		}
		ids = append(ids, Row{id, i + 1})
	}
	return ids
}

// table reads the rows after the header; before is the number of lines before it.
func (w *wrong) table(rows *csv.Reader, before, at int, header []string) (ids []Row) {
	width := len(header)
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return ids
		}
		if parse, ok := errors.AsType[*csv.ParseError](err); ok {
			w.add(before+parse.Line, fmt.Errorf("is not a CSV row: %w", parse.Err))
			return ids
		}
		if err != nil {
			w.add(before, err)
			return ids
		}
		if strings.TrimSpace(strings.Join(row, "")) == "" || isComment(row, at) {
			continue
		}
		line, _ := rows.FieldPos(0)
		if len(row) != width {
			w.add(before+line, fmt.Errorf("has %d columns, and the header has %d", len(row), width))
			continue
		}
		id := bare(row[at])
		if err := CheckID(id); err != nil {
			w.add(before+line, fmt.Errorf("column %s: %w", bare(header[at]), err))
		}
		ids = append(ids, Row{id, before + line})
	}
}

// isComment reports whether a row is a comment. If the first column is not that of the ids, a cell that begins with #
// is not a comment: it may be a name.
func isComment(row []string, at int) bool {
	return (at == 0 || len(row) == 1) && strings.HasPrefix(strings.TrimSpace(row[0]), "#")
}
