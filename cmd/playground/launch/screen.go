package launch

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/fairlead/fairlead/cmd/playground/cluster"
	"github.com/fairlead/fairlead/cmd/playground/control"
)

// screen is what the user sees.
type screen struct {
	out, progress *os.File
	// dir is the run folder, assets that of Kubernetes' programs.
	dir, assets string
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
	p("\n  In another terminal:\n  export KUBECONFIG=%s\n", filepath.Join(s.dir, cluster.KubeconfigFile))
	if _, err := exec.LookPath("kubectl"); err != nil {
		p("  export PATH=$PATH:%s\n", s.assets)
	}
	p("\n")
	for _, u := range urls {
		p("  %-25s%-19sfrom here: %s\n", u.target.Label, u.target.Address, u.local)
	}
	if len(urls) > 0 {
		p("\n  Try this:\n%s", tries)
	}
	p("\n  Ctrl-C ends the playground and leaves nothing behind.\n\n")
}

// tries are things to do with the demonstration, in lines of 80 columns at most.
const tries = `  kubectl scale deployment web --replicas=8
      the new Pods get their share as soon as they are ready
  kubectl rollout restart deployment web
      all Pods are replaced, and no connection fails
  kubectl patch svc web -p '{"spec":{"trafficDistribution":"PreferSameZone"}}'
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
	if !live {
		width = math.MaxInt
	}
	lines := tableLines(rows, width)
	for _, line := range lines {
		if text := []rune(line); live && len(text) > width {
			line = string(text[:width]) // a line that wraps could not be drawn over
		}
		_, _ = fmt.Fprintln(s.out, line)
	}
	s.drawn = len(lines)
}

// layout is how much a table tells.
type layout struct{ pods, address, seen bool }

// layouts are those of the table, from the widest on.
var layouts = []layout{
	{pods: true, address: true, seen: true},
	{address: true, seen: true},
	{address: true},
	{},
}

// tableLines lays the table out in the first layout that fits the width, else in the narrowest.
func tableLines(rows []control.Row, width int) []string {
	var lines []string
	for _, l := range layouts {
		lines = l.lines(rows)
		if !slices.ContainsFunc(lines, func(line string) bool { return utf8.RuneCountInString(line) > width }) {
			break
		}
	}
	for _, r := range rows {
		if r.LastError != "" {
			lines = append(lines, fmt.Sprintf("  last failure of %s by %s: %s", r.Client, r.Via, r.LastError))
		}
	}
	return lines
}

// column counts the connections to one Pod, to one node or to one zone.
type column struct {
	top, head string
	counts    func(control.Endpoint) bool
}

// columns are one for each Pod, grouped by node, or one for each node, and then one for each zone.
func (l layout) columns(rows []control.Row) []column {
	type place struct{ node, pod string }
	places, zones := map[place]bool{}, map[string]bool{}
	for _, r := range rows {
		for _, e := range r.Endpoints {
			p := place{node: e.Node}
			if l.pods {
				p.pod = e.Pod
			}
			places[p], zones[e.Zone] = true, true
		}
	}
	var columns []column
	for _, p := range slices.SortedFunc(maps.Keys(places), func(a, b place) int {
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(a.pod, b.pod))
	}) {
		c := column{head: p.node, counts: func(e control.Endpoint) bool { return e.Node == p.node }}
		if l.pods {
			c = column{top: p.node, head: "…" + p.pod[strings.LastIndex(p.pod, "-")+1:],
				counts: func(e control.Endpoint) bool { return e.Node == p.node && e.Pod == p.pod }}
		}
		columns = append(columns, c)
	}
	for _, z := range slices.Sorted(maps.Keys(zones)) {
		columns = append(columns, column{head: z, counts: func(e control.Endpoint) bool { return e.Zone == z }})
	}
	return columns
}

// lines lays the table out: a line for each client and address.
func (l layout) lines(rows []control.Row) []string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	line := func(client, via, address string, counts []string, failed, seen string) {
		cells := []string{client, via}
		if l.address {
			cells = append(cells, address)
		}
		cells = append(append(cells, counts...), failed)
		if l.seen {
			cells = append(cells, seen)
		}
		_, _ = fmt.Fprintln(w, "  "+strings.Join(cells, "\t")) // into memory
	}
	columns := l.columns(rows)
	var top, head []string
	for _, c := range columns {
		top, head = append(top, c.top), append(head, c.head)
	}
	if l.pods {
		line("", "", "", top, "", "")
	}
	line("CLIENT", "BY", "ADDRESS", head, "FAILED", "PODS SEE")
	for _, r := range rows {
		client := r.Client
		if !l.pods {
			client = withoutPod(client)
		}
		var counts []string
		for _, c := range columns {
			sum := 0
			for _, e := range r.Endpoints {
				if c.counts(e) {
					sum += e.Count
				}
			}
			counts = append(counts, count(sum))
		}
		line(client, r.Via, r.Address, counts, count(r.Failed), strings.Join(r.Seen, ", "))
	}
	_ = w.Flush() // into memory
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return lines
}

// withoutPod is a client's name without that of its Pod: "Pod client-5f-x on n1" becomes "Pod on n1".
func withoutPod(client string) string {
	if words := strings.Fields(client); len(words) == 4 && words[0] == "Pod" {
		return words[0] + " " + words[2] + " " + words[3]
	}
	return client
}

// count is a number, or a dot for none, which leaves the numbers to stand out.
func count(n int) string {
	if n == 0 {
		return "·"
	}
	return strconv.Itoa(n)
}
