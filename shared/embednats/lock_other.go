//go:build !unix

package embednats

import (
	"io"
	"os"
)

// lockFile marks the folder as used. Where there is no flock it keeps nobody away.
func lockFile(path string) (io.Closer, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}
