package applet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func succeeds([]string, stdio) error { return nil }

func fails([]string, stdio) error { return exitCode(1) }

// sleep waits for the sum of its arguments: seconds, with an optional unit s, m, h or d, or infinity.
func sleep(args []string, _ stdio) error {
	if len(args) == 0 {
		return fmt.Errorf("for how long? (sleep 5, sleep 0.5, sleep 2m, sleep infinity)")
	}
	var total time.Duration
	for _, arg := range args {
		d, err := parseSleep(arg)
		if err != nil {
			return err
		}
		total += d
	}
	time.Sleep(total)
	return nil
}

func parseSleep(arg string) (time.Duration, error) {
	if arg == "infinity" {
		return 100 * 365 * 24 * time.Hour, nil
	}
	unit, number := time.Second, arg
	for suffix, d := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
		if rest, ok := strings.CutSuffix(arg, suffix); ok {
			unit, number = d, rest
		}
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !(n >= 0 && n < 1e9) {
		return 0, fmt.Errorf("invalid time %q", arg)
	}
	return time.Duration(n * float64(unit)), nil
}

// echo prints its arguments; -n without a newline at the end.
func echo(args []string, std stdio) error {
	end := "\n"
	if len(args) > 0 && args[0] == "-n" {
		args, end = args[1:], ""
	}
	_, err := fmt.Fprint(std.out, strings.Join(args, " "), end)
	return err
}

// printenv prints the environment, or the values of the variables named.
func printenv(args []string, std stdio) error {
	if len(args) == 0 {
		for _, entry := range os.Environ() {
			fmt.Fprintln(std.out, entry)
		}
		return nil
	}
	var missing error
	for _, name := range args {
		value, ok := os.LookupEnv(name)
		if !ok {
			missing = exitCode(1)
			continue
		}
		fmt.Fprintln(std.out, value)
	}
	return missing
}

func hostname(_ []string, std stdio) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.out, name)
	return err
}

// date prints the time, in UTC; +%s as seconds since 1970.
func date(args []string, std stdio) error {
	now := time.Now().UTC()
	text := now.Format(time.UnixDate)
	switch {
	case len(args) == 1 && args[0] == "+%s":
		text = strconv.FormatInt(now.Unix(), 10)
	case len(args) > 0:
		return fmt.Errorf("unknown format %q: there is only +%%s", args[0])
	}
	_, err := fmt.Fprintln(std.out, text)
	return err
}

func id(_ []string, std stdio) error {
	_, err := fmt.Fprintf(std.out, "uid=%d gid=%d\n", os.Getuid(), os.Getgid())
	return err
}

// stty size prints the rows and columns of the terminal.
func stty(args []string, std stdio) error {
	if len(args) != 1 || args[0] != "size" {
		return fmt.Errorf("there is only: stty size")
	}
	size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
	if err != nil {
		return fmt.Errorf("standard input is not a terminal: %w", err)
	}
	_, err = fmt.Fprintf(std.out, "%d %d\n", size.Row, size.Col)
	return err
}
