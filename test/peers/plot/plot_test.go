package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func chart() Chart {
	return Chart{
		Title: "Time & size", X: "Services", Y: "seconds", LogY: true,
		Series: []Series{
			{Name: "slow", Colour: Orange, Points: []Point{{X: 1000, Y: 1}, {X: 10000, Y: 100, Open: true, Note: "timed out"}}},
			{Name: "fast", Dashed: true, Points: []Point{{X: 10000, Y: 0.2}, {X: 1000, Y: 0.02}}},
		},
	}
}

// elements counts the elements of an SVG and returns its texts.
func elements(t *testing.T, svg string) (counts map[string]int, texts []string) {
	t.Helper()
	counts = map[string]int{}
	decoder := xml.NewDecoder(strings.NewReader(svg))
	inside := ""
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return counts, texts
		}
		if err != nil {
			t.Fatalf("it is no XML: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			inside = token.Name.Local
			counts[inside]++
		case xml.CharData:
			if inside == "text" && strings.TrimSpace(string(token)) != "" {
				texts = append(texts, string(token))
			}
		}
	}
}

func TestWrite(t *testing.T) {
	var svg strings.Builder
	if err := chart().Write(&svg); err != nil {
		t.Fatal(err)
	}
	counts, texts := elements(t, svg.String())
	want := []string{"Time & size", "0.01", "0.1", "1", "10", "100", "1,000", "10,000", "Services", "seconds", "slow", "fast", "timed out"}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("texts -want +got:\n%s", diff)
	}
	// A line and a mark in the legend, and a line and two marks in the chart, for each series; the page is a rect too.
	if counts["path"] != 4 || counts["circle"] != 3 || counts["rect"] != 4 {
		t.Errorf("elements %v", counts)
	}
	if open := strings.Count(svg.String(), `height="8" class="page"`); open != 1 {
		t.Errorf("%d open marks, want 1", open)
	}
	var again strings.Builder
	if err := chart().Write(&again); err != nil || again.String() != svg.String() {
		t.Errorf("a second drawing differs, or error %v", err)
	}
}

// TestPlaces: values are where they have to be on both kinds of axis.
func TestPlaces(t *testing.T) {
	log := logarithmic(0.01, 100, 300, 100)
	flat := linear(50, 300, 100)
	for _, tc := range []struct{ got, want float64 }{
		{log(0.01), 300}, {log(1), 200}, {log(100), 100}, {flat(0), 300}, {flat(25), 200}, {flat(50), 100},
	} {
		if diff := tc.got - tc.want; diff > 1e-9 || diff < -1e-9 {
			t.Errorf("at %g, want %g", tc.got, tc.want)
		}
	}
}

func TestPointsOnNoAxis(t *testing.T) {
	zero := chart()
	zero.Series[0].Points[0].Y = 0
	for name, c := range map[string]Chart{"Empty": {}, "ZeroOnALogarithm": zero} {
		if err := c.Write(io.Discard); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, tc := range []struct {
		got, want []float64
	}{
		{logTicks(0.02, 100), []float64{0.01, 0.1, 1, 10, 100}},
		{logTicks(10, 10), []float64{10, 100}},
		{linearTicks(0), []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{linearTicks(41), []float64{0, 10, 20, 30, 40, 50}},
		{linearTicks(79), []float64{0, 20, 40, 60, 80}},
		{linearTicks(230), []float64{0, 50, 100, 150, 200, 250}},
	} {
		if diff := cmp.Diff(tc.want, tc.got, cmp.Comparer(func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 })); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.001: "0.001", 0.1 + 0.2: "0.3", 999: "999", 1000: "1,000", 1234567.5: "1,234,567.5"} {
		if got := number(v); got != want {
			t.Errorf("%g is %s, want %s", v, got, want)
		}
	}
}
