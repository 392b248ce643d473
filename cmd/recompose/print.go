package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"recompose/shared/printable"
)

// escape makes a text from a message safe to print on one line.
func escape(s string) string { return printable.Line(s) }

// escapeLines is escape for texts of this program, which may have several lines.
func escapeLines(s string) string { return printable.Lines(s) }

// printJSON writes v on one line.
func printJSON(w io.Writer, v any) error {
	line, err := printable.JSON(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// printIndented writes v on several lines.
func printIndented(w io.Writer, v any) error {
	line, err := printable.JSON(v)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, append(line, '\n'), "", "  "); err != nil {
		return err
	}
	_, err = text.WriteTo(w)
	return err
}

// printLine writes one line for people. It ignores errors, such as of a closed terminal.
func printLine(w io.Writer, format string, args ...any) {
	_, _ = fmt.Fprintf(w, format+"\n", args...)
}

// people returns the stream for text: standard error if JSON goes to standard output.
func people(cmd *cobra.Command, asJSON bool) io.Writer {
	if asJSON {
		return cmd.ErrOrStderr()
	}
	return cmd.OutOrStdout()
}

// widthOf returns the columns of a line to w, by COLUMNS or the terminal; 0 if unlimited.
func widthOf(w io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil {
			return n
		}
	}
	return 0
}

// wrapped returns head and text, broken at spaces so that lines fit into width. Lines after the first are indented. A
// word that is too long stays whole.
func wrapped(head, text string, indent, width int) string {
	if width <= 0 {
		return head + text
	}
	var b strings.Builder
	b.WriteString(head)
	column := utf8.RuneCountInString(head[strings.LastIndexByte(head, '\n')+1:])
	for i, word := range strings.Split(text, " ") {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0 && column+n <= width:
		case i > 0 && column+1+n <= width:
			b.WriteByte(' ')
			column++
		case column > indent:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
