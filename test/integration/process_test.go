package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// token returns a token of a service account, as the API server gives it to Pods.
func token(t *testing.T, namespace, name string) string {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	request := &authenticationv1.TokenRequest{}
	if err := suite.admin.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatalf("asking for a token of %s/%s: %v", namespace, name, err)
	}
	return request.Status.Token
}

// kubeconfig writes one for the suite's API server and a service account's token.
func kubeconfig(t *testing.T, token string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: suite.config.Host, CertificateAuthorityData: suite.config.CAData}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"test": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test", AuthInfo: "test"}},
		CurrentContext: "test",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// asAccount is the client configuration of a service account.
func asAccount(t *testing.T, namespace, name string) *rest.Config {
	t.Helper()
	config := rest.AnonymousClientConfig(suite.config)
	config.BearerToken = token(t, namespace, name)
	return config
}

// manager is a running manager.
type manager struct {
	cmd *exec.Cmd
	log *log
	// health and metrics are addresses.
	health, metrics string
	ended           chan struct{} // closed once the process has ended
	err             error         // of the process, after ended
}

// log is what a process writes, readable while it runs.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startManager runs the manager under the service account that config/rbac gives it, and waits until it is ready. When
// the test ends the manager is stopped, and must have ended well and never been forbidden anything.
func startManager(t *testing.T, args ...string) *manager {
	t.Helper()
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "--config") }) {
		args = append(args, "--config="+configuration(t, ""))
	}
	m := &manager{log: &log{}, health: freeAddress(t), metrics: freeAddress(t), ended: make(chan struct{})}
	args = append([]string{
		"--kubeconfig", kubeconfig(t, token(t, "fairlead-system", "fairlead-manager")),
		"--health-probe-bind-address", m.health, "--metrics-bind-address", m.metrics, "--webhook-bind-address", freeAddress(t), "-v=1",
	}, args...)
	m.cmd = exec.Command(suite.manager, args...)
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		m.err = m.cmd.Wait()
		close(m.ended)
	}()
	t.Cleanup(func() { m.check(t, m.stop(t)) })
	eventually(t, waitFor, "readiness of the manager", func() error {
		select {
		case <-m.ended:
			t.Fatalf("the manager ended: %v\n%s", m.err, m.log)
		default:
		}
		return m.probe("/readyz")
	})
	return m
}

// probe GETs a path of the health endpoint.
func (m *manager) probe(path string) error {
	client := http.Client{Timeout: waitFor}
	response, err := client.Get("http://" + m.health + path)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return nil
}

// stop ends the manager as a kubelet would and returns the error of its process. It may be called again.
func (m *manager) stop(t *testing.T) error {
	t.Helper()
	if err := m.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	select {
	case <-m.ended:
	case <-time.After(waitFor):
		t.Error("the manager did not end")
		_ = m.cmd.Process.Kill()
		<-m.ended
	}
	return m.err
}

// kill ends the manager without a chance to clean up.
func (m *manager) kill(t *testing.T) {
	t.Helper()
	if err := m.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-m.ended
}

// check wants a good end, and a log without refusals and errors.
func (m *manager) check(t *testing.T, err error) {
	t.Helper()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		err = nil // by kill
	}
	if err != nil {
		t.Errorf("the manager ended with %v", err)
	}
	for line := range strings.Lines(m.log.String()) {
		lower := strings.ToLower(line)
		if strings.Contains(lower, "forbidden") || strings.Contains(lower, `" cannot `) || strings.Contains(lower, "panic") {
			t.Errorf("the manager logged %s", line)
			break // the rest is in the log below
		}
	}
	if t.Failed() {
		t.Logf("the manager's log:\n%s", m.log)
	}
}

// lastPort is that of the address that was given last.
var lastPort atomic.Uint32

func init() { lastPort.Store(rand.Uint32N(10000)) }

// freeAddress is a loopback address that nobody listens on at the moment. Its port is none that the kernel gives to connections,
// from 32768 on, or one of those of other tests may have it before the program that is to listen there.
func freeAddress(t *testing.T) string {
	t.Helper()
	for {
		address := fmt.Sprint("127.0.0.1:", 20000+lastPort.Add(1)%10000)
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = listener.Close()
		return address
	}
}
