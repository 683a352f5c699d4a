package cloud

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Annotations reads annotations once, into typed variables, and reports everything that is wrong with them together.
// Ask for each annotation that exists, then call Err: what begins with one of the prefixes and was never asked for is
// unknown, and an error too, since it can only be a typing mistake or a feature that is not there.
//
//	a := cloud.NewAnnotations(spec.Annotations, "example.com/lb-")
//	a.Bool("example.com/lb-internal", &internal)
//	a.Int("example.com/lb-idle-timeout", &timeout, 4, 100)
//	if err := a.Err(); err != nil { return nil, err }
//
// A variable is left as it is, with its default, where its annotation is missing or wrong. Not for several goroutines.
type Annotations struct {
	values   map[string]string
	prefixes []string
	asked    map[string]bool
	errs     []error
}

// NewAnnotations starts to read annotations. They are not changed.
func NewAnnotations(values map[string]string, prefixes ...string) *Annotations {
	return &Annotations{values: values, prefixes: prefixes, asked: map[string]bool{}}
}

// Err returns a UserError that names everything wrong, sorted by annotation; nil if nothing is.
func (a *Annotations) Err() error { return joinUserErrors(a.errors()) }

func (a *Annotations) errors() []error {
	errs := slices.Clone(a.errs)
	known := slices.Sorted(maps.Keys(a.asked))
	for _, key := range slices.Sorted(maps.Keys(withPrefix(a.values, a.prefixes))) {
		if !a.asked[key] {
			errs = append(errs, fmt.Errorf("annotation %s: unknown: it can be %s", key, strings.Join(known, ", ")))
		}
	}
	return errs
}

// lookup returns the annotation's value without white space around it.
func (a *Annotations) lookup(key string) (string, bool) {
	a.asked[key] = true
	value, ok := a.values[key]
	return strings.TrimSpace(value), ok
}

func (a *Annotations) wrong(key, value, want string) {
	a.errs = append(a.errs, fmt.Errorf("annotation %s: %q is not %s", key, value, want))
}

// String reads any text that is not empty.
func (a *Annotations) String(key string, into *string) {
	value, ok := a.lookup(key)
	switch {
	case !ok:
	case value == "":
		a.errs = append(a.errs, fmt.Errorf("annotation %s: %w: remove it or give it a value", key, errEmpty))
	default:
		*into = value
	}
}

// Bool reads "true" or "false".
func (a *Annotations) Bool(key string, into *bool) {
	value, ok := a.lookup(key)
	switch {
	case !ok:
	case value == "true", value == "false":
		*into = value == "true"
	default:
		a.wrong(key, value, "true or false")
	}
}

// Int reads a whole number from lowest to highest.
func (a *Annotations) Int(key string, into *int, lowest, highest int) {
	value, ok := a.lookup(key)
	if !ok {
		return
	}
	number, err := strconv.Atoi(value)
	if err != nil || number < lowest || number > highest {
		a.wrong(key, value, fmt.Sprintf("a whole number from %d to %d", lowest, highest))
		return
	}
	*into = number
}

// List reads values separated by commas, in the order given.
func (a *Annotations) List(key string, into *[]string) {
	value, ok := a.lookup(key)
	if !ok {
		return
	}
	var list []string
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			a.wrong(key, value, "a list separated by commas")
			return
		}
		list = append(list, item)
	}
	*into = list
}

// Map reads pairs such as "a=1,b=2". A key given twice is an error.
func (a *Annotations) Map(key string, into *map[string]string) {
	var pairs []string
	a.List(key, &pairs)
	if pairs == nil {
		return
	}
	result := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if _, twice := result[name]; !ok || name == "" || twice {
			a.wrong(key, a.values[key], "a list of different names with values, such as a=1,b=2")
			return
		}
		result[name] = value
	}
	*into = result
}

// Prefixes reads address ranges separated by commas.
func (a *Annotations) Prefixes(key string, into *[]netip.Prefix) {
	var list []string
	a.List(key, &list)
	var prefixes []netip.Prefix
	for _, item := range list {
		prefix, err := netip.ParsePrefix(item)
		if err != nil {
			a.wrong(key, a.values[key], "a list of ranges such as 192.0.2.0/24")
			return
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	if prefixes != nil {
		*into = prefixes
	}
}

// Enum reads one of the allowed values.
func Enum[T ~string](a *Annotations, key string, into *T, allowed ...T) {
	value, ok := a.lookup(key)
	if !ok {
		return
	}
	if !slices.Contains(allowed, T(value)) {
		texts := make([]string, len(allowed))
		for i, v := range allowed {
			texts[i] = string(v)
		}
		a.wrong(key, value, "one of "+strings.Join(texts, ", "))
		return
	}
	*into = T(value)
}
