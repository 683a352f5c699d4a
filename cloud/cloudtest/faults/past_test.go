package faults_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/faults"
)

// TestPast shows what was there some time ago: not what came since, what went since, and of what changed the former.
func TestPast(t *testing.T) {
	start := time.Unix(0, 0)
	p := faults.NewPast[string](10 * time.Second)
	there := map[string]*string{}
	put := func(second int, id, text string) {
		p.Note(start.Add(time.Duration(second)*time.Second), id, there[id])
		there[id] = &text
		if text == "" {
			delete(there, id)
		}
	}
	for _, step := range []struct {
		second   int
		id, text string // what is put there; no id: nothing
		seen     string
	}{
		{0, "a", "1", "map[]"},
		{5, "a", "2", "map[]"},
		{6, "b", "1", "map[]"},
		{10, "", "", "map[a:1]"},
		{12, "a", "", "map[a:1]"},
		{15, "", "", "map[a:2]"},
		{16, "", "", "map[a:2 b:1]"},
		{22, "", "", "map[b:1]"},
	} {
		if step.id != "" {
			put(step.second, step.id, step.text)
		}
		now := map[string]string{}
		for id, text := range p.Seen(start.Add(time.Duration(step.second)*time.Second), there) {
			now[id] = *text
		}
		if got := fmt.Sprint(now); got != step.seen {
			t.Errorf("at %d s reads show %s, want %s", step.second, got, step.seen)
		}
	}
	if len(there) != 1 {
		t.Errorf("reading changed what is there: %v", there)
	}
	none := faults.NewPast[string](0)
	none.Note(start, "b", nil)
	if len(none.Seen(start, there)) != 1 {
		t.Error("without a lag reads show something else than what is there")
	}
}
