// Package applet holds the few commands of the built-in image (sh, sleep, cat, wget, nc and others), chosen by the name
// that the playground's binary is called by, so that hooks, probes and `kubectl exec` have something to run.
//
// They are what samples and a curious hand need, not a replacement of a distribution's tools.
package applet

// Main runs the applet that argv[0] names. ok is false if it names none (the binary was called by its own name): the
// caller then goes on as `playground`. cmd/playground calls it first of all.
func Main(argv []string) (code int, ok bool) {
	return 0, false
}
