// Package plot draws line charts as SVG, plain enough to be read on a light and on a dark page. It is not for more than a
// handful of series and points.
package plot

import (
	"cmp"
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Chart is one chart. The X axis is logarithmic and has a tick at every X of a point.
type Chart struct {
	Title string
	// X and Y name the axes, with their units.
	X, Y string
	// LogY makes the Y axis logarithmic, too: values must be positive then. Else it begins at 0.
	LogY   bool
	Series []Series
}

// Series is one line. Colour tells series of the same kind apart by Dashed.
type Series struct {
	Name   string
	Colour Colour
	Dashed bool
	Points []Point
}

// Point is a value. One that is Open is a bound below which the value is not: it has a hollow mark, and its Note beside.
type Point struct {
	X, Y float64
	Open bool
	Note string
}

// Colour is one of those that are told apart on both kinds of page, and by people who see no red or no green. Each has a
// mark of its own.
type Colour int

// The colours.
const (
	Blue Colour = iota
	Orange
	Grey
)

var colours = map[Colour]string{Blue: "#2f81c7", Orange: "#d9730d", Grey: "#8b949e"}

const (
	width, height            = 720, 400
	left, right, top, bottom = 76, 24, 74, 56
	style                    = `<style>text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}` +
		`.grid{stroke:#8b949e;stroke-opacity:.35}.axis{stroke:#8b949e}.page{fill:#fff}` +
		`@media(prefers-color-scheme:dark){text{fill:#d0d7de}.page{fill:#0d1117}}</style>`
)

// Write draws it. A chart without points, or whose values fit no axis, is an error.
func (c Chart) Write(w io.Writer) error {
	var xs, ys []float64
	for _, s := range c.Series {
		for _, p := range s.Points {
			if p.X <= 0 || c.LogY && p.Y <= 0 || p.Y < 0 {
				return fmt.Errorf("drawing %q: %s has a point at %g, %g, which is on no axis", c.Title, s.Name, p.X, p.Y)
			}
			xs, ys = append(xs, p.X), append(ys, p.Y)
		}
	}
	if len(xs) == 0 {
		return fmt.Errorf("drawing %q: there are no points", c.Title)
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	d := drawing{x: logarithmic(xs[0]/1.25, xs[len(xs)-1]*1.25, left, width-right)}
	ticks := linearTicks(slices.Max(ys))
	if c.LogY {
		ticks = logTicks(slices.Min(ys), slices.Max(ys))
		d.y = logarithmic(ticks[0], ticks[len(ticks)-1], height-bottom, top)
	} else {
		d.y = linear(ticks[len(ticks)-1], height-bottom, top)
	}
	d.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`, width, height, html.EscapeString(c.Title))
	d.printf("%s\n"+`<rect class="page" width="%d" height="%d"/>`, style, width, height)
	d.text(left, 22, `class="title"`, c.Title)
	d.axes(c, xs, ticks)
	d.legend(c.Series)
	for _, s := range c.Series {
		d.series(s)
	}
	d.printf("</svg>")
	_, err := io.WriteString(w, d.out.String())
	return err
}

// drawing is an SVG in the making.
type drawing struct {
	out  strings.Builder
	x, y func(float64) float64
}

func (d *drawing) printf(format string, args ...any) {
	fmt.Fprintf(&d.out, format+"\n", args...)
}

func (d *drawing) text(x, y float64, attributes, text string) {
	d.printf(`<text x="%.1f" y="%.1f" %s>%s</text>`, x, y, attributes, html.EscapeString(text))
}

func (d *drawing) axes(c Chart, xs, ticks []float64) {
	for _, t := range ticks {
		y := d.y(t)
		d.printf(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>`, left, width-right, y, y)
		d.text(left-8, y+4, `text-anchor="end"`, number(t))
	}
	for i, x := range xs {
		if at := d.x(x); i == 0 || at-d.x(xs[i-1]) > 40 { // else the numbers would touch
			d.printf(`<line class="axis" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, at, at, height-bottom, height-bottom+5)
			d.text(at, height-bottom+20, `text-anchor="middle"`, number(x))
		}
	}
	d.printf(`<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>`, left, width-right, height-bottom, height-bottom)
	d.text((left+width-right)/2, height-14, `text-anchor="middle"`, c.X)
	d.text(0, 0, fmt.Sprintf(`text-anchor="middle" transform="translate(18 %d) rotate(-90)"`, (top+height-bottom)/2), c.Y)
}

func (d *drawing) legend(all []Series) {
	const perRune, space = 7.2, 52
	x, y := float64(left), 48.0
	for _, s := range all {
		needs := float64(len([]rune(s.Name)))*perRune + space
		if x > left && x+needs > width {
			x, y = left, y+18
		}
		d.line(s, fmt.Sprintf("M%.1f %.1fh26", x, y))
		d.mark(s, x+13, y, false)
		d.text(x+32, y+4, "", s.Name)
		x += needs
	}
}

func (d *drawing) series(s Series) {
	points := slices.SortedFunc(slices.Values(s.Points), func(a, b Point) int { return cmp.Compare(a.X, b.X) })
	var path strings.Builder
	for i, p := range points {
		command := "L"
		if i == 0 {
			command = "M"
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", command, d.x(p.X), d.y(p.Y))
	}
	if len(points) > 0 {
		d.line(s, path.String())
	}
	for _, p := range points {
		d.mark(s, d.x(p.X), d.y(p.Y), p.Open)
		if p.Note != "" {
			d.text(d.x(p.X)-9, d.y(p.Y)-9, `text-anchor="end"`, p.Note)
		}
	}
}

func (d *drawing) line(s Series, path string) {
	dashes := ""
	if s.Dashed {
		dashes = ` stroke-dasharray="5 4"`
	}
	d.printf(`<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`, path, colours[s.Colour], dashes)
}

func (d *drawing) mark(s Series, x, y float64, open bool) {
	fill := colours[s.Colour]
	paint := fmt.Sprintf(`fill="%s" stroke="%s" stroke-width="2"`, fill, fill)
	if open {
		paint = fmt.Sprintf(`class="page" stroke="%s" stroke-width="2"`, fill)
	}
	switch s.Colour {
	case Blue:
		d.printf(`<circle cx="%.1f" cy="%.1f" r="4" %s/>`, x, y, paint)
	case Orange:
		d.printf(`<rect x="%.1f" y="%.1f" width="8" height="8" %s/>`, x-4, y-4, paint)
	case Grey:
		d.printf(`<path d="M%.1f %.1fl5 9h-10z" %s/>`, x, y-5, paint)
	}
}

func logarithmic(from, to, low, high float64) func(float64) float64 {
	return func(v float64) float64 {
		return low + (high-low)*(math.Log(v)-math.Log(from))/(math.Log(to)-math.Log(from))
	}
}

func linear(to, low, high float64) func(float64) float64 {
	return func(v float64) float64 { return low + (high-low)*v/to }
}

// logTicks are powers of ten around values.
func logTicks(least, most float64) []float64 {
	low, high := math.Floor(math.Log10(least)), math.Ceil(math.Log10(most))
	if low == high {
		high++
	}
	var ticks []float64
	for power := low; power <= high; power++ {
		ticks = append(ticks, math.Pow(10, power))
	}
	return ticks
}

// linearTicks are some round numbers from 0 to above the greatest value.
func linearTicks(most float64) []float64 {
	if most == 0 {
		most = 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(most)))
	step := unit
	for _, part := range []float64{0.2, 0.5, 1} {
		if step = unit * part; most/step <= 5 {
			break
		}
	}
	if most/step > 5 {
		step = 2 * unit
	}
	var ticks []float64
	for i := 0.0; ; i++ {
		ticks = append(ticks, i*step)
		if i*step >= most {
			return ticks
		}
	}
}

// number has commas between thousands, and no more digits than it needs.
func number(v float64) string {
	text := strconv.FormatFloat(math.Round(v*1e9)/1e9, 'f', -1, 64)
	whole, rest, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		rest = "." + rest
	}
	return whole + rest
}
