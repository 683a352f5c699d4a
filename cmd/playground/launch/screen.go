package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/term"

	"github.com/fairlead/fairlead/cmd/playground/cluster"
	"github.com/fairlead/fairlead/cmd/playground/control"
)

// screen is what the user sees.
type screen struct {
	out, progress *os.File
	// dir is the run folder.
	dir string
	// drawn is how many lines the live table takes on the terminal, 0 before it is drawn first.
	drawn int
}

// url is an address outside that leads to one inside.
type url struct {
	target control.Target
	local  string
}

func (s *screen) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(s.progress, format, args...) // nobody is left to tell
}

func (s *screen) step(e control.Event) { s.printf(" ✓ %-44s %5.1f s\n", e.Name, e.Seconds) }

func (s *screen) notice(text string) {
	s.printf(" ! %s\n", text)
	s.drawn = 0 // the table goes on below
}

func (s *screen) total(d time.Duration) { s.printf(" ✓ %-44s %5.1f s\n", "up", d.Seconds()) }

func (s *screen) ending() { s.printf("\nending the playground\n") }

// live says whether the table can be drawn over itself.
func (s *screen) live() bool { return term.IsTerminal(int(s.out.Fd())) }

func (s *screen) summary(urls []url) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }
	p("\nexport KUBECONFIG=%s\n\n", filepath.Join(s.dir, cluster.KubeconfigFile))
	for _, u := range urls {
		p("%-13s %-24s from here: %s\n", u.target.Label, u.target.Address, u.local)
	}
	p("\nCtrl-C ends the playground and leaves nothing behind.\n")
}

func (s *screen) table(rows []control.Row) {}
