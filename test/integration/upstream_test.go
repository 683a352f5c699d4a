package integration

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// writer is a process that writes endpoints, ours or upstream's, and how to ask whether it has anything left to do.
type writer struct {
	stop func()
	// metrics is the address of its metrics, token what they are asked with, queues the names of its work queues.
	metrics, token string
	queues         []string
}

// startUpstream runs the real kube-controller-manager with some of its controllers alone, as admin, until stopped or
// the test ends.
func startUpstream(t *testing.T, controllers string, queues ...string) *writer {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: suite.config.Host, CertificateAuthorityData: suite.config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {ClientCertificateData: suite.config.CertData, ClientKeyData: suite.config.KeyData}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{metrics: freeAddress(t), queues: queues}
	host, port, err := net.SplitHostPort(w.metrics)
	if err != nil {
		t.Fatal(err)
	}
	output := &log{}
	cmd := exec.Command(filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-controller-manager"),
		"--kubeconfig", file, "--controllers="+controllers, "--leader-elect=false",
		"--cert-dir", dir, "--bind-address", host, "--secure-port", port, "--authentication-skip-lookup",
		"--authorization-always-allow-paths=/metrics", "--kube-api-qps=200", "--kube-api-burst=400")
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.stop = func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(func() {
		w.stop()
		if t.Failed() {
			t.Logf("kube-controller-manager's log:\n%s", output)
		}
	})
	return w
}

// startUpstreamEndpoints runs the controllers that write slices and Endpoints of Services with a selector.
func startUpstreamEndpoints(t *testing.T) *writer {
	t.Helper()
	return startUpstream(t, "endpointslice-controller,endpoints-controller", "endpoint_slice", "endpoint")
}

// scraper returns the token of a new account of the namespace that may read the manager's metrics.
func scraper(t *testing.T, ns string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns, GenerateName: "scraper-"}}
	create(t, account)
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "scraper-"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "fairlead-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: ns, Name: account.Name}},
	}
	create(t, binding)
	t.Cleanup(func() { remove(t, binding) })
	return token(t, ns, account.Name)
}

// startOurEndpoints runs the manager with the same controllers; an account of the namespace may read its metrics.
func startOurEndpoints(t *testing.T, ns string) *writer {
	t.Helper()
	// Endpoints wait for at most three times as long, which idle outlasts.
	m := startManager(t, "--leader-elect=false", "--controllers=endpointslice,endpoints",
		"--config", configuration(t, "endpoints: {maxBatchDelay: 500ms}"))
	return &writer{
		stop:    func() { _ = m.stop(t) }, // how it ended is checked when the test ends
		metrics: m.metrics, token: scraper(t, ns), queues: []string{"endpointslice", "endpoints"},
	}
}

// idle waits until a writer has looked at so many Services in each of its queues, and has had nothing to do for two
// seconds, longer than either waits for more to be written together.
func (w *writer) idle(t *testing.T, services int) {
	t.Helper()
	var before string
	quiet := 0
	eventually(t, waitFor, "an idle writer", func() error {
		_, body, err := scrape(t, w.metrics, w.token)
		if err != nil {
			return err
		}
		var now string
		for _, queue := range w.queues {
			waiting := sum(body, "workqueue_depth", queue)
			added := sum(body, "workqueue_adds_total", queue)
			done := sum(body, "workqueue_work_duration_seconds_count", queue)
			if waiting > 0 || done != added || done < float64(services) {
				return fmt.Errorf("queue %s: %v added, %v done, %v waiting", queue, added, done, waiting)
			}
			now += fmt.Sprint(queue, done)
		}
		if now != before {
			before, quiet = now, 0
		}
		if quiet++; quiet < quietPolls {
			return fmt.Errorf("idle for %d polls only", quiet)
		}
		return nil
	})
}

// sum adds up the samples of a queue's metric.
func sum(body, metric, queue string) (total float64) {
	for line := range strings.Lines(body) {
		labels, value, _ := strings.Cut(strings.TrimPrefix(line, metric), " ")
		if strings.HasPrefix(line, metric+"{") && strings.Contains(labels, fmt.Sprintf("name=%q", queue)) {
			v, _ := strconv.ParseFloat(strings.TrimSpace(value), 64)
			total += v
		}
	}
	return total
}
