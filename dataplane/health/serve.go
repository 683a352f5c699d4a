package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/go-logr/logr"
)

// listenAgain is the pause before an address in use is tried again: another proxy may be on its way out. Tests have less time.
var listenAgain = 5 * time.Second

// Server answers on an address.
type Server struct {
	Address string
	Handler http.Handler
	// Over is what connections are served over, given the listener for TCP; nil: nothing more.
	Over func(net.Listener) net.Listener
	// HardFail makes an address in use an error. Otherwise it is tried again and again, since packets matter more than what
	// can be said of them.
	HardFail bool
}

// Serve returns when the context ends.
func (s Server) Serve(ctx context.Context, log logr.Logger) error {
	for said := ""; ctx.Err() == nil; {
		err := s.once(ctx)
		if err == nil || s.HardFail {
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

func (s Server) once(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken, by kube-proxy if that still runs: end what `ss -ltnp` names, or change healthzBindAddress, "+
			"metricsBindAddress or reportBindAddress: %w", s.Address, syscall.EADDRINUSE)
	}
	if err != nil {
		return fmt.Errorf("serving health or metrics: %w", err) // net says on which address
	}
	if s.Over != nil {
		listener = s.Over(listener)
	}
	// What strangers do on their way in is no news.
	var errorLog *stdlog.Logger
	if s.Over != nil {
		errorLog = stdlog.New(io.Discard, "", 0)
	}
	server := &http.Server{Handler: s.Handler, ErrorLog: errorLog, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", s.Address, err)
	}
	return nil
}
