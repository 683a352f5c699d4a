package awstest

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// passes reports whether something passes filters: of its fields by name, and its tags. One that is not known is refused.
func passes(filters []ec2types.Filter, fields, tags map[string]string) (bool, error) {
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
			if !slices.ContainsFunc(f.Values, func(key string) bool { _, has := tags[key]; return has }) {
				return false, nil
			}
			continue
		}
		if !known {
			return false, refuse("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		if !slices.Contains(f.Values, value) && !slices.Contains(f.Values, "*") {
			return false, nil
		}
	}
	return true, nil
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
			found = found || slices.Contains(f.Values, r.source)
		}
		passes = passes && found
	}
	return others, passes
}
