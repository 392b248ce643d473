package events

import (
	"net"
	"net/netip"
	"strings"
)

// Kinds of a Service.
const (
	ServiceEmulator = "emulator"
	ServiceReal     = "real"
)

// Service is the Workspace service that a deployment works on. Two of them are the same if they are equal.
type Service struct {
	Kind    string `json:"kind"`           // emulator or real
	Host    string `json:"host,omitempty"` // of a real one, in lower case, with the port unless it is the scheme's own
	Project string `json:"project"`
}

// ServiceAccepted says that a person changed which service the deployment works on. It is no end of any command.
type ServiceAccepted struct {
	Service Service  `json:"service"`
	Before  *Service `json:"before,omitempty"` // absent: none was recorded, or its record was damaged
	By      string   `json:"by"`               // user@host
}

// Emulator reports whether nothing real can happen.
func (s Service) Emulator() bool { return s.Kind == ServiceEmulator }

// String is the line that people see before anything is done: EMULATOR, or REAL with endpoint and project.
func (s Service) String() string {
	if s.Emulator() {
		return "EMULATOR"
	}
	return "REAL " + s.endpoint() + " " + s.Project
}

// Name names the service and its project within a sentence.
func (s Service) Name() string {
	if s.Emulator() {
		return "EMULATOR, project " + s.Project
	}
	return "REAL " + s.endpoint() + ", project " + s.Project
}

// endpoint is the address of a real service. One that is reached through this machine may be spoken to without TLS.
func (s Service) endpoint() string {
	host, _, err := net.SplitHostPort(s.Host)
	if err != nil {
		host = strings.Trim(s.Host, "[]")
	}
	if a, err := netip.ParseAddr(host); host == "localhost" || err == nil && a.IsLoopback() {
		return s.Host
	}
	return "https://" + s.Host
}
