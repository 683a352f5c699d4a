package health

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

// listenAgain is the pause before an address in use is tried again: another proxy may be on its way out.
const listenAgain = 5 * time.Second

// Serve answers on an address until the context ends. An address in use is tried again and again, since packets
// matter more than what can be said of them; with hardFail it is an error.
func Serve(ctx context.Context, log logr.Logger, address string, handler http.Handler, hardFail bool) error {
	for said := ""; ctx.Err() == nil; {
		err := serveOnce(ctx, address, handler)
		if err == nil || hardFail {
			return err
		}
		if said != err.Error() {
			said = err.Error()
			log.Error(err, "Cannot serve health or metrics, trying on", "every", listenAgain)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
	return nil
}

func serveOnce(ctx context.Context, address string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken, by kube-proxy if that still runs: end what `ss -ltnp` names, or change healthzBindAddress "+
			"or metricsBindAddress: %w", address, syscall.EADDRINUSE)
	}
	if err != nil {
		return fmt.Errorf("serving health or metrics: %w", err) // net says on which address
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", address, err)
	}
	return nil
}
