//go:build unix

package embednats

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// lockFile keeps a second server away from a folder: two would destroy each other's files. The lock ends with the
// process, however that ends.
func lockFile(path string) (io.Closer, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: another process uses this folder: %w", path, err)
	}
	return f, nil
}
