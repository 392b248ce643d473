package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

const controlPrefix = "/_emulator/"

func isControl(path string) bool { return strings.HasPrefix(path, controlPrefix) }

// control answers a control call. Only this machine may make them, because they allow everything.
func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	if !fromLoopback(r) {
		controlError(w, http.StatusForbidden, "control calls are answered on loopback only")
		return
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		controlError(w, http.StatusForbidden, "control calls are not for pages of a browser: "+err.Error())
		return
	}
	w.Header().Set("Recompose-Pace", strconv.FormatFloat(s.cfg.Pace, 'g', -1, 64))
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, controlPrefix) {
	case "GET state":
		controlJSON(w, s.State())
	case "GET requests":
		s.controlRequests(w, r)
	case "GET faults":
		controlJSON(w, s.Faults())
	case "PUT faults":
		replace(w, r, "faults", s.SetFaults, s.Faults)
	case "PUT users":
		replace(w, r, "users", s.SetUsers, func() map[string]any { return map[string]any{} })
	case "PUT jobs":
		replace(w, r, "jobs", s.StartJobs, func() []Job { return s.State().Jobs })
	case "POST reset":
		if err := s.Reset(); err != nil {
			controlError(w, http.StatusInternalServerError, err.Error())
			return
		}
		controlJSON(w, map[string]any{})
	default:
		controlError(w, http.StatusNotFound, "no such control call; there are GET state, GET requests, GET and PUT faults, PUT users, PUT jobs, POST reset")
	}
}

func (s *Server) controlRequests(w http.ResponseWriter, r *http.Request) {
	after, err := queryNumber(r, "after")
	if err != nil {
		controlError(w, http.StatusBadRequest, err.Error())
		return
	}
	limit, err := queryNumber(r, "limit")
	if err != nil {
		controlError(w, http.StatusBadRequest, err.Error())
		return
	}
	controlJSON(w, s.Requests(after, int(min(limit, 1<<30))))
}

func queryNumber(r *http.Request, name string) (int64, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is not a number from 0 on", name, text)
	}
	return n, nil
}

// replace reads a list, applies it and answers with the state after it.
func replace[T, A any](w http.ResponseWriter, r *http.Request, what string, set func([]T) error, now func() A) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		controlError(w, http.StatusBadRequest, "read "+what+": "+err.Error())
		return
	}
	var list []T
	if err := decodeStrict(bytes.TrimPrefix(data, []byte("\ufeff")), &list); err != nil { // a file's byte order mark
		controlError(w, http.StatusBadRequest, "read "+what+": "+err.Error())
		return
	}
	if err := set(list); err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, errStore) {
			status = http.StatusInternalServerError
		}
		controlError(w, status, err.Error())
		return
	}
	controlJSON(w, now())
}

// fromLoopback looks at the connection, not at any header.
func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func controlJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	_ = enc.Encode(v) // the client may have gone
}

func controlError(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": text}) // the client may have gone
}
