// Package datafolder names and locks the folder in which `recompose up` keeps the state of one service: [Of] and [Lock].
package datafolder

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"recompose/events"
	"recompose/shared/service"
)

// Of returns the folder of a service in the data folder. It does not depend on the spelling of the endpoint.
// Earlier versions named the folder by the spelling: such a folder is used if there is none with the new name.
func Of(data string, own events.Service, endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", fmt.Errorf("read the endpoint: %w", err)
	}
	host := folderName(service.Host(u))
	folder := host + "_" + folderName(own.Project)
	entries, err := os.ReadDir(data)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read the data folder: %w", err)
	}
	var older []string
	for _, e := range entries {
		spelled, ok := strings.CutSuffix(e.Name(), "_"+folderName(own.Project))
		switch {
		case !ok || !e.IsDir():
		case spelled == host:
			return folder, nil
		case sameHost(spelled, host, u.Scheme):
			older = append(older, e.Name())
		}
	}
	switch len(older) {
	case 0:
		return folder, nil
	case 1:
		return older[0], nil
	default:
		return "", fmt.Errorf("%s has several folders of the service %s: %s. Each has a ledger, a freeze and "+
			"lists of its own. Rename the one to use to %s, and move the others away", data, own.Name(), strings.Join(older, ", "),
			filepath.Join(data, folder))
	}
}

// sameHost reports whether the name of a folder is another spelling of a host.
func sameHost(spelled, host, scheme string) bool {
	spelled = strings.ToLower(spelled)
	if spelled == host {
		return true
	}
	spelled = strings.TrimSuffix(spelled, map[string]string{"https": "_443", "http": "_80"}[scheme])
	return strings.TrimSuffix(spelled, ".") == host
}

func folderName(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, text)
}

// Lock creates a data folder and locks it against other processes, until unlock or the end of this one.
func Lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data folder: %w", err)
	}
	l := flock.New(filepath.Join(dir, "lock"))
	locked, err := l.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("another `recompose up` uses %s; stop it, or choose another folder with --data", dir)
	}
	return func() { _ = l.Unlock() }, nil
}
