package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
)

// waitFor is how long anything may take that takes well under a second on a quiet machine: machines stand still for a
// while too.
const waitFor = 2 * time.Minute

// patientWebhook is the longest time, in seconds, that the API server may be made to wait for a webhook.
const patientWebhook = int32(30)

// TestServices runs the manager as config/ installs it, with the fake cloud for Services without a class, and applies
// the samples.
func TestServices(t *testing.T) {
	needsAPIServer(t)
	withNodes(t)
	m := startManager(t, "--cloud-provider=fake", "--config", configuration(t, "endpointSelector: {allowedCIDRs: [10.20.0.0/16]}"))
	for name, test := range map[string]func(*testing.T){
		"ClusterIP":           testClusterIP,
		"Ports":               testPorts,
		"Headless":            testHeadless,
		"ExternalName":        testExternalName,
		"DualStack":           testDualStack,
		"EndpointSelector":    testEndpointSelector,
		"Mirrored":            testMirrored,
		"NodePortPool":        testNodePortPool,
		"TrafficDistribution": testTrafficDistribution,
		"UnresolvablePort":    testUnresolvablePort,
		"LoadBalancer":        testLoadBalancer,
		"LoadBalancerClass":   testLoadBalancerClass,
		"Plan":                testPlan,
	} {
		t.Run(name, test)
	}
	if n := strings.Count(m.log.String(), "v1 Endpoints is deprecated"); n > 1 {
		t.Errorf("the API server's warning about Endpoints is logged %d times, want once at most", n)
	}
}

// testClusterIP: the endpoints of nginx-service, in full, in slices and in the Endpoints object, as Pods come and go.
func testClusterIP(t *testing.T) {
	a := applySample(t, "nginx-clusterip.yaml")
	slices := ready(t, a, a.pods...)
	if len(slices) != 1 {
		t.Fatalf("%d slices, want one", len(slices))
	}
	slice := slices[0]
	if got := slice.Labels[discoveryv1.LabelManagedBy]; got != "endpointslice-controller.k8s.io" {
		t.Errorf("managed by %q: upstream would not know the slice when it is handed back", got)
	}
	if owner := metav1.GetControllerOf(&slice); owner == nil || owner.UID != a.service.UID {
		t.Errorf("owner is %v, want the Service: the slice would outlive it", owner)
	}
	wantPorts := []discoveryv1.EndpointPort{{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(80))}}
	if diff := cmp.Diff(wantPorts, slice.Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	for _, pod := range a.pods {
		want := discoveryv1.Endpoint{
			Addresses:  []string{pod.Status.PodIP},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true), Terminating: new(false)},
			NodeName:   &pod.Spec.NodeName,
			Zone:       new(nodeZones[pod.Spec.NodeName]),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}
		if diff := cmp.Diff(want, endpointAt(slice, pod.Status.PodIP)); diff != "" {
			t.Errorf("endpoint of %s (-want +got):\n%s", pod.Name, diff)
		}
	}
	sameInEndpoints(t, a, a.pods, nil)

	setReady(t, a.pods[0], corev1.ConditionFalse)
	ready(t, a, a.pods[1:]...)
	sameInEndpoints(t, a, a.pods[1:], a.pods[:1])

	remove(t, a.pods[1])
	ready(t, a, a.pods[2:]...)
	sameInEndpoints(t, a, a.pods[2:], a.pods[:1])
}

func endpointAt(slice discoveryv1.EndpointSlice, address string) discoveryv1.Endpoint {
	for _, endpoint := range slice.Endpoints {
		if slices.Contains(endpoint.Addresses, address) {
			return endpoint
		}
	}
	return discoveryv1.Endpoint{}
}

// sameInEndpoints waits until the Endpoints object holds the ready and the other Pods.
func sameInEndpoints(t *testing.T, a *applied, readyPods, notReady []*corev1.Pod) {
	t.Helper()
	describe := func(ip, node string, ref *corev1.ObjectReference) string {
		return fmt.Sprint(ip, " ", node, " ", ref.Name, " ", ref.UID)
	}
	list := func(pods []*corev1.Pod) []string {
		texts := []string{}
		for _, pod := range pods {
			texts = append(texts, describe(pod.Status.PodIP, pod.Spec.NodeName, &corev1.ObjectReference{Name: pod.Name, UID: pod.UID}))
		}
		slices.Sort(texts)
		return texts
	}
	want := [][]string{list(readyPods), list(notReady)}
	eventually(t, waitFor, "the same in Endpoints", func() error {
		object := &corev1.Endpoints{}
		if err := suite.admin.Get(t.Context(), client.ObjectKeyFromObject(a.service), object); err != nil {
			return err
		}
		got := [][]string{{}, {}}
		for _, subset := range object.Subsets {
			for i, addresses := range [][]corev1.EndpointAddress{subset.Addresses, subset.NotReadyAddresses} {
				for _, address := range addresses {
					got[i] = append(got[i], describe(address.IP, *address.NodeName, address.TargetRef))
				}
				slices.Sort(got[i])
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// testPorts: every port of a Service is in its slices, by name and with the Pods' number, in one slice.
func testPorts(t *testing.T) {
	for file, want := range map[string]map[string]int32{
		"internal-api.yaml":       {"http": 8080, "metrics": 9090},
		"multi-port-service.yaml": {"http": 8080, "https": 8443, "metrics": 9090},
	} {
		t.Run(file, func(t *testing.T) {
			a := applySample(t, file)
			slices := ready(t, a, a.pods...)
			if len(slices) != 1 {
				t.Fatalf("%d slices, want one set of them", len(slices))
			}
			got := map[string]int32{}
			for _, port := range slices[0].Ports {
				got[*port.Name] = *port.Port
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
}

// testHeadless: DNS needs the Pods' host names.
func testHeadless(t *testing.T) {
	a := applySample(t, "headless-service.yaml")
	slice := ready(t, a, a.pods...)[0]
	if _, ok := slice.Labels[corev1.IsHeadlessService]; !ok {
		t.Errorf("labels %v do not say that the Service is headless", slice.Labels)
	}
	for _, pod := range a.pods {
		if hostname := endpointAt(slice, pod.Status.PodIP).Hostname; hostname == nil || *hostname != pod.Name {
			t.Errorf("host name of %s is %v", pod.Name, hostname)
		}
	}
}

// testExternalName: such a Service has no slices, and one that becomes such loses them and its Endpoints.
func testExternalName(t *testing.T) {
	a := applySample(t, "nginx-clusterip.yaml")
	ready(t, a, a.pods...)
	sameInEndpoints(t, a, a.pods, nil)
	get(t, a.namespace, a.service.Name, a.service)
	before := a.service.DeepCopy()
	a.service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "production.database.example.com"}
	if err := suite.admin.Patch(t.Context(), a.service, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	eventually(t, waitFor, "an end of slices and Endpoints", func() error {
		found, err := slicesOf(t.Context(), a.namespace, a.service.Name)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("%d slices are left", len(found))
		}
		err = suite.admin.Get(t.Context(), client.ObjectKeyFromObject(a.service), &corev1.Endpoints{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("the Endpoints object is left (%w)", err)
		}
		return nil
	})
}

// testDualStack: one set of slices for each family.
func testDualStack(t *testing.T) {
	a := applySample(t, "nginx-clusterip.yaml")
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: a.namespace, Name: "dual"}, Spec: corev1.ServiceSpec{
		IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
		Selector:       a.service.Spec.Selector,
		Ports:          []corev1.ServicePort{{Port: 80}},
	}}
	create(t, service)
	eventually(t, waitFor, "endpoints of both families", func() error {
		found, err := slicesOf(t.Context(), a.namespace, service.Name)
		if err != nil {
			return err
		}
		count := map[discoveryv1.AddressType]int{}
		for _, slice := range found {
			count[slice.AddressType] += len(slice.Endpoints)
		}
		want := map[discoveryv1.AddressType]int{discoveryv1.AddressTypeIPv4: 3, discoveryv1.AddressTypeIPv6: 3}
		if diff := cmp.Diff(want, count); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

// testTrafficDistribution: each endpoint is hinted to its own zone.
func testTrafficDistribution(t *testing.T) {
	a := applySample(t, "topology-aware-service.yaml")
	for _, slice := range ready(t, a, a.pods...) {
		for _, endpoint := range slice.Endpoints {
			want := &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *endpoint.Zone}}}
			if diff := cmp.Diff(want, endpoint.Hints); diff != "" {
				t.Errorf("hints of %s in %s (-want +got):\n%s", endpoint.Addresses[0], *endpoint.Zone, diff)
			}
		}
	}
}

// testUnresolvablePort: a name that no Pod has is said on the Service, and unsaid when it is mended.
func testUnresolvablePort(t *testing.T) {
	a := applySample(t, "nginx-clusterip.yaml")
	ready(t, a, a.pods...)
	setTarget := func(port intstr.IntOrString) {
		get(t, a.namespace, a.service.Name, a.service)
		before := a.service.DeepCopy()
		a.service.Spec.Ports[0].TargetPort = port
		if err := suite.admin.Patch(t.Context(), a.service, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	resolved := func() *metav1.Condition {
		get(t, a.namespace, a.service.Name, a.service)
		return meta.FindStatusCondition(a.service.Status.Conditions, fairleadv1alpha1.ConditionPortsResolved)
	}
	setTarget(intstr.FromString("web"))
	eventually(t, waitFor, "PortsResolved=False", func() error {
		c := resolved()
		if c == nil || c.Status != metav1.ConditionFalse || c.ObservedGeneration != a.service.Generation {
			return fmt.Errorf("the condition is %+v", c)
		}
		if !strings.Contains(c.Message, "web") || !strings.Contains(c.Message, "http") || strings.Contains(c.Message, "\n") {
			return fmt.Errorf("%q does not name, on one line, the port that is missing and those that are there", c.Message)
		}
		return nil
	})
	setTarget(intstr.FromString("http"))
	eventually(t, waitFor, "PortsResolved not False", func() error {
		if c := resolved(); c != nil && c.Status != metav1.ConditionTrue {
			return fmt.Errorf("the condition is %+v", c)
		}
		return nil
	})
	ready(t, a, a.pods...)
}

// hasAddress waits for a balancer's address in the status of a Service.
func hasAddress(t *testing.T, a *applied) {
	t.Helper()
	eventually(t, waitFor, "a balancer address of "+a.service.Name, func() error {
		get(t, a.namespace, a.service.Name, a.service)
		if len(a.service.Status.LoadBalancer.Ingress) == 0 || a.service.Status.LoadBalancer.Ingress[0].IP == "" {
			return fmt.Errorf("status is %+v", a.service.Status)
		}
		return nil
	})
}

// testLoadBalancer: a Service without a class is served by the configured provider, recorded, and released.
func testLoadBalancer(t *testing.T) {
	for _, file := range []string{"webapp-lb-cluster.yaml", "webapp-lb-local.yaml", "webapp-loadbalancer.yaml", "webapp-lb.yaml"} {
		t.Run(file, func(t *testing.T) {
			a := applySample(t, file)
			hasAddress(t, a)
			if !slices.Contains(a.service.Finalizers, fairleadv1alpha1.FinalizerLoadBalancer) {
				t.Errorf("finalizers %v: the balancer could outlive the Service", a.service.Finalizers)
			}
			record := &fairleadv1alpha1.LoadBalancerRecord{}
			eventually(t, waitFor, "a record of what is owned", func() error {
				if err := suite.admin.Get(t.Context(), client.ObjectKeyFromObject(a.service), record); err != nil {
					return err
				}
				if !meta.IsStatusConditionTrue(record.Status.Conditions, fairleadv1alpha1.ConditionReady) || len(record.Status.Resources) == 0 {
					return fmt.Errorf("status is %+v", record.Status)
				}
				return nil
			})
			remove(t, a.service)
			eventually(t, waitFor, "an end of Service and record", func() error {
				for _, object := range []client.Object{&corev1.Service{}, &fairleadv1alpha1.LoadBalancerRecord{}} {
					if err := suite.admin.Get(t.Context(), client.ObjectKeyFromObject(a.service), object); !apierrors.IsNotFound(err) {
						return fmt.Errorf("%T is left (%w)", object, err)
					}
				}
				return nil
			})
		})
	}
}

// testLoadBalancerClass: a class is accepted, serves the Services that name it, and numbers their node ports.
func testLoadBalancerClass(t *testing.T) {
	a := applySample(t, "loadbalancerclass-fake.yaml")
	hasAddress(t, a)
	for _, port := range a.service.Spec.Ports {
		if port.NodePort < 30000 || port.NodePort > 32767 {
			t.Errorf("node port of %s is %d", port.Name, port.NodePort)
		}
	}
	class := &fairleadv1alpha1.LoadBalancerClass{}
	eventually(t, waitFor, "acceptance of the class", func() error {
		get(t, "", "fake", class)
		if !meta.IsStatusConditionTrue(class.Status.Conditions, fairleadv1alpha1.ConditionAccepted) {
			return fmt.Errorf("conditions are %+v", class.Status.Conditions)
		}
		return nil
	})
}

// testPlan: nothing is made for a Service of a planning class; the plan stands in its record.
func testPlan(t *testing.T) {
	a := applySample(t, "loadbalancerclass-plan.yaml")
	record := &fairleadv1alpha1.LoadBalancerRecord{}
	eventually(t, waitFor, "a plan", func() error {
		if err := suite.admin.Get(t.Context(), client.ObjectKeyFromObject(a.service), record); err != nil {
			return err
		}
		c := meta.FindStatusCondition(record.Status.Conditions, fairleadv1alpha1.ConditionReady)
		if c == nil || c.Reason != fairleadv1alpha1.ReasonPlanned || len(record.Status.Plan) == 0 {
			return fmt.Errorf("status is %+v", record.Status)
		}
		return nil
	})
	if len(record.Status.Resources) > 0 {
		t.Errorf("resources were made: %+v", record.Status.Resources)
	}
	get(t, a.namespace, a.service.Name, a.service)
	if len(a.service.Status.LoadBalancer.Ingress) > 0 {
		t.Errorf("the Service has an address: %+v", a.service.Status.LoadBalancer)
	}
}
