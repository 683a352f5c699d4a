package azuretest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v9"
)

// ask sends one request as a client would, and returns the status, the text and the headers of the answer.
func ask(c *Cloud, method, path, body string, headers ...string) (int, string, http.Header) {
	request := httptest.NewRequest(method, "https://management.azure.com"+path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer a")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	recorder := httptest.NewRecorder()
	c.ServeHTTP(recorder, request)
	return recorder.Code, recorder.Body.String(), recorder.Header()
}

func at(kind, name string) string {
	return path{subscription: Subscription, group: ResourceGroup, kind: kind, name: name}.id() + "?api-version=2025-05-01"
}

const (
	anAddress = `{"location":"westeurope","sku":{"name":"Standard"},"properties":{"publicIPAllocationMethod":"Static"}}`
	aBalancer = `{"location":"westeurope","sku":{"name":"Standard"},"properties":%s}`
)

func aRule(name, properties string) string {
	return fmt.Sprintf(`{"frontendIPConfigurations":[{"name":"f","properties":{"subnet":{"id":"/a/subnets/b"}}}],"backendAddressPools":[{"name":"p"}],
		"loadBalancingRules":[{"name":"%s","properties":{"frontendIPConfiguration":{"id":"%s/frontendIPConfigurations/f"},
		"backendAddressPool":{"id":"%[2]s/backendAddressPools/p"},%s}}]}`, name, path{subscription: Subscription, group: ResourceGroup, kind: "loadBalancers", name: "lb"}.id(), properties)
}

// private is a balancer's only frontend: with an address of the subnet that it says, or any.
func private(name, subnet, address string) string {
	more := ""
	if address != "" {
		more = fmt.Sprintf(`,"privateIPAllocationMethod":"Static","privateIPAddress":"%s"`, address)
	}
	return fmt.Sprintf(`{"frontendIPConfigurations":[{"name":"%s","properties":{"subnet":{"id":"/a/subnets/%s"}%s}}]}`, name, subnet, more)
}

// zonal is private with any address, in a zone.
func zonal(name, zone string) string {
	return strings.Replace(private(name, "b", ""), `"properties"`, fmt.Sprintf(`"zones":["%s"],"properties"`, zone), 1)
}

func aSecurityRule(name string, priority int, more string) string {
	return fmt.Sprintf(`{"name":"%s","properties":{"access":"Allow","direction":"Inbound","protocol":"Tcp","priority":%d,"sourcePortRange":"*",
		"destinationAddressPrefix":"*","destinationPortRange":"80"%s}}`, name, priority, more)
}

// TestRefusals: what Azure refuses is refused, with its code.
func TestRefusals(t *testing.T) {
	group := func(rules ...string) string {
		return `{"location":"westeurope","properties":{"securityRules":[` + strings.Join(rules, ",") + `]}}`
	}
	tags := make([]string, 51)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"t%d":"a"`, i)
	}
	anybody := `,"sourceAddressPrefix":"*"`
	for name, tc := range map[string]struct{ kind, resource, body, code string }{
		"Unknown kind":       {"moons", "a", "{}", "InvalidResourceType"},
		"Unknown member":     {"publicIPAddresses", "a", strings.Replace(anAddress, `"location"`, `"colour":"blue","location"`, 1), "InvalidRequestFormat"},
		"No JSON":            {"publicIPAddresses", "a", "moon", "InvalidRequestContent"},
		"Name":               {"publicIPAddresses", strings.Repeat("a", 81), anAddress, "InvalidResourceName"},
		"Location":           {"publicIPAddresses", "a", `{}`, "LocationRequired"},
		"Basic":              {"publicIPAddresses", "a", `{"location":"westeurope"}`, "IPv4BasicSkuPublicIpCountLimitReached"},
		"Dynamic":            {"publicIPAddresses", "a", `{"location":"westeurope","sku":{"name":"Standard"}}`, "PublicIPAndSKUAllocationMethodMismatch"},
		"Tags":               {"publicIPAddresses", "a", strings.Replace(anAddress, `"location"`, `"tags":{`+strings.Join(tags, ",")+`},"location"`, 1), "InvalidTags"},
		"Frontend":           {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"frontendIPConfigurations":[{"name":"f","properties":{}}]}`), "InvalidFrontendIPConfiguration"},
		"Address is missing": {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"frontendIPConfigurations":[{"name":"f","properties":{"publicIPAddress":{"id":"/a"}}}]}`), "InvalidResourceReference"},
		"Floating":           {"loadBalancers", "lb", fmt.Sprintf(aBalancer, aRule("r", `"protocol":"Tcp","frontendPort":80,"backendPort":81,"enableFloatingIP":true`)), "FloatingIPNeedsSamePort"},
		"Timeout":            {"loadBalancers", "lb", fmt.Sprintf(aBalancer, aRule("r", `"protocol":"Tcp","frontendPort":80,"backendPort":80,"idleTimeoutInMinutes":101`)), "LoadBalancingRuleIdleTimeoutIsOutOfRange"},
		"Probe":              {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"probes":[{"name":"p","properties":{"protocol":"Http","port":80}}]}`), "ProbeRequestPathRequired"},
		"Interval":           {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"probes":[{"name":"p","properties":{"protocol":"Tcp","port":80,"intervalInSeconds":4}}]}`), "ProbeIntervalTooShort"},
		"Pool":               {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"backendAddressPools":[{"name":"p","properties":{"loadBalancerBackendAddresses":[{"name":"a","properties":{"ipAddress":"10.0.0.1"}}]}}]}`), "VirtualNetworkRequired"},
		"Priority twice":     {"networkSecurityGroups", "g", group(aSecurityRule("a", 500, anybody), aSecurityRule("b", 500, anybody)), "SecurityRuleConflict"},
		"Priority":           {"networkSecurityGroups", "g", group(aSecurityRule("a", 4097, anybody)), "SecurityRuleInvalidPriority"},
		"Both sources":       {"networkSecurityGroups", "g", group(aSecurityRule("a", 500, anybody+`,"sourceAddressPrefixes":["10.0.0.0/8"]`)), "SecurityRuleParameterConflict"},
		"Tags together":      {"networkSecurityGroups", "g", group(aSecurityRule("a", 500, `,"sourceAddressPrefixes":["Internet","AzureCloud"]`)), "SecurityRuleParameterContainsUnsupportedValue"},
		"Group":              {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"frontendIPConfigurations":[{"name":"f","properties":{"publicIPAddress":{"id":"`+path{subscription: Subscription, group: "other", kind: "publicIPAddresses", name: "a"}.id()+`"}}}]}`), "LinkedAuthorizationFailed"},
		"NAT rule":           {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"inboundNatRules":[{"name":"n","properties":{"frontendIPConfiguration":{"id":"/a"}}}]}`), "InvalidResourceReference"},
		"Outbound rule":      {"loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"outboundRules":[{"name":"o","properties":{"backendAddressPool":{"id":"/a"}}}]}`), "InvalidResourceReference"},
		"IPv6 alone":         {"loadBalancers", "lb", fmt.Sprintf(aBalancer, strings.Replace(private("f", "b", ""), `"subnet"`, `"privateIPAddressVersion":"IPv6","subnet"`, 1)), "AtleastOneIpV4RequiredForIpV6LbFrontendIpConfiguration"},
		"Overlap":            {"networkSecurityGroups", "g", group(aSecurityRule("a", 500, `,"sourceAddressPrefixes":["10.0.0.0/8","10.1.0.0/16"]`)), "OverlappingSubnetsNotPermittedInSecurityRule"},
		"Outbound SNAT": {"loadBalancers", "lb", fmt.Sprintf(aBalancer, strings.TrimSuffix(aRule("r", `"protocol":"Tcp","frontendPort":80,"backendPort":80`), "}")+
			fmt.Sprintf(`,"outboundRules":[{"name":"o","properties":{"protocol":"All","frontendIPConfigurations":[{"id":"%s/frontendIPConfigurations/f"}],"backendAddressPool":{"id":"%[1]s/backendAddressPools/p"}}}]}`,
				path{subscription: Subscription, group: ResourceGroup, kind: "loadBalancers", name: "lb"}.id())), "LoadBalancingRuleMustDisableSNATSinceSameFrontendIPConfigurationIsReferencedByOutboundRule"},
		"Mixed versions": {"networkSecurityGroups", "g", group(aSecurityRule("a", 500, `,"sourceAddressPrefixes":["10.0.0.0/8","fd00::/8"]`)), "SecurityRuleMixedIPVersions"},
	} {
		status, text, _ := ask(New(Options{}), http.MethodPut, at(tc.kind, tc.resource), tc.body)
		if status < http.StatusBadRequest || !strings.Contains(text, `"code":"`+tc.code+`"`) {
			t.Errorf("%s: the answer is %d %s, want %s", name, status, text, tc.code)
		}
	}
}

// TestETags: a write holds only for what was read.
func TestETags(t *testing.T) {
	c := New(Options{})
	place := at("publicIPAddresses", "a")
	if status, text, _ := ask(c, http.MethodPut, place, anAddress, "If-None-Match", "*"); status != http.StatusCreated {
		t.Fatal(status, text)
	}
	_, text, _ := ask(c, http.MethodGet, place, "")
	_, rest, _ := strings.Cut(text, `"etag":"`)
	etag, _, _ := strings.Cut(rest, `",`)
	etag = strings.ReplaceAll(etag, `\"`, `"`)
	for _, step := range []struct {
		method string
		header []string
		want   int
	}{
		{http.MethodPut, []string{"If-None-Match", "*"}, http.StatusPreconditionFailed},
		{http.MethodPut, []string{"If-Match", `W/"other"`}, http.StatusPreconditionFailed},
		{http.MethodPut, []string{"If-Match", etag}, http.StatusOK},
		{http.MethodPut, []string{"If-Match", etag}, http.StatusPreconditionFailed}, // it has another one now
		{http.MethodDelete, []string{"If-Match", etag}, http.StatusPreconditionFailed},
		{http.MethodDelete, nil, http.StatusOK},
		{http.MethodDelete, nil, http.StatusNoContent},
		{http.MethodGet, nil, http.StatusNotFound},
	} {
		if status, text, _ := ask(c, step.method, place, anAddress, step.header...); status != step.want {
			t.Errorf("%s with %q is answered with %d %s, want %d", step.method, step.header, status, text, step.want)
		}
	}
}

// TestOperations: what takes time is in progress, refuses others, and ends as it is told to.
func TestOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Options{Slow: 5 * time.Second})
		c.Inject(Fault{Method: http.MethodPut, Late: true, Err: bad("QuotaExceeded", "no room")})
		place := at("publicIPAddresses", "a")
		status, text, header := ask(c, http.MethodPut, place, anAddress)
		if status != http.StatusCreated || !strings.Contains(text, `"provisioningState":"Updating"`) {
			t.Fatal(status, text)
		}
		operation, _ := strings.CutPrefix(header.Get("Azure-AsyncOperation"), "https://management.azure.com")
		if _, text, _ := ask(c, http.MethodGet, operation, ""); !strings.Contains(text, "InProgress") {
			t.Errorf("the operation is %s", text)
		}
		if status, text, _ := ask(c, http.MethodPut, place, anAddress); status != http.StatusConflict {
			t.Errorf("a second write is answered with %d %s", status, text)
		}
		time.Sleep(5 * time.Second)
		if _, text, _ := ask(c, http.MethodGet, operation, ""); !strings.Contains(text, "Failed") || !strings.Contains(text, "no room") {
			t.Errorf("the operation is %s", text)
		}
		if _, text, _ := ask(c, http.MethodGet, place, ""); !strings.Contains(text, `"provisioningState":"Failed"`) {
			t.Errorf("what failed is %s", text)
		}
		if status, text, _ := ask(c, http.MethodDelete, place, ""); status != http.StatusAccepted {
			t.Errorf("its deletion is answered with %d %s", status, text)
		}
		time.Sleep(5 * time.Second)
		if status, _, _ := ask(c, http.MethodGet, place, ""); status != http.StatusNotFound {
			t.Errorf("deleted, it is answered with %d", status)
		}
	})
}

// TestInUse: an address that a balancer has cannot be deleted, nor be had by another.
func TestInUse(t *testing.T) {
	c := New(Options{})
	if status, text, _ := ask(c, http.MethodPut, at("publicIPAddresses", "a"), anAddress); status != http.StatusCreated {
		t.Fatal(status, text)
	}
	id := path{subscription: Subscription, group: ResourceGroup, kind: "publicIPAddresses", name: "a"}.id()
	lb := armnetwork.LoadBalancer{Location: new(Location), SKU: &armnetwork.LoadBalancerSKU{Name: new(armnetwork.LoadBalancerSKUNameStandard)},
		Properties: &armnetwork.LoadBalancerPropertiesFormat{FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{Name: new("f"),
			Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{PublicIPAddress: &armnetwork.PublicIPAddress{ID: new(id)}}}}}}
	if err := c.Put("loadBalancers", "one", lb); err != nil {
		t.Fatal(err)
	}
	if err := c.Put("loadBalancers", "two", lb); err == nil || !strings.Contains(err.Error(), "PublicIPAddressInUse") {
		t.Errorf("another balancer has the address, too: %v", err)
	}
	if status, text, _ := ask(c, http.MethodDelete, at("publicIPAddresses", "a"), ""); !strings.Contains(text, "PublicIPAddressCannotBeDeleted") {
		t.Errorf("the deletion of an address in use is answered with %d %s", status, text)
	}
	if status, text, _ := ask(c, http.MethodPut, at("loadBalancers", "one"), fmt.Sprintf(aBalancer, "{}")); status != http.StatusOK {
		t.Fatal(status, text)
	}
	if status, text, _ := ask(c, http.MethodDelete, at("publicIPAddresses", "a"), ""); status != http.StatusOK {
		t.Errorf("the deletion of one that is free is answered with %d %s", status, text)
	}
}

// TestLimits: what there is no room for, or what somebody has, is refused, with its code.
func TestLimits(t *testing.T) {
	twice := strings.Replace(aRule("a", `"protocol":"Tcp","frontendPort":80,"backendPort":80`), `"loadBalancingRules":[`,
		`"loadBalancingRules":[`+strings.TrimSuffix(strings.SplitAfterN(aRule("b", `"protocol":"Tcp","frontendPort":80,"backendPort":80`), `"loadBalancingRules":[`, 2)[1], "]}")+",", 1)
	labelled := strings.Replace(anAddress, `"publicIPAllocationMethod"`, `"dnsSettings":{"domainNameLabel":"cart"},"publicIPAllocationMethod"`, 1)
	rules := `{"location":"westeurope","properties":{"securityRules":[` + aSecurityRule("a", 500, `,"sourceAddressPrefix":"*"`) + `,` + aSecurityRule("b", 501, `,"sourceAddressPrefix":"*"`) + `]}}`
	link := func(name string) string {
		return fmt.Sprintf(`{"location":"westeurope","properties":{"loadBalancerFrontendIpConfigurations":[{"id":"%s/frontendIPConfigurations/f"}],
			"ipConfigurations":[{"name":"%s","properties":{"subnet":{"id":"/a/subnets/b"},"privateIPAllocationMethod":"Dynamic"}}]}}`,
			path{subscription: Subscription, group: ResourceGroup, kind: "loadBalancers", name: "lb"}.id(), name)
	}
	for name, tc := range map[string]struct {
		options Options
		// before is put first, kind, name and body, and is taken.
		before               [][3]string
		kind, resource, body string
		code                 string
	}{
		"Same port":       {Options{}, nil, "loadBalancers", "lb", fmt.Sprintf(aBalancer, twice), "RulesUseSameFrontendPortAndProtocol"},
		"Same name":       {Options{}, nil, "loadBalancers", "lb", fmt.Sprintf(aBalancer, `{"backendAddressPools":[{"name":"p"},{"name":"P"}]}`), "DuplicateResourceName"},
		"Rules":           {Options{MaxRules: 1}, nil, "loadBalancers", "lb", fmt.Sprintf(aBalancer, twice), "LoadBalancingRulesCountLimitReached"},
		"Security rules":  {Options{MaxSecurityRules: 1}, nil, "networkSecurityGroups", "g", rules, "SecurityRuleCountLimitReached"},
		"Addresses":       {Options{MaxPublicIPs: 1}, [][3]string{{"publicIPAddresses", "a", anAddress}}, "publicIPAddresses", "b", anAddress, "IPv4StandardSkuPublicIpCountLimitReached"},
		"Subnet":          {Options{}, nil, "loadBalancers", "lb", fmt.Sprintf(aBalancer, private("f", "full", "")), "SubnetIsFull"},
		"Private":         {Options{}, [][3]string{{"loadBalancers", "a", fmt.Sprintf(aBalancer, private("f", "b", "10.224.0.9"))}}, "loadBalancers", "b", fmt.Sprintf(aBalancer, private("f", "b", "10.224.0.9")), "PrivateIPAddressIsAllocated"},
		"Private twice":   {Options{}, nil, "loadBalancers", "b", fmt.Sprintf(aBalancer, strings.TrimSuffix(private("f", "b", "10.224.0.9"), "]}")+","+strings.TrimPrefix(private("g", "b", "10.224.0.9"), `{"frontendIPConfigurations":[`)), "MultipleIpConfigsRequestSamePrivateIpAddress"},
		"Zone":            {Options{}, nil, "loadBalancers", "lb", fmt.Sprintf(aBalancer, zonal("f", "4")), "AvailabilityZoneNotSupported"},
		"Public zones":    {Options{}, nil, "loadBalancers", "lb", fmt.Sprintf(aBalancer, strings.Replace(zonal("f", "1"), `"subnet"`, `"publicIPAddress"`, 1)), "LoadBalancerFrontendIPConfigCannotHaveZoneWhenReferencingPublicIPAddress"},
		"Zones added":     {Options{}, [][3]string{{"loadBalancers", "lb", fmt.Sprintf(aBalancer, private("f", "b", ""))}}, "loadBalancers", "lb", fmt.Sprintf(aBalancer, zonal("f", "1")), "ResourceAvailabilityZonesCannotBeModified"},
		"Zones removed":   {Options{}, [][3]string{{"loadBalancers", "lb", fmt.Sprintf(aBalancer, zonal("f", "1"))}}, "loadBalancers", "lb", fmt.Sprintf(aBalancer, private("f", "b", "")), "ResourceAvailabilityZonesCannotBeModified"},
		"Address's zones": {Options{}, [][3]string{{"publicIPAddresses", "a", anAddress}}, "publicIPAddresses", "a", strings.Replace(anAddress, "{", `{"zones":["1"],`, 1), "ResourceAvailabilityZonesCannotBeModified"},
		"Label":           {Options{}, [][3]string{{"publicIPAddresses", "a", labelled}}, "publicIPAddresses", "b", labelled, "DnsRecordInUse"},
		"Link": {Options{}, [][3]string{{"loadBalancers", "lb", fmt.Sprintf(aBalancer, aRule("a", `"protocol":"Tcp","frontendPort":80,"backendPort":80`))}, {"privateLinkServices", "a", link("a")}},
			"privateLinkServices", "b", link("b"), "FrontendIPConfigInUseByPrivateLinkService"},
		"Linked balancer": {Options{}, [][3]string{{"loadBalancers", "lb", fmt.Sprintf(aBalancer, aRule("a", `"protocol":"Tcp","frontendPort":80,"backendPort":80`))}, {"privateLinkServices", "a", link("a")}},
			"loadBalancers", "lb", fmt.Sprintf(aBalancer, "{}"), "FrontendIPConfigInUseByPrivateLinkService"},
		"Link's subnet": {Options{}, [][3]string{{"loadBalancers", "lb", fmt.Sprintf(aBalancer, aRule("a", `"protocol":"Tcp","frontendPort":80,"backendPort":80`))}},
			"privateLinkServices", "a", strings.Replace(link("a"), "/a/subnets/b", "/a/subnets/policed", 1), "PrivateLinkServiceCannotBeCreatedInSubnetThatHasNetworkPoliciesEnabled"},
	} {
		c := New(tc.options)
		for _, b := range tc.before {
			if status, text, _ := ask(c, http.MethodPut, at(b[0], b[1]), b[2]); status != http.StatusCreated {
				t.Fatalf("%s: before it there is %d %s", name, status, text)
			}
		}
		status, text, _ := ask(c, http.MethodPut, at(tc.kind, tc.resource), tc.body)
		if status < http.StatusBadRequest || !strings.Contains(text, `"code":"`+tc.code+`"`) {
			t.Errorf("%s: the answer is %d %s, want %s", name, status, text, tc.code)
		}
	}
}

// TestCapitals: ids are told in another case than they were written in, and found in any.
func TestCapitals(t *testing.T) {
	c := New(Options{Capitals: true})
	if status, text, _ := ask(c, http.MethodPut, at("publicIPAddresses", "a"), anAddress); status != http.StatusCreated || !strings.Contains(text, "/resourceGroups/CLUSTER/") {
		t.Errorf("made, it is %d %s", status, text)
	}
	if status, text, _ := ask(c, http.MethodGet, at("publicIPAddresses", "A"), ""); status != http.StatusOK {
		t.Errorf("asked for in another case, it is %d %s", status, text)
	}
}
