//go:build !unix

package emulator

import (
	"fmt"
	"os"
)

// lockFile only makes the file here: nothing guards the folder against a
// second process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock data folder: %w", err)
	}
	return f, nil
}

// syncDir does nothing here.
func syncDir(string) error { return nil }
