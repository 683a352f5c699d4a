package applet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// shell runs a script: sh -c SCRIPT [NAME ARGUMENT...], sh FILE [ARGUMENT...], or what comes in, with a prompt on a terminal.
// It has the syntax of a POSIX shell, but no job control, and traps only for EXIT.
func shell(args []string, std stdio) error {
	flags := ""
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		flags += args[0][1:]
		args = args[1:]
	}
	if unknown := strings.Trim(flags, "cexuil"); unknown != "" {
		return fmt.Errorf("unknown option -%s", unknown)
	}
	source, name := io.Reader(std.in), "sh"
	switch {
	case strings.Contains(flags, "c"):
		if len(args) == 0 {
			return errors.New("-c needs a script")
		}
		source, args = strings.NewReader(args[0]), args[min(2, len(args)):]
	case len(args) > 0:
		file, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }()
		source, name, args = file, args[0], args[1:]
	}
	parameters := []string{}
	for _, letter := range []string{"e", "u", "x"} {
		if strings.Contains(flags, letter) {
			parameters = append(parameters, "-"+letter)
		}
	}
	var r replacer
	runner, err := interp.New(interp.StdIO(std.in, std.out, std.err), interp.Params(append(append(parameters, "--"), args...)...),
		interp.CallHandler(r.call), interp.ExecHandlers(r.handler))
	if err != nil {
		return err
	}
	if source == std.in && isTerminal(std.in) {
		return exitOf(interact(runner, std))
	}
	file, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(source, name)
	if err != nil {
		fmt.Fprintln(std.err, err)
		return exitCode(2)
	}
	return exitOf(runner.Run(context.Background(), file))
}

func isTerminal(file *os.File) bool {
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// interact reads commands from a terminal until `exit` or the end of input.
func interact(runner *interp.Runner, std stdio) error {
	fmt.Fprint(std.out, "$ ")
	var last error
	parser := syntax.NewParser(syntax.Variant(syntax.LangPOSIX))
	for statements, err := range parser.InteractiveSeq(std.in) {
		if err != nil {
			return err
		}
		if parser.Incomplete() {
			fmt.Fprint(std.out, "> ")
			continue
		}
		for _, statement := range statements {
			last = runner.Run(context.Background(), statement)
			if runner.Exited() {
				return last
			}
		}
		fmt.Fprint(std.out, "$ ")
	}
	return last
}

// replacer makes `exec COMMAND` behave as if the command had taken the shell's place: the interpreter runs it as a child and
// ends after it, so that a signal for the command, SIGTERM above all, must be passed on.
type replacer struct{ replacing atomic.Bool }

func (r *replacer) call(_ context.Context, args []string) ([]string, error) {
	r.replacing.Store(args[0] == "exec" && len(args) > 1)
	return args, nil
}

func (r *replacer) handler(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		if !r.replacing.Swap(false) {
			return next(ctx, args)
		}
		at := interp.HandlerCtx(ctx)
		path, err := interp.LookPathDir(at.Dir, at.Env, args[0])
		if err != nil {
			fmt.Fprintln(at.Stderr, err)
			return interp.ExitStatus(127)
		}
		cmd := &exec.Cmd{Path: path, Args: args, Dir: at.Dir, Stdin: at.Stdin, Stdout: at.Stdout, Stderr: at.Stderr}
		for name, variable := range at.Env.Each {
			if variable.Exported && variable.IsSet() {
				cmd.Env = append(cmd.Env, name+"="+variable.String())
			}
		}
		return runRelaying(cmd)
	}
}

// runRelaying runs a command and passes signals on to it.
func runRelaying(cmd *exec.Cmd) error {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(cmd.Stderr, err)
		return interp.ExitStatus(126)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s) // one that has ended needs none
		case err := <-ended:
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				return interp.ExitStatus(128 + int(status.Signal()))
			}
			if code := cmd.ProcessState.ExitCode(); code != 0 {
				return interp.ExitStatus(code)
			}
			return err
		}
	}
}

// exitOf turns a script's exit status into the applet's.
func exitOf(err error) error {
	var status interp.ExitStatus
	if errors.As(err, &status) {
		return exitCode(status)
	}
	return err
}
