package awstest

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// maxFilterValues are the most of one call.
const maxFilterValues = 200

// passes reports whether something passes filters: of its fields by name, and its tags. One that is not known is refused.
func passes(filters []ec2types.Filter, fields, tags map[string]string) (bool, error) {
	values := 0
	for _, f := range filters {
		if values += len(f.Values); values > maxFilterValues {
			return false, refuse("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
		}
	}
	for _, f := range filters {
		name := aws.ToString(f.Name)
		value, known := fields[name]
		if key, ok := strings.CutPrefix(name, "tag:"); ok {
			value, known = tags[key], true
			if _, has := tags[key]; !has {
				return false, nil
			}
		}
		if name == "tag-key" {
			if !slices.ContainsFunc(sortedKeys(tags), func(key string) bool { return matches(f.Values, key) }) {
				return false, nil
			}
			continue
		}
		if !known {
			return false, refuse("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		if !matches(f.Values, value) {
			return false, nil
		}
	}
	return true, nil
}

// matches reports whether a value is one of a filter's. In these an asterisk is any text and a question mark any character, unless there
// is a backslash before it.
func matches(patterns []string, value string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if !strings.ContainsAny(pattern, `*?\`) {
			return pattern == value
		}
		return like([]rune(pattern), []rune(value))
	})
}

func like(pattern, value []rune) bool {
	for ; len(pattern) > 0; pattern, value = pattern[1:], value[1:] {
		switch {
		case pattern[0] == '*':
			return like(pattern[1:], value) || len(value) > 0 && like(pattern, value[1:])
		case len(value) == 0:
			return false
		case pattern[0] == '?':
			continue
		case pattern[0] == '\\' && len(pattern) > 1:
			pattern = pattern[1:]
		}
		if pattern[0] != value[0] {
			return false
		}
	}
	return len(value) == 0
}

// letIn takes the filter by groups that rules let in off others, and reports whether a group passes it.
func letIn(filters []ec2types.Filter, g *securityGroup) (others []ec2types.Filter, passes bool) {
	passes = true
	for _, f := range filters {
		if aws.ToString(f.Name) != "ip-permission.group-id" {
			others = append(others, f)
			continue
		}
		found := false
		for r := range g.rules {
			found = found || matches(f.Values, r.source)
		}
		passes = passes && found
	}
	return others, passes
}
