package network

import (
	"context"
	"net"
	"net/http"
)

// Dial makes a TCP connection from within a namespace. address is an IP address and a port: there is nobody to resolve
// names.
func Dial(ctx context.Context, namespace, address string) (conn net.Conn, err error) {
	err = Enter(namespace, func() (err error) {
		// A socket belongs to the namespace of the thread that makes it, which for a lone address is this one.
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	return conn, err
}

// Transport makes HTTP requests from within a namespace, each on a connection of its own.
func Transport(namespace string) http.RoundTripper {
	return &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return Dial(ctx, namespace, address)
		},
	}
}
