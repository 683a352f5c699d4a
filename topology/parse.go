package topology

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	maxBound  = 1000
	maxKeep   = 1000
	maxWeight = 1_000_000
)

// Parse returns what a Service asks for by its annotations and spec.trafficDistribution. An error is one line that names
// the value and says all that is wrong with it; the Service is to have no hints then, as under None.
//
// The annotation service.kubernetes.io/topology-aware-hints, where there is one, counts instead of topology-mode. An
// annotation that turns topology on overrides trafficDistribution; "Disabled" leaves it in force, as upstream.
func Parse(service *corev1.Service) (Policy, error) {
	key := corev1.DeprecatedAnnotationTopologyAwareHints
	value, ok := service.Annotations[key]
	if !ok {
		key = corev1.AnnotationTopologyMode
		value = service.Annotations[key]
	}
	switch own, ours := strings.CutPrefix(value, Prefix); {
	case value == "Auto", value == "auto":
		return auto, nil
	case value == "", value == "Disabled", value == "disabled":
		return parseDistribution(service.Spec.TrafficDistribution)
	case !ours:
		return None, fmt.Errorf("annotation %s: %q is not known: it is Auto, Disabled, or begins with %sauto", key, value, Prefix)
	default:
		policy, wrong := parseOwn(own, service.Annotations)
		if wrong != nil {
			return None, fmt.Errorf("annotation %s: %q: %s", key, value, strings.Join(wrong, "; "))
		}
		return policy, nil
	}
}

func parseDistribution(value *string) (Policy, error) {
	if value == nil {
		return None, nil
	}
	switch *value {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		return Policy{Mode: ModeSameZone}, nil
	case corev1.ServiceTrafficDistributionPreferSameNode:
		return Policy{Mode: ModeSameNode}, nil
	default:
		return None, fmt.Errorf("spec.trafficDistribution %q is not known", *value)
	}
}

// parseOwn reads a value of our own without its prefix: "auto", then options, with dots between. It returns all that is
// wrong.
func parseOwn(value string, annotations map[string]string) (policy Policy, wrong []string) {
	words := strings.Split(value, ".")
	if words[0] != "auto" {
		return None, []string{fmt.Sprintf("%q is no policy: there is auto alone", words[0])}
	}
	policy = auto
	had := map[string]string{}
	for _, word := range words[1:] {
		option, err := policy.set(word)
		switch {
		case err != nil:
			wrong = append(wrong, err.Error())
		case had[option] != "":
			wrong = append(wrong, fmt.Sprintf("%s and %s exclude each other", had[option], word))
		}
		had[option] = word
	}
	if policy.By == ByWeights {
		var err error
		if policy.Weights, err = canonicalWeights(annotations[AnnotationWeights]); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return policy, wrong
}

// set makes one option what a word says, and returns the option's name.
func (p *Policy) set(word string) (option string, err error) {
	switch word {
	case "strict":
		p.Strict = true
		return "strict", nil
	case "several":
		p.Several = true
		return "several", nil
	case "by-cpu":
		p.By = ByCPU
		return "by", nil
	case "by-nodes":
		p.By = ByNodes
		return "by", nil
	case "by-weights":
		p.By = ByWeights
		return "by", nil
	}
	if number, ok := strings.CutPrefix(word, "bound-"); ok {
		p.Bound, err = parseNumber(number, maxBound)
		return "bound", err
	}
	if number, ok := strings.CutPrefix(word, "keep-"); ok {
		p.Keep, err = parseNumber(number, maxKeep)
		return "keep", err
	}
	return word, fmt.Errorf("%q is no option: there are bound-N, strict, by-cpu, by-nodes, by-weights, keep-N and several", word)
}

// parseNumber reads digits. A number is written in one way only, so that values can be compared by eye.
func parseNumber(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most || strconv.Itoa(n) != text {
		return 0, fmt.Errorf("%q is no whole number from 0 to %d", text, most)
	}
	return n, nil
}

// canonicalWeights returns the weights of an annotation sorted by zone.
func canonicalWeights(text string) (string, error) {
	if text == "" {
		return "", fmt.Errorf("by-weights needs the annotation %s, such as %q", AnnotationWeights, "zone-a=3,zone-b=1")
	}
	var errs []error
	items := strings.Split(text, ",")
	slices.SortFunc(items, func(a, b string) int { return cmp.Compare(weightZone(a), weightZone(b)) })
	some := false
	for i, item := range items {
		zone, number, _ := strings.Cut(item, "=")
		weight, err := parseNumber(number, maxWeight)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", item, err))
		}
		if zone == "" || len(validation.IsValidLabelValue(zone)) > 0 {
			errs = append(errs, fmt.Errorf("%q: %q is no zone", item, zone))
		}
		if i > 0 && zone == weightZone(items[i-1]) {
			errs = append(errs, fmt.Errorf("zone %s has two weights", zone))
		}
		some = some || weight > 0
	}
	if errs == nil && !some {
		errs = append(errs, errors.New("no weight is above 0"))
	}
	if errs != nil {
		var lines []string
		for _, err := range errs {
			lines = append(lines, err.Error())
		}
		return "", fmt.Errorf("annotation %s: %s", AnnotationWeights, strings.Join(lines, ", "))
	}
	return strings.Join(items, ","), nil
}

func weightZone(item string) string {
	zone, _, _ := strings.Cut(item, "=")
	return zone
}

// weights returns the weights that canonicalWeights wrote, by zone.
func (p Policy) weights() map[string]int64 {
	weights := map[string]int64{}
	for item := range strings.SplitSeq(p.Weights, ",") {
		zone, number, _ := strings.Cut(item, "=")
		if weight, err := strconv.ParseInt(number, 10, 64); err == nil && weight > 0 && weight <= maxWeight {
			weights[zone] = weight
		}
	}
	return weights
}
