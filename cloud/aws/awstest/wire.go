package awstest

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// dialect is how one of the two services writes its types: how a list is written, and which members have another name on
// the wire than in the SDK's types.
type dialect struct {
	// listIn is what stands between the name of a list and the number of an item in a request; listOut the element of an
	// item in an answer.
	listIn, listOut string
	// in and out are names by type and member, or by member alone where that is the same everywhere.
	in, out map[string]string
	// name is what becomes of a member's name in an answer that out does not name.
	name func(string) string
	// known are the members of types that were seen already: a test sends hundreds of thousands of requests.
	known sync.Map
}

// member is one of a type of the SDK's, with its names on the wire.
type member struct {
	index         int
	name, in, out string
}

// members are those of a type that have a place on the wire.
func (d *dialect) members(t reflect.Type) []member {
	if known, ok := d.known.Load(t); ok {
		return known.([]member)
	}
	var all []member
	for i := range t.NumField() {
		field := t.Field(i)
		if !field.IsExported() || field.Name == "ResultMetadata" {
			continue
		}
		m := member{index: i, name: field.Name, in: field.Name, out: d.name(field.Name)}
		if name, ok := renamed(d.in, t, field.Name); ok {
			m.in = name
		}
		if name, ok := renamed(d.out, t, field.Name); ok {
			m.out = name
		}
		all = append(all, m)
	}
	d.known.Store(t, all)
	return all
}

var balancing = dialect{listIn: ".member.", listOut: "member", name: func(s string) string { return s }}

var compute = dialect{
	listIn: ".", listOut: "item",
	in: map[string]string{
		"SubnetIds": "SubnetId", "GroupIds": "GroupId", "GroupNames": "GroupName", "Filters": "Filter", "Filter.Values": "Value",
		"TagSpecifications": "TagSpecification", "TagSpecification.Tags": "Tag", "InstanceIds": "InstanceId",
		"NetworkInterfaceIds": "NetworkInterfaceId", "AllocationIds": "AllocationId", "PublicIps": "PublicIp",
		"SecurityGroupRuleIds": "SecurityGroupRuleId", "CreateSecurityGroupInput.Description": "GroupDescription",
		"IpPermission.UserIdGroupPairs": "Groups", "Resources": "ResourceId", "CreateTagsInput.Tags": "Tag", "DeleteTagsInput.Tags": "Tag",
		"ZoneNames": "ZoneName", "RouteTableIds": "RouteTableId",
	},
	out: map[string]string{
		"Subnets": "subnetSet", "Tags": "tagSet", "SecurityGroups": "securityGroupInfo", "SecurityGroup.Description": "groupDescription",
		"IpPermission.UserIdGroupPairs": "groups", "SecurityGroupRules": "securityGroupRuleSet", "NetworkInterfaces": "networkInterfaceSet",
		"NetworkInterface.Groups": "groupSet", "AssociatedSubnets": "associatedSubnetSet", "Ipv4Prefixes": "ipv4PrefixSet", "Ipv6Prefixes": "ipv6PrefixSet",
		"Ipv6Addresses": "ipv6AddressesSet", "PrivateIpAddresses": "privateIpAddressesSet", "Reservations": "reservationSet", "Reservation.Instances": "instancesSet",
		"Instance.SecurityGroups": "groupSet", "Instance.State": "instanceState", "Addresses": "addressesSet", "AvailabilityZones": "availabilityZoneInfo",
		"RouteTables": "routeTableSet", "RouteTable.Routes": "routeSet", "RouteTable.Associations": "associationSet",
		"RevokedSecurityGroupRules": "revokedSecurityGroupRuleSet", "UnknownIpPermissions": "unknownIpPermissionSet", "AvailabilityZone.State": "zoneState",
		"BlockDeviceMappings": "blockDeviceMapping", "ElasticGpuAssociations": "elasticGpuAssociationSet", "Licenses": "licenseSet",
		"ElasticInferenceAcceleratorAssociations": "elasticInferenceAcceleratorAssociationSet", "Instance.NetworkInterfaces": "networkInterfaceSet",
		"PublicDnsName.Instance": "dnsName", "Instance.PublicDnsName": "dnsName", "Instance.PublicIpAddress": "ipAddress", "SecondaryInterfaces": "secondaryInterfaceSet",
		"Instance.StateTransitionReason": "reason", "PropagatingVgws": "propagatingVgwSet", "Messages": "messageSet", "Reservation.Groups": "groupSet",
		"Geography": "geographySet", "SubGeography": "subGeographySet",
	},
	name: func(s string) string { return strings.ToLower(s[:1]) + s[1:] },
}

func renamed(names map[string]string, t reflect.Type, field string) (string, bool) {
	if name, ok := names[t.Name()+"."+field]; ok {
		return name, true
	}
	name, ok := names[field]
	return name, ok
}

// decode reads a request into one of the SDK's input types. What the type does not have is an error that names it.
func (d *dialect) decode(form url.Values, into any) error {
	used := map[string]bool{"Action": true, "Version": true}
	if err := d.read(form, "", reflect.ValueOf(into).Elem(), used); err != nil {
		return err
	}
	var unknown []string
	for key := range form {
		if !used[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("unknown parameter %s", strings.Join(unknown, ", "))
	}
	return nil
}

func (d *dialect) read(form url.Values, prefix string, v reflect.Value, used map[string]bool) error {
	for _, m := range d.members(v.Type()) {
		if err := d.readValue(form, prefix+m.in, v.Field(m.index), used); err != nil {
			return err
		}
	}
	return nil
}

func (d *dialect) readValue(form url.Values, name string, v reflect.Value, used map[string]bool) error {
	switch v.Kind() {
	case reflect.Pointer:
		if !has(form, name, v.Type().Elem()) {
			return nil
		}
		made := reflect.New(v.Type().Elem())
		v.Set(made)
		return d.readValue(form, name, made.Elem(), used)
	case reflect.Struct:
		return d.read(form, name+".", v, used)
	case reflect.Slice:
		used[name] = true // a list without items may be given as an empty string
		for n := 1; has(form, name+d.listIn+strconv.Itoa(n), v.Type().Elem()); n++ {
			item := reflect.New(v.Type().Elem()).Elem()
			if err := d.readValue(form, name+d.listIn+strconv.Itoa(n), item, used); err != nil {
				return err
			}
			v.Set(reflect.Append(v, item))
		}
		return nil
	}
	if !form.Has(name) {
		return nil
	}
	used[name] = true
	return scalar(form.Get(name), name, v)
}

func scalar(text, name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int32, reflect.Int64:
		number, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("parameter %s: %q is not a number", name, text)
		}
		v.SetInt(number)
	case reflect.Bool:
		yes, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("parameter %s: %q is not a boolean", name, text)
		}
		v.SetBool(yes)
	default:
		return fmt.Errorf("parameter %s is not known here", name)
	}
	return nil
}

// has reports whether the form has the parameter, or, where its type has something below it, that.
func has(form url.Values, name string, t reflect.Type) bool {
	if form.Has(name) || t.Kind() != reflect.Struct && t.Kind() != reflect.Slice {
		return form.Has(name)
	}
	for key := range form {
		if rest, ok := strings.CutPrefix(key, name); ok && strings.HasPrefix(rest, ".") {
			return true
		}
	}
	return false
}

// encode writes one of the SDK's output types as the members of an answer. What is nil is left out.
func (d *dialect) encode(value any) []byte {
	var b bytes.Buffer
	d.write(&b, reflect.ValueOf(value))
	return b.Bytes()
}

func (d *dialect) write(b *bytes.Buffer, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		d.write(b, v.Elem())
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			b.WriteString(at.UTC().Format("2006-01-02T15:04:05.000Z"))
			return
		}
		for _, m := range d.members(v.Type()) {
			if field := v.Field(m.index); !empty(field) {
				element(b, m.out, func() { d.write(b, field) })
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			element(b, d.listOut, func() { d.write(b, v.Index(i)) })
		}
	case reflect.String:
		_ = xml.EscapeText(b, []byte(v.String())) // a buffer does not fail
	default:
		_, _ = fmt.Fprint(b, v.Interface()) // a number or a boolean
	}
}

func empty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return v.IsNil()
	case reflect.String:
		return v.Len() == 0
	}
	return false
}

func element(b *bytes.Buffer, name string, body func()) {
	b.WriteByte('<')
	b.WriteString(name)
	b.WriteByte('>')
	body()
	b.WriteString("</")
	b.WriteString(name)
	b.WriteByte('>')
}
