package aws

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/fairlead/fairlead/cloud"
)

// Subnets and security groups are given by id, or by name, which is their tag Name. A name is looked up when a balancer is made, or is to
// have another one. The balancer's tag tagAlso says which of the two are given by name, and which of them by id all the same: by that
// it is shown with the names that what it has has by now, so that a name that has moved to something else is a difference.

const (
	tagName = "Name"
	// byName begins attributes that are as others are, with names in place of ids.
	byName = "named."
	// unplaced begins those of addresses without their subnets, for where these are given by name: an address cannot change in place, what
	// its subnet is called can.
	unplaced = "own."
	// longestTag is the most characters that the value of a tag has.
	longestTag = 256
)

// literal has the values of a filter of EC2 stand for themselves: they are patterns.
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`)

// nameable are things that can be given by name.
type nameable struct {
	// what one is called, the annotation (behind AnnotationPrefix) and the parameter that give them, and EC2's filter by id.
	what, annotation, parameter, filter string
	form                                *regexp.Regexp // of ids, which begin with prefix
	prefix                              string
	of                                  func(types.LoadBalancer) []string // ids of those that a balancer has
	look                                func(*Provider, context.Context, ...ec2types.Filter) ([]thing, error)
}

// thing is one of them.
type thing struct{ id, name, vpc string }

var (
	nameableSubnets = nameable{"subnet", "subnets", "subnets", "subnet-id", subnetForm, "subnet-", subnetsOf, (*Provider).subnetThings}
	nameableGroups  = nameable{"security group", "security-groups", "securityGroups", "group-id", groupForm, "sg-",
		func(b types.LoadBalancer) []string { return b.SecurityGroups }, (*Provider).groupThings}
)

func (p *Provider) subnetThings(ctx context.Context, filters ...ec2types.Filter) ([]thing, error) {
	found, err := p.subnets(ctx, filters...)
	all := make([]thing, 0, len(found))
	for _, one := range found {
		all = append(all, thing{aws.ToString(one.SubnetId), ec2TagMap(one.Tags)[tagName], aws.ToString(one.VpcId)})
	}
	return all, err
}

func (p *Provider) groupThings(ctx context.Context, filters ...ec2types.Filter) ([]thing, error) {
	found, err := p.securityGroups(ctx, filters...)
	all := make([]thing, 0, len(found))
	for _, one := range found {
		all = append(all, thing{aws.ToString(one.GroupId), ec2TagMap(one.Tags)[tagName], aws.ToString(one.VpcId)})
	}
	return all, err
}

// isName reports whether what is given is no id, nor meant as one.
func (n nameable) isName(given string) bool { return !strings.HasPrefix(given, n.prefix) }

// prefixOf begins the attributes that have a list: byName where there are names in it.
func (n nameable) prefixOf(list []string) string {
	if slices.ContainsFunc(list, n.isName) {
		return byName
	}
	return ""
}

// check refuses what is neither an id nor a name.
func (n nameable) check(s *settings, list []string) {
	for _, given := range list {
		switch {
		case !n.isName(given) && !n.form.MatchString(given):
			s.wrong(AnnotationPrefix+n.annotation, "%q is not the id of a %s, and a name that begins as ids do is not looked up", given, n.what)
		case given == "" || strings.Contains(given, ",") || utf8.RuneCountInString(given) > longestTag:
			s.wrong(AnnotationPrefix+n.annotation, "%q is not the name of a %s: it has no comma, and at most %d characters", given, n.what, longestTag)
		}
	}
}

// alsoNames is what a balancer is looked at for whose subnets or security groups are given by name.
func alsoNames(s *settings) string {
	var all []string
	for _, given := range []struct {
		nameable
		list []string
	}{{nameableSubnets, s.Subnets}, {nameableGroups, s.SecurityGroups}} {
		if given.prefixOf(given.list) == byName {
			all = append(append(all, given.annotation), slices.DeleteFunc(slices.Sorted(slices.Values(given.list)), given.isName)...)
		}
	}
	return strings.Join(all, keySeparator)
}

// idsOf returns the ids of what is given, in the same order. Only names are looked up, in the VPC. Its error of class UserError names all
// of them that stand for nothing, or for more than one.
func (p *Provider) idsOf(ctx context.Context, n nameable, given []string) ([]string, error) {
	var values []string
	for _, one := range given {
		if n.isName(one) {
			values = append(values, literal.Replace(one))
		}
	}
	if len(values) == 0 {
		return given, nil
	}
	vpc, err := p.vpc(ctx)
	if err != nil {
		return nil, err
	}
	found, err := n.look(p, ctx, filter("tag:"+tagName, values...))
	if err != nil {
		return nil, err
	}
	here, elsewhere := map[string][]string{}, map[string][]string{}
	for _, one := range found {
		if one.vpc == vpc {
			here[one.name] = append(here[one.name], one.id)
		} else {
			elsewhere[one.name] = append(elsewhere[one.name], one.id+" in "+one.vpc)
		}
	}
	ids, by := make([]string, 0, len(given)), map[string]string{}
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf(format+": correct the annotation %s%s, or %s in the class", append(args, AnnotationPrefix, n.annotation, n.parameter)...))
	}
	for _, one := range given {
		id, all := one, slices.Sorted(slices.Values(here[one]))
		switch others := slices.Sorted(slices.Values(elsewhere[one])); {
		case !n.isName(one):
		case len(all) > 1:
			wrong("%d %ss of %s have the name %s (%s), and one of them is to be given, by its id", len(all), n.what, vpc, one, strings.Join(all, ", "))
			continue
		case len(all) == 1:
			id = all[0]
		case len(others) > 0:
			wrong("the %s %s is not in %s, where the nodes are (%s)", n.what, one, vpc, strings.Join(others, ", "))
			continue
		default:
			wrong("no %s of %s has the name %s, which is its tag %s", n.what, vpc, one, tagName)
			continue
		}
		if other, twice := by[id]; twice {
			wrong("%s and %s are the same %s, of which one is to be left out", other, one, n.what)
		}
		by[id] = one
		ids = append(ids, id)
	}
	return ids, cloud.UserErrors(errs...)
}

// readNames reads the names of what balancers have that is given by name, by id: for all balancers together.
func (p *Provider) readNames(ctx context.Context, v view) (map[string]string, error) {
	all := map[string]string{}
	for _, n := range []nameable{nameableSubnets, nameableGroups} {
		var ids []string
		for _, b := range v.balancers {
			for _, id := range n.of(b) {
				if v.isNamed(b, n, id) {
					ids = append(ids, id)
				}
			}
		}
		slices.Sort(ids)
		for some := range slices.Chunk(slices.Compact(ids), valuesPerFilter) {
			found, err := n.look(p, ctx, filter(n.filter, some...))
			if err != nil {
				return nil, err
			}
			for _, one := range found {
				all[one.id] = one.name
			}
		}
	}
	return all, nil
}

// also is what the tag tagAlso of a balancer says.
func (v view) also(b types.LoadBalancer) []string {
	return strings.Split(v.tags[balancerARN(b)][tagAlso], keySeparator)
}

// isNamed reports whether one of what a balancer has is given by name, if it is given.
func (v view) isNamed(b types.LoadBalancer, n nameable, id string) bool {
	also := v.also(b)
	return slices.Contains(also, n.annotation) && !slices.Contains(also, id)
}

// label returns what something that a balancer has is given by: its name, or, as what has none, its id.
func (v view) label(b types.LoadBalancer, n nameable) func(id string) string {
	return func(id string) string {
		if !v.isNamed(b, n, id) {
			return id
		}
		return cmp.Or(v.names[id], id)
	}
}

// shownByName writes into a balancer's attributes what is given by name.
func (v view) shownByName(b types.LoadBalancer, into map[string]string) {
	also := v.also(b)
	if slices.Contains(also, nameableSubnets.annotation) {
		into[byName+subnets], into[byName+addresses], into[byName+addressesFour] = placed(mappingsOf(b), v.label(b, nameableSubnets))
	}
	if slices.Contains(also, nameableGroups.annotation) {
		into[byName+securityGroups] = v.groupLabels(b)
	}
}

// groupLabels are what all security groups of a balancer are given by.
func (v view) groupLabels(b types.LoadBalancer) string {
	var all []string
	for _, id := range b.SecurityGroups {
		all = append(all, v.label(b, nameableGroups)(id))
	}
	return cloud.List(all)
}
