package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"recompose/shared/embednats"
)

// serve runs a NATS server until its standard input ends. It prints its URL.
func serve() error {
	dir, err := os.MkdirTemp("", "recompose-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	server, err := embednats.Start(embednats.Options{StoreDir: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		return err
	}
	fmt.Println(server.ClientURL())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}

// serveStub runs a service with fixed answers until its standard input ends. It prints its URL.
func serveStub(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("stub", flag.ContinueOnError)
	size := flags.Int("size", 512, "bytes of the description of a desktop")
	if err := flags.Parse(args); err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	server := &http.Server{Handler: newStub(*size), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(l) }()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return server.Close()
}

// stub answers the calls of getdesktop, checkimages and rebuild. It checks nothing.
type stub struct {
	desktop, info []byte // what follows the desktop_id
	jobs          atomic.Int64
}

func newStub(size int) *stub {
	return &stub{desktop: padded(`","computer_name":"PC-0001","status":"ACTIVE","task_status":"","created":"2026-01-15T08:30:00Z",`+
		`"addresses":{"9f1c0d3a":[{"addr":"192.0.2.17","version":"4","OS-EXT-IPS-MAC:mac_addr":"fa:16:3e:00:00:01","OS-EXT-IPS:type":"fixed"}]},`+
		`"metadata":{"charging_mode":"1","metering.image_id":"i-old","image_name":"golden","os_type":"Windows"},`+
		`"flavor":{"id":"workspace.x86.4u8g"},"login_status":"REGISTERED","root_volume":{"type":"SSD","size":80,"device":"/dev/sda"}`, size),
		info: padded(`","image_id":"i-old","image_name":"golden","image_type":"private","os_type":"Windows"`, size)}
}

// padded makes the rest of an object long enough, by further metadata of the kind that the service sends.
func padded(text string, size int) []byte {
	var b bytes.Buffer
	b.WriteString(text)
	for i := 0; b.Len() < size-40; i++ {
		fmt.Fprintf(&b, `,"site_attribute_%02d":"value %02d"`, i, i)
	}
	return append(b.Bytes(), '}')
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	_, call, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	var b bytes.Buffer
	switch id, isDesktop := strings.CutPrefix(call, "desktops/"); {
	case id == "check-images" && isDesktop:
		var request struct {
			DesktopIDs []string `json:"desktop_ids"`
		}
		_ = json.NewDecoder(r.Body).Decode(&request)
		b.WriteString(`{"image_infos":[`)
		for i, id := range request.DesktopIDs {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`{"desktop_id":"` + id)
			b.Write(s.info)
		}
		b.WriteString(`]}`)
	case id == "rebuild" && isDesktop:
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(&b, `{"job_id":"job-%d"}`, s.jobs.Add(1))
	case isDesktop:
		b.WriteString(`{"desktop":{"desktop_id":"` + id)
		b.Write(s.desktop)
		b.WriteByte('}')
	case call == "images":
		b.WriteString(`{"images":[],"total_count":0}`)
	default:
		b.WriteString(`{"jobs":[],"total_count":0}`)
	}
	_, _ = w.Write(b.Bytes())
}
