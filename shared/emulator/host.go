package emulator

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// refuseHost refuses a request to a host name that is not this machine's. A web page can make a host name of its own
// resolve to this machine and then read the answers (DNS rebinding), but it cannot use any other host name.
func (s *Server) refuseHost(r *http.Request) *refusal {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(strings.Trim(host, "[]")) != nil ||
		slices.ContainsFunc(s.cfg.Hosts, func(name string) bool { return strings.EqualFold(name, host) }) {
		return nil
	}
	return refuse(http.StatusForbidden, codeForbidden,
		"host: must be an IP address, localhost or a name given with --host; got %q", r.Host)
}
