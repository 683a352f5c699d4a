package app

import (
	"context"
	"io"
	"log/slog"
	"slices"
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
	log := logr.FromSlogHandler(lazyHandler{next: handler})
	ctrl.SetLogger(log)
	klog.SetLoggerWithOptions(log.WithName("client-go"), klog.ContextualLogger(true))
	// klog asks its own level, not its logger, whether a verbose message is wanted.
	if err := new(klog.Level).Set(strconv.Itoa(verbosity)); err != nil {
		log.Error(err, "Setting the verbosity of libraries failed")
	}
	return log
}

// lazyHandler leaves the attributes of a logger unformatted until something is logged. controller-runtime makes a logger
// with half a dozen of them for every pass of a controller, and few passes log anything.
type lazyHandler struct {
	next  slog.Handler
	attrs []slog.Attr
}

// Enabled is as that of the handler behind it.
func (h lazyHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle logs a record with the attributes of the logger before its own.
func (h lazyHandler) Handle(ctx context.Context, r slog.Record) error {
	whole := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	whole.AddAttrs(h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		whole.AddAttrs(a)
		return true
	})
	return h.next.Handle(ctx, whole)
}

// WithAttrs keeps attributes for later.
func (h lazyHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return lazyHandler{next: h.next, attrs: slices.Concat(h.attrs, attrs)}
}

// WithGroup formats the attributes so far, which are outside of the group.
func (h lazyHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return lazyHandler{next: h.next.WithAttrs(h.attrs).WithGroup(name)}
}
