package proxies

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/dataplane/conformance"
)

// table is what `make packets` prints. A row is a probe; what both families and all protocols have in common stands
// there once.
type table struct {
	rows []*row
	last *row
}

type row struct {
	name, step, what string
	cells            []cell
	reason           string // of a difference
}

// cell is one connection's result in both columns.
type cell struct{ how, ours, theirs string }

func (t *table) add(c *conformance.Case, step *conformance.Step, r *conformance.Result, theirs string) {
	what := fmt.Sprintf("%s → %s", r.Probe.From, r.Probe.To.Name)
	i := slices.IndexFunc(t.rows, func(have *row) bool {
		return have.name == c.Name && have.step == step.Name && have.what == what
	})
	if i < 0 {
		i = len(t.rows)
		t.rows = append(t.rows, &row{name: c.Name, step: step.Name, what: what})
	}
	t.last = t.rows[i]
	t.last.cells = append(t.last.cells, cell{fmt.Sprintf("%s %s", r.Family, r.Protocol), r.Got.String(), theirs})
}

// differ says why the last result differs.
func (t *table) differ(reason string) { t.last.reason = reason }

func (t *table) String() string {
	var b strings.Builder
	b.WriteString("| case | step | who → where | fairlead | kube-proxy | why they differ |\n| --- | --- | --- | --- | --- | --- |\n")
	for _, r := range t.rows {
		ours := r.column(func(c cell) string { return c.ours })
		theirs := r.column(func(c cell) string { return c.theirs })
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", r.name, r.step, r.what, ours, theirs, r.reason)
	}
	return b.String()
}

// column writes what is the same for all once.
func (r *row) column(of func(cell) string) string {
	var texts []string
	how := map[string][]string{}
	for _, c := range r.cells {
		text := of(c)
		if how[text] == nil {
			texts = append(texts, text)
		}
		how[text] = append(how[text], c.how)
	}
	if len(texts) == 1 {
		return texts[0]
	}
	for i, text := range texts {
		texts[i] = fmt.Sprintf("%s: %s", strings.Join(how[text], ", "), text)
	}
	return strings.Join(texts, "; ")
}
