package applet

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// sleep waits for the sum of its arguments: seconds, with an optional unit s, m, h or d, or infinity.
func sleep(args []string, _ stdio) error {
	var total time.Duration
	for _, arg := range args {
		if arg == "infinity" {
			select {}
		}
		unit := time.Second
		if i := strings.IndexAny(arg, "smhd"); i == len(arg)-1 && i > 0 {
			unit = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}[arg[i]]
			arg = arg[:i]
		}
		n, err := strconv.ParseFloat(arg, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("invalid time %q", arg)
		}
		total += time.Duration(n * float64(unit))
	}
	time.Sleep(total)
	return nil
}

func echo(args []string, std stdio) error {
	_, err := fmt.Fprintln(std.out, strings.Join(args, " "))
	return err
}
