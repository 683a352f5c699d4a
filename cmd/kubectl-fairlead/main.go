// Command kubectl-fairlead is a kubectl plugin: `kubectl fairlead ports` shows who has which node port, `kubectl fairlead
// plan` what is still to be done in the cloud for a Service, `kubectl fairlead orphans` what clouds have
// that no Service has any more. It reads, and writes only where asked to: `orphans -delete`.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitFine     = 0
	exitFindings = 1
	exitFailed   = 2
)

const usage = `Usage: kubectl fairlead COMMAND [FLAGS]

Commands:
  ports   who has which node port, by NodePortPool, with free ranges
  orphans what clouds have that no Service has any more; -delete ID… has it deleted
  plan    what is still to be done in the cloud for a Service of type LoadBalancer

Each command lists its flags with -h. Exit codes: 0 fine, 1 something is found, 2 it could not be looked at.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitFailed
	}
	switch args[0] {
	case "ports":
		return ports(ctx, args[1:], stdout, stderr)
	case "orphans":
		return orphans(ctx, args[1:], stdout, stderr)
	case "plan":
		return plan(ctx, args[1:], stdout, stderr)
	case "-h", "--help", "help":
		fmt.Fprint(stdout, usage)
		return exitFine
	}
	fmt.Fprintf(stderr, "kubectl fairlead: no command is called %q\n\n%s", args[0], usage)
	return exitFailed
}
