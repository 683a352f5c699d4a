//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cmd/playground/echo"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

var (
	// cluster is the API server's client, as its administrator.
	cluster client.Client
	// samples is the folder of config/samples.
	samples string
)

func TestMain(m *testing.M) {
	if err := connect(); err != nil {
		log.Fatalf("The packet tests run inside a playground (make test-e2e): %v", err)
	}
	os.Exit(m.Run())
}

func connect() error {
	logf.SetLogger(logr.Discard())
	if _, err := os.Stat(filepath.Join(network.Dir, internet)); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS = -1 // thousands of changes are written
	if err := v1alpha1.AddToScheme(scheme.Scheme); err != nil {
		return err
	}
	if samples = os.Getenv("FAIRLEAD_SAMPLES"); samples == "" {
		samples = "config/samples"
	}
	if _, err := os.Stat(samples); err != nil {
		return fmt.Errorf("FAIRLEAD_SAMPLES must name the folder config/samples: %w", err)
	}
	cluster, err = client.New(config, client.Options{})
	return err
}

// patience is for what must come, on a machine that stands still for a while too.
const patience = 2 * time.Minute

// eventually polls until check says nothing is missing. It names the last thing that was.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("%s: not within %s: %v", what, patience, err)
}

// kubectl runs kubectl as a person would and returns what it prints.
func kubectl(args ...string) (string, error) {
	out, err := exec.Command("kubectl", args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// namespace makes a namespace for a test and removes it afterwards.
func namespace(t *testing.T) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	if err := cluster.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Delete(context.Background(), ns); err != nil {
			t.Error(err)
		}
	})
	// Pods are refused until the namespace has its default service account.
	eventually(t, "default service account of "+ns.Name, func() error {
		return cluster.Get(t.Context(), client.ObjectKey{Namespace: ns.Name, Name: "default"}, &corev1.ServiceAccount{})
	})
	return ns.Name
}

// apply applies a sample, by its file name, or a manifest given as text, in a namespace.
func apply(t *testing.T, ns, manifest string) {
	t.Helper()
	cmd := exec.Command("kubectl", "apply", "-n", ns, "-f", "-")
	cmd.Stdin = strings.NewReader(manifest)
	if !strings.Contains(manifest, "\n") {
		cmd = exec.Command("kubectl", "apply", "-n", ns, "-f", filepath.Join(samples, manifest))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kubectl apply: %v: %s", err, out)
	}
}

func service(t *testing.T, ns, name string) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{}
	if err := cluster.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, svc); err != nil {
		t.Fatal(err)
	}
	return svc
}

// ready waits until a Service's slices hold n ready endpoints in each of its families.
func ready(t *testing.T, ns, name string, n int) *corev1.Service {
	t.Helper()
	svc := service(t, ns, name)
	eventually(t, fmt.Sprintf("%d ready endpoints of %s/%s", n, ns, name), func() error {
		found, err := endpoints(t.Context(), ns, name)
		if err != nil {
			return err
		}
		for _, family := range svc.Spec.IPFamilies {
			if got := len(found[discoveryv1.AddressType(family)]); got != n {
				return fmt.Errorf("%d of family %s", got, family)
			}
		}
		return nil
	})
	return svc
}

// endpoints returns the ready endpoints of a Service by family.
func endpoints(ctx context.Context, ns, name string) (map[discoveryv1.AddressType][]discoveryv1.Endpoint, error) {
	var slices discoveryv1.EndpointSliceList
	if err := cluster.List(ctx, &slices, client.InNamespace(ns), client.MatchingLabels{discoveryv1.LabelServiceName: name}); err != nil {
		return nil, err
	}
	found := map[discoveryv1.AddressType][]discoveryv1.Endpoint{}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				found[s.AddressType] = append(found[s.AddressType], e)
			}
		}
	}
	return found, nil
}

// served waits until one connection through is answered: from then on the node has its rules.
func served(t *testing.T, ns string, to netip.AddrPort) echo.Answer {
	t.Helper()
	var a echo.Answer
	eventually(t, fmt.Sprintf("an answer from %s to %s", to, ns), func() (err error) {
		a, err = get(ns, to)
		return err
	})
	return a
}

// pods lists the Pods of a namespace with a label, those being deleted left out.
func pods(t *testing.T, ns, label, value string) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := cluster.List(t.Context(), &list, client.InNamespace(ns), client.MatchingLabels{label: value}); err != nil {
		t.Fatal(err)
	}
	var alive []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			alive = append(alive, p)
		}
	}
	return alive
}

func addrPort(t *testing.T, ip string, port int32) netip.AddrPort {
	t.Helper()
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(addr, uint16(port))
}
