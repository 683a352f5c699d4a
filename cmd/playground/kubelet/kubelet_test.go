package kubelet

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRealKubelet(t *testing.T) {
	assets := programs(t)
	if !enter(t, assets) {
		return
	}
	c := startCluster(t, assets)
	c.apply(`
apiVersion: v1
kind: Pod
metadata: {name: sleeper}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox:1.36
    command: [sleep, "1000"]
`)
	c.eventually(20*time.Second, "the Pod runs", func() error { return c.podReady("sleeper") })
	fmt.Println(c.kubectl("get", "pod", "-o", "wide"))
	fmt.Println(c.kubectl("exec", "sleeper", "--", "echo", "hello"))
	fmt.Println(c.kubectl("describe", "pod", "sleeper"))
}

// kubectl runs kubectl as the administrator and returns what it printed.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	out, err := c.tryKubectl("", args...)
	if err != nil {
		c.t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (c *cluster) tryKubectl(stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.assets, "kubectl"), append([]string{"--kubeconfig=" + c.path("admin.kubeconfig")}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Dir = c.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (c *cluster) apply(manifest string) {
	c.t.Helper()
	if out, err := c.tryKubectl(manifest, "apply", "-f", "-"); err != nil {
		c.t.Fatalf("kubectl apply: %v\n%s", err, out)
	}
}

func (c *cluster) podReady(name string) error {
	pod, err := c.client.CoreV1().Pods("default").Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("Pod %s is not ready: %+v", name, pod.Status)
}
