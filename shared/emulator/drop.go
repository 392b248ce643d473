package emulator

import (
	"net"
	"net/http"
)

// drop closes the connection of a request without an answer: the client sees a reset, or the end of the stream.
func drop(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // net/http closes the connection
	}
	tcp, ok := conn.(*net.TCPConn)
	if inner, isTLS := conn.(interface{ NetConn() net.Conn }); !ok && isTLS {
		tcp, ok = inner.NetConn().(*net.TCPConn)
	}
	if ok {
		_ = tcp.SetLinger(0) // a reset instead of an orderly end
	}
	_ = conn.Close()
}
