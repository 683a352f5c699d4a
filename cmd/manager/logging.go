package main

import (
	"io"
	"log/slog"
	"strconv"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

// setLogger makes one logger for us, controller-runtime and client-go. Verbosity n shows logr's V(0) to V(n), which
// slog calls levels 0 to -n.
func setLogger(w io.Writer, format string, verbosity int) logr.Logger {
	options := &slog.HandlerOptions{Level: slog.Level(-verbosity)}
	var handler slog.Handler = slog.NewJSONHandler(w, options)
	if format == "text" {
		handler = slog.NewTextHandler(w, options)
	}
	log := logr.FromSlogHandler(handler)
	ctrl.SetLogger(log)
	klog.SetLoggerWithOptions(log.WithName("client-go"), klog.ContextualLogger(true))
	// klog asks its own level, not its logger, whether a verbose message is wanted.
	if err := new(klog.Level).Set(strconv.Itoa(verbosity)); err != nil {
		log.Error(err, "Setting the verbosity of libraries failed")
	}
	return log
}
