// Package textfile decodes text files as editors, Excel and PowerShell write them.
package textfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf16"
)

// Byte order marks.
var (
	utf8Mark      = []byte{0xEF, 0xBB, 0xBF}
	utf16Little   = []byte{0xFF, 0xFE}
	utf16Big      = []byte{0xFE, 0xFF}
	utf32Little   = []byte{0xFF, 0xFE, 0, 0}
	utf32Big      = []byte{0, 0, 0xFE, 0xFF}
	errUTF32      = errors.New("is UTF-32; save it as UTF-8")
	errUTF16Cut   = errors.New("is UTF-16 and ends within a character; save it as UTF-8")
	errSurrogates = errors.New("is UTF-16 with unpaired surrogates; save it as UTF-8")
)

// Decode returns the text as UTF-8 without its byte order mark; it converts UTF-16 that has a mark. Recognizable text
// in another encoding is an error: UTF-32, UTF-16 without a mark. The result may share memory with content.
func Decode(content []byte) ([]byte, error) {
	var err error
	switch {
	case bytes.HasPrefix(content, utf32Little), bytes.HasPrefix(content, utf32Big):
		return nil, errUTF32
	case bytes.HasPrefix(content, utf16Little):
		content, err = fromUTF16(content[len(utf16Little):], binary.LittleEndian)
	case bytes.HasPrefix(content, utf16Big):
		content, err = fromUTF16(content[len(utf16Big):], binary.BigEndian)
	default:
		content = bytes.TrimPrefix(content, utf8Mark)
	}
	if err != nil {
		return nil, err
	}
	if before, _, ok := bytes.Cut(content, []byte{0}); ok {
		return nil, fmt.Errorf("line %d: has a NUL byte, perhaps because it is UTF-16 without a byte order mark; save it as UTF-8", bytes.Count(before, []byte("\n"))+1)
	}
	return content, nil
}

func fromUTF16(content []byte, order binary.ByteOrder) ([]byte, error) {
	if len(content)%2 != 0 {
		return nil, errUTF16Cut
	}
	units := make([]uint16, len(content)/2)
	for i := range units {
		units[i] = order.Uint16(content[2*i:])
	}
	text := utf16.Decode(units)
	if slices.Contains(text, '\uFFFD') {
		return nil, errSurrogates
	}
	return []byte(string(text)), nil
}
