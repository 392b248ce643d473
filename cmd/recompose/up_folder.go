package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"recompose/events"
	"recompose/shared/service"
)

// folderOf returns the folder of a service in the data folder. It does not depend on the spelling of the endpoint.
// Earlier versions named the folder by the spelling: such a folder is used if there is none with the new name.
func folderOf(data string, own events.Service, endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", nothingDone(fmt.Errorf("read the endpoint: %w", err))
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
		return "", nothingDone(fmt.Errorf("%s has several folders of the service %s: %s. Each has a ledger, a freeze and "+
			"lists of its own. Rename the one to use to %s, and move the others away", data, own.Name(), strings.Join(older, ", "),
			filepath.Join(data, folder)))
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
