package launch

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
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

func (s *screen) summary(urls []url) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(s.out, format, args...) }
	p("\n  export KUBECONFIG=%s\n\n", filepath.Join(s.dir, cluster.KubeconfigFile))
	for _, u := range urls {
		p("  %-24s %-22s from here: %s\n", u.target.Label, u.target.Address, u.local)
	}
	if len(urls) > 0 {
		p("\n  Try this:\n%s", tries)
	}
	p("\n  Ctrl-C ends the playground and leaves nothing behind.\n\n")
}

// tries are things to do with the demonstration.
const tries = `  kubectl scale deployment web --replicas=8          the new Pods get their share as soon as they are ready
  kubectl delete pod -l app=web --wait=false         all Pods are replaced, and no connection fails
  kubectl patch service web -p '{"spec":{"trafficDistribution":"PreferSameZone"}}'
                                                     cluster IPs lead to Pods of the client's own zone
`

// table shows the traffic: over the last one on a terminal, else once.
func (s *screen) table(rows []control.Row) {
	width, _, err := term.GetSize(int(s.out.Fd()))
	live := err == nil
	if !live && s.drawn > 0 {
		return
	}
	if live && s.drawn > 0 {
		_, _ = fmt.Fprintf(s.out, "\x1b[%dA\x1b[J", s.drawn)
	}
	lines := tableLines(rows)
	for _, line := range lines {
		if text := []rune(line); live && len(text) > width {
			line = string(text[:width]) // a line that wraps could not be drawn over
		}
		_, _ = fmt.Fprintln(s.out, line)
	}
	s.drawn = len(lines)
}

// tableLines lays the table out: a line for each client and address, a column for each Pod, grouped by node, then one for
// each zone.
func tableLines(rows []control.Row) []string {
	type pod struct{ node, zone, name string }
	pods, zones := map[pod]bool{}, map[string]bool{}
	for _, r := range rows {
		for _, e := range r.Endpoints {
			pods[pod{e.Node, e.Zone, e.Pod}] = true
			zones[e.Zone] = true
		}
	}
	columns := slices.SortedFunc(maps.Keys(pods), func(a, b pod) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.name, b.name))
	})
	zoneColumns := slices.Sorted(maps.Keys(zones))
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(w, "  "+strings.Join(cells, "\t")) } // into memory
	top, head := []string{"", "", ""}, []string{"CLIENT", "BY", "ADDRESS"}
	for _, c := range columns {
		top = append(top, c.node)
		head = append(head, "…"+c.name[strings.LastIndex(c.name, "-")+1:])
	}
	for _, z := range zoneColumns {
		top = append(top, "")
		head = append(head, z)
	}
	line(append(top, "", "")...)
	line(append(head, "FAILED", "PODS SEE")...)
	for _, r := range rows {
		cells := []string{r.Client, r.Via, r.Address}
		byZone, byPod := map[string]int{}, map[string]int{}
		for _, e := range r.Endpoints {
			byZone[e.Zone] += e.Count
			byPod[e.Pod] = e.Count
		}
		for _, c := range columns {
			cells = append(cells, count(byPod[c.name]))
		}
		for _, z := range zoneColumns {
			cells = append(cells, count(byZone[z]))
		}
		line(append(cells, count(r.Failed), strings.Join(r.Seen, ", "))...)
	}
	_ = w.Flush() // into memory
	for _, r := range rows {
		if r.LastError != "" {
			_, _ = fmt.Fprintf(&out, "  last failure of %s by %s: %s\n", r.Client, r.Via, r.LastError)
		}
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return lines
}

// count is a number, or a dot for none, which leaves the numbers to stand out.
func count(n int) string {
	if n == 0 {
		return "·"
	}
	return strconv.Itoa(n)
}
