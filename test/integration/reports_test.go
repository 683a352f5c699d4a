package integration

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fairleadv1alpha1 "github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/dataplane/health"
	"github.com/fairlead/fairlead/dataplane/report"
)

// told is what an agent tells. What an agent finds is tested where there are nodes.
type told struct {
	mu      sync.Mutex
	clashes []map[string]any
	asked   int
}

func (a *told) set(clashes ...map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clashes = clashes
}

func (a *told) ServeHTTP(out http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked++
	_ = json.NewEncoder(out).Encode(map[string]any{"checked": time.Now(), "clashes": a.clashes})
}

// serveReports serves as an agent does, with the rights that it has, until the test ends or stop is called.
func serveReports(t *testing.T, address string, handler http.Handler) (stop func()) {
	t.Helper()
	trust, err := report.NewTrust(logr.Discard(), asAccount(t, "fairlead-node-agent", "fairlead-node-agent"), "fairlead-manager")
	if err != nil {
		t.Fatal(err)
	}
	secure, err := trust.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := health.Server{Address: address, Handler: handler, HardFail: true,
		Over: func(l net.Listener) net.Listener { return tls.NewListener(report.Bound(l), secure) }}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(ctx, logr.Discard()); err != nil {
			t.Error(err)
		}
	})
	stop = func() {
		cancel()
		serving.Wait()
	}
	t.Cleanup(stop)
	eventually(t, waitFor, "an agent that listens", func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return stop
}

// loopbackNode makes a Node with a loopback address.
func loopbackNode(t *testing.T, name, address string) *corev1.Node {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	create(t, node)
	t.Cleanup(func() { remove(t, node) })
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}
	if err := suite.admin.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	return node
}

// TestReports: the manager gathers what agents tell it alone, says it on Services, and takes it back when it is over; it
// takes nothing back because an agent is silent.
func TestReports(t *testing.T) {
	needsAPIServer(t)
	hookAddress := freeAddress(t)
	installWebhook(t, "default", hookAddress)
	_, text, _ := net.SplitHostPort(freeAddress(t))
	port, _ := strconv.Atoi(text)
	config := configuration(t, fmt.Sprintf("nodeReports: {port: %d, interval: 1s}", port))
	run := func() *manager {
		return startManager(t, "--leader-elect=false", "--config="+config, "--webhook-bind-address="+hookAddress)
	}
	m := run()
	ns := namespace(t)
	svc := nodePorted(ns, "web", 0)
	create(t, svc)
	t.Cleanup(func() { remove(t, svc) })

	first, second := &told{}, &told{}
	at := func(host string) string { return net.JoinHostPort(host, text) }
	stopFirst := serveReports(t, at("127.0.0.1"), first)
	serveReports(t, at("127.0.0.2"), second)
	loopbackNode(t, "told-1", "127.0.0.1")
	other := loopbackNode(t, "told-2", "127.0.0.2")

	t.Run("Strangers", func(t *testing.T) { refusesStrangers(t, at("127.0.0.1")) })
	expect := func(status metav1.ConditionStatus, says ...string) {
		t.Helper()
		eventually(t, waitFor, fmt.Sprintf("NodePortsClear %s that says %q", status, says), func() error {
			c := nodePortsClear(t, svc)
			if c == nil || c.Status != status {
				return fmt.Errorf("it is %+v", c)
			}
			for _, text := range says {
				if !strings.Contains(c.Message, text) {
					return fmt.Errorf("the message is %q", c.Message)
				}
			}
			return nil
		})
	}
	clash := func(port int32, process string) map[string]any {
		return map[string]any{"namespace": ns, "service": "web", "protocol": "TCP", "port": port, "listener": "0.0.0.0:1", "process": process}
	}
	// What a node tells of others' ports and of Services that are not there is passed over.
	first.set(clash(portOf(svc)+1, "liar"), map[string]any{"namespace": ns, "service": "none", "protocol": "TCP", "port": portOf(svc)})
	second.set(clash(portOf(svc), "ngi\nnx"))
	expect(metav1.ConditionFalse, fmt.Sprintf("%d/TCP on node told-2 (ngi?nx, 0.0.0.0:1)", portOf(svc)), "give the Service other ports")
	if c := nodePortsClear(t, svc); strings.Contains(c.Message, "liar") || strings.Contains(c.Message, "\n") {
		t.Errorf("the message is %q", c.Message)
	}
	eventually(t, waitFor, "an event", func() error {
		var list eventsv1.EventList
		if err := suite.admin.List(t.Context(), &list, client.InNamespace(ns)); err != nil {
			return err
		}
		for _, e := range list.Items {
			if e.Regarding.Name == "web" && e.Reason == "NodePortListener" && strings.Contains(e.Note, "told-2") {
				return nil
			}
		}
		return errors.New("there is none")
	})
	figures := func(want ...string) {
		t.Helper()
		token := scraper(t, ns)
		eventually(t, waitFor, "figures", func() error {
			_, body, err := scrape(t, m.metrics, token)
			for _, line := range want {
				if err == nil && !strings.Contains(body, line) {
					err = fmt.Errorf("there is no %s", line)
				}
			}
			return err
		})
	}
	figures("fairlead_nodeport_clashes 1\n", "fairlead_nodeport_reporting_nodes 2\n")

	// Over: it is taken back. On another node it comes again.
	second.set()
	expect(metav1.ConditionTrue)
	first.set(clash(portOf(svc), "haproxy"))
	expect(metav1.ConditionFalse, "node told-1 (haproxy")

	// An agent that is silent, to a manager that has never heard it, may still have something to tell.
	stopFirst()
	if err := m.stop(t); err != nil {
		t.Fatal(err)
	}
	before := second.count()
	m = run()
	eventually(t, waitFor, "three questions", func() error {
		if n := second.count() - before; n < 3 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	expect(metav1.ConditionFalse, "haproxy")
	figures("fairlead_nodeport_reporting_nodes 1\n")
	// It answers again: what it has to tell counts. Its node goes: so does what it told.
	serveReports(t, at("127.0.0.1"), first)
	figures("fairlead_nodeport_reporting_nodes 2\n", "fairlead_nodeport_clashes 1\n")
	second.set(clash(portOf(svc), "nginx"))
	expect(metav1.ConditionFalse, "haproxy", "nginx")
	remove(t, other)
	eventually(t, waitFor, "an end of what the node told", func() error {
		if c := nodePortsClear(t, svc); c.Status != metav1.ConditionFalse || strings.Contains(c.Message, "nginx") {
			return fmt.Errorf("it is %+v", c)
		}
		return nil
	})
	first.set()
	expect(metav1.ConditionTrue)
	if c := nodePortsClear(t, svc); c.Reason != fairleadv1alpha1.ReasonClear {
		t.Errorf("the reason is %s", c.Reason)
	}
}

func (a *told) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// refusesStrangers: neither who shows no certificate nor who shows another one than the manager's is told anything.
func refusesStrangers(t *testing.T, address string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, certificates := range map[string][]tls.Certificate{
		"None":    nil,
		"Another": {{Certificate: [][]byte{der}, PrivateKey: key}},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := http.Client{Timeout: waitFor, Transport: &http.Transport{DisableKeepAlives: true,
				TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: certificates}}} // the agent's certificate is its own
			response, err := stranger.Get("https://" + address + "/nodeports")
			if err == nil {
				_ = response.Body.Close()
				t.Fatalf("it was answered with %s", response.Status)
			}
			if errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("nobody was there to refuse it: %v", err)
			}
		})
	}
}
