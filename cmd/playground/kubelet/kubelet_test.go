package kubelet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/fairlead/fairlead/cmd/playground/cri/critest"
	"github.com/fairlead/fairlead/cmd/playground/echo"
)

// TestRealKubelet runs Pods of all kinds by a real kubelet and our runtime, as an unprivileged user would.
func TestRealKubelet(t *testing.T) {
	assets := programs(t)
	if !critest.Enter(t, "FAIRLEAD_ASSETS="+assets) {
		return
	}
	c := startCluster(t, assets)
	c.makeImage()
	c.apply(pods)
	for _, step := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"ready", testReady}, {"answers", testAnswers}, {"files", testFiles}, {"exec", testExec}, {"terminal", testTerminal},
		{"logs", testLogs}, {"port-forward", testPortForward}, {"sidecar", testSidecar}, {"shared processes", testSharedProcesses},
		{"host network", testHostNetwork}, {"folder image", testFolderImage}, {"missing image", testMissingImage},
		{"crash loop", testCrashLoop}, {"liveness", testLiveness}, {"graceful end", testGracefulEnd},
		{"runtime restart", testRuntimeRestart}, {"nothing left", testNothingLeft},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			inner := *c
			inner.t = t
			step.run(t, &inner)
		})
		if !ok && step.name == "ready" {
			t.FailNow()
		}
	}
}

const pods = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {greeting: hello}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  nodeName: n1
  containers:
  - name: nginx
    image: nginx:1.27
    ports: [{containerPort: 80}, {name: metrics, containerPort: 9090}, {name: dns, containerPort: 5353, protocol: UDP}]
    readinessProbe: {httpGet: {path: /ready, port: 80}, periodSeconds: 1}
    startupProbe: {tcpSocket: {port: metrics}, periodSeconds: 1}
    env: [{name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
    volumeMounts:
    - {name: settings, mountPath: /etc/settings, readOnly: true}
    - {name: memory, mountPath: /cache}
    - {name: host, mountPath: /host}
    - {name: settings, mountPath: /one/greeting, subPath: greeting}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: host, hostPath: {path: HOSTPATH, type: DirectoryOrCreate}}
---
apiVersion: v1
kind: Pod
metadata: {name: staged}
spec:
  nodeName: n1
  initContainers:
  - {name: first, image: busybox, command: [sh, -c, "echo first > /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
  - name: sidecar
    image: busybox
    restartPolicy: Always
    command: [sh, -c, "echo sidecar >> /shared/order; exec sleep infinity"]
    startupProbe: {exec: {command: [cat, /shared/order]}, periodSeconds: 1}
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - {name: main, image: busybox, command: [sh, -c, "echo main >> /shared/order; exec sleep infinity"], volumeMounts: [{name: shared, mountPath: /shared}]}
  volumes: [{name: shared, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: together}
spec:
  nodeName: n1
  shareProcessNamespace: true
  containers:
  - {name: one, image: busybox, command: [sleep, "1001"]}
  - {name: two, image: busybox, command: [sleep, "1002"]}
---
apiVersion: v1
kind: Pod
metadata: {name: host}
spec:
  nodeName: n1
  hostNetwork: true
  containers: [{name: main, image: echo, ports: [{containerPort: 8081}], readinessProbe: {httpGet: {path: /ready, port: 8081}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Pod
metadata: {name: folder}
spec:
  nodeName: n1
  restartPolicy: Never
  containers: [{name: main, image: "example.com/team/tool:v1", args: [written]}]
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  nodeName: n1
  containers: [{name: main, image: "example.com/team/absent:v2"}]
---
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  nodeName: n1
  containers:
  - {name: main, image: busybox, command: [sh, -c, "echo dying > /dev/termination-log; exit 3"]}
---
apiVersion: v1
kind: Pod
metadata: {name: stuck}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "touch /tmp/alive; sleep 1; rm /tmp/alive; sleep 1000"]
    livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: polite-exec}
spec:
  nodeName: n1
  containers:
  - {name: main, image: nginx, ports: [{containerPort: 80}], lifecycle: {preStop: {exec: {command: [sh, -c, "sleep 3"]}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: polite-sleep}
spec:
  nodeName: n1
  containers:
  - {name: main, image: nginx, ports: [{containerPort: 80}], lifecycle: {preStop: {sleep: {seconds: 3}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: deaf}
spec:
  nodeName: n1
  terminationGracePeriodSeconds: 2
  containers:
  - {name: main, image: echo, args: [--drain=1h]}
`

// makeImage makes an image folder out of the test's own static binary.
func (c *cluster) makeImage() {
	dir := c.path("images/example.com_team_tool_v1")
	must(c.t, os.MkdirAll(filepath.Join(dir, "rootfs", "bin"), 0o755))
	binary, err := os.ReadFile("/proc/self/exe")
	must(c.t, err)
	for _, name := range []string{"echo", "cat"} {
		must(c.t, os.WriteFile(filepath.Join(dir, "rootfs", "bin", name), binary, 0o755))
	}
	config := `{"Entrypoint": ["echo", "image"], "Cmd": ["unused"], "Env": ["FROM=image"]}`
	must(c.t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644))
}

func testReady(t *testing.T, c *cluster) {
	for _, name := range []string{"web", "staged", "together", "host", "polite-exec", "polite-sleep", "deaf"} {
		c.eventually(40*time.Second, name+" is ready", func() error { return c.podReady(name) })
	}
	pod := c.pod("web")
	if len(pod.Status.PodIPs) != 2 || !strings.HasPrefix(pod.Status.PodIPs[0].IP, "10.244.1.") || !strings.HasPrefix(pod.Status.PodIPs[1].IP, "fd00:244:0:1:") {
		t.Errorf("addresses are not one of each of the node's ranges: %v", pod.Status.PodIPs)
	}
	if id := pod.Status.ContainerStatuses[0].ContainerID; !strings.HasPrefix(id, "fairlead-playground://") {
		t.Errorf("container id %q", id)
	}
}

// testAnswers asks from the node and from another Pod, in both families and all protocols.
func testAnswers(t *testing.T, c *cluster) {
	web, other := c.pod("web"), c.pod("polite-exec")
	for i, family := range []string{"IPv4", "IPv6"} {
		ip, node := web.Status.PodIPs[i].IP, []string{nodeIP, nodeIP6}[i]
		for port, protocol := range map[string]string{"80": "http", "9090": "tcp", "5353": "udp"} {
			got := ask(t, protocol, net.JoinHostPort(ip, port))
			client, _, err := net.SplitHostPort(got.Client)
			must(t, err)
			want := echo.Answer{Identity: echo.Identity{Pod: "web", Namespace: "default", Container: "nginx", Node: nodeName, Zone: "zone-a"},
				Protocol: protocol, Client: got.Client, Local: net.JoinHostPort(ip, port), Port: got.Port, Host: got.Host}
			if diff := cmp.Diff(want, got); diff != "" || client != node {
				t.Errorf("%s %s answered (-want +got):\n%s\nclient %s instead of %s", family, protocol, diff, client, node)
			}
		}
		out := c.kubectl("exec", "polite-exec", "--", "wget", "-qO-", "http://"+net.JoinHostPort(ip, "80")+"/?format=text")
		if !strings.Contains(out, other.Status.PodIPs[i].IP) {
			t.Errorf("a Pod's address was not kept on the way to another: %s", out)
		}
		// A packet to itself by its own address stays inside; one to the node comes from the Pod.
		out = c.kubectl("exec", "polite-exec", "--", "wget", "-qO-", "http://"+net.JoinHostPort(node, "8081")+"/?format=text")
		if !strings.Contains(out, other.Status.PodIPs[i].IP) || !strings.Contains(out, "pod default/host ") {
			t.Errorf("a Pod on the host network answered %s", out)
		}
	}
}

func ask(t *testing.T, protocol, address string) echo.Answer {
	t.Helper()
	var data []byte
	var err error
	if protocol == "http" {
		var response *http.Response
		response, err = http.Get("http://" + address)
		must(t, err)
		data, err = io.ReadAll(response.Body)
		_ = response.Body.Close()
	} else {
		var conn net.Conn
		conn, err = net.DialTimeout(protocol, address, 5*time.Second)
		must(t, err)
		defer func() { _ = conn.Close() }()
		must(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = conn.Write([]byte("json\n"))
		must(t, err)
		data = make([]byte, 4096)
		var n int
		n, err = conn.Read(data)
		data = data[:n]
	}
	must(t, err)
	var a echo.Answer
	must(t, json.Unmarshal(data, &a))
	return a
}

func testFiles(t *testing.T, c *cluster) {
	run := func(args ...string) string { return c.kubectl(append([]string{"exec", "web", "--"}, args...)...) }
	token := run("cat", "/var/run/secrets/kubernetes.io/serviceaccount/token")
	if strings.Count(token, ".") != 2 {
		t.Errorf("the token is no token: %q", token)
	}
	web := c.pod("web")
	for command, want := range map[string]string{
		"cat /etc/settings/greeting": "hello", "cat /one/greeting": "hello", "hostname": "web", "cat /etc/hostname": "web",
		"printenv POD_IP": web.Status.PodIP, "cat /etc/hosts": web.Status.PodIPs[1].IP + "\tweb",
		"cat /etc/resolv.conf": "nameserver 10.96.0.10", "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace": "default",
		"printenv KUBERNETES_SERVICE_HOST": "10.96.0.1", "ls -l /dev/ptmx": "pts/ptmx", "ps": "/playground echo",
	} {
		if got := run(strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("%s printed %q, without %q", command, got, want)
		}
	}
	if out, err := c.tryKubectl("", "exec", "web", "--", "touch", "/etc/settings/new"); err == nil || !strings.Contains(out, "read-only") {
		t.Errorf("a read-only volume was written to: %s", out)
	}
	run("sh", "-c", "echo kept > /host/file && echo also > /cache/file && echo both > /dev/shm/file")
	data, err := os.ReadFile(c.path("hostpath/file"))
	if err != nil || string(data) != "kept\n" {
		t.Errorf("the host's folder has %q, %v", data, err)
	}
	c.kubectl("patch", "configmap", "settings", "--patch", `{"data":{"greeting":"changed"}}`)
	c.eventually(2*time.Minute, "the new setting arrives", func() error {
		if got := run("cat", "/etc/settings/greeting"); got != "changed" {
			return fmt.Errorf("still %q", got)
		}
		return nil
	})
}

func testExec(t *testing.T, c *cluster) {
	for name, tc := range map[string]struct {
		stdin, want string
		args        []string
		fails       bool
	}{
		"output":    {args: []string{"echo", "hello", "there"}, want: "hello there\n"},
		"input":     {stdin: "typed\n", args: []string{"cat"}, want: "typed\n"},
		"pipe":      {args: []string{"sh", "-c", "echo a | cat; echo b && false || echo c"}, want: "a\nb\nc\n"},
		"exit code": {args: []string{"sh", "-c", "exit 7"}, want: "exit code 7", fails: true},
		"missing":   {args: []string{"no-such-command"}, want: "no-such-command", fails: true},
		"left over": {args: []string{"sh", "-c", "sleep 1000 & echo started"}, want: "started\n"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := c.tryKubectl(tc.stdin, append([]string{"exec", "-i", "web", "--"}, tc.args...)...)
			if !strings.Contains(out, tc.want) || (err != nil) != tc.fails {
				t.Errorf("got %q, %v", out, err)
			}
		})
	}
}

// sizes is a terminal's size that changes once.
type sizes struct {
	queue chan remotecommand.TerminalSize
}

func (s sizes) Next() *remotecommand.TerminalSize {
	size, ok := <-s.queue
	if !ok {
		return nil
	}
	return &size
}

// testTerminal types into a shell on a terminal, as kubectl exec -it does.
func testTerminal(t *testing.T, c *cluster) {
	request := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("web").SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: []string{"sh"}, Stdin: true, Stdout: true, TTY: true}, scheme.ParameterCodec)
	executor, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
	must(t, err)
	queue := sizes{queue: make(chan remotecommand.TerminalSize, 1)}
	queue.queue <- remotecommand.TerminalSize{Width: 101, Height: 33}
	close(queue.queue)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	typed, typing := io.Pipe()
	shown := &buffer{changed: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() {
		done <- executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: typed, Stdout: shown, Tty: true, TerminalSizeQueue: queue})
	}()
	for _, exchange := range [][2]string{{"echo $((6*7))", "42"}, {"stty size", "33 101"}, {"exit 5", ""}} {
		_, err := io.WriteString(typing, exchange[0]+"\n")
		must(t, err)
		must(t, shown.await(ctx, exchange[1]))
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "5") {
		t.Errorf("the shell ended with %v instead of exit code 5", err)
	}
}

func testLogs(t *testing.T, c *cluster) {
	out := c.kubectl("logs", "web")
	if !strings.Contains(out, "listening on") || !strings.Contains(out, "udp from") {
		t.Errorf("the log is %s", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	follow := exec.CommandContext(ctx, filepath.Join(c.assets, "kubectl"), "--kubeconfig="+c.path("admin.kubeconfig"), "logs", "-f", "--tail=1", "web")
	shown := &buffer{changed: make(chan struct{}, 1)}
	follow.Stdout = shown
	must(t, follow.Start())
	ask(t, "http", net.JoinHostPort(c.pod("web").Status.PodIP, "80"))
	must(t, shown.await(ctx, "http from "+nodeIP))
	cancel()
	_ = follow.Wait()
}

func testPortForward(t *testing.T, c *cluster) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	forward := exec.CommandContext(ctx, filepath.Join(c.assets, "kubectl"), "--kubeconfig="+c.path("admin.kubeconfig"), "port-forward", "web", "18080:80")
	shown := &buffer{changed: make(chan struct{}, 1)}
	forward.Stdout = shown
	must(t, forward.Start())
	must(t, shown.await(ctx, "Forwarding from 127.0.0.1"))
	for range 5 {
		if a := ask(t, "http", "127.0.0.1:18080"); a.Pod != "web" || !strings.HasPrefix(a.Client, "127.0.0.1:") {
			t.Errorf("got %+v", a)
		}
	}
	cancel()
	_ = forward.Wait()
}

func testSidecar(t *testing.T, c *cluster) {
	if got := c.kubectl("exec", "staged", "-c", "main", "--", "cat", "/shared/order"); got != "first\nsidecar\nmain\n" {
		t.Errorf("order %q", got)
	}
}

func testSharedProcesses(t *testing.T, c *cluster) {
	if got := c.kubectl("exec", "together", "-c", "one", "--", "ps"); !strings.Contains(got, "sleep 1001") || !strings.Contains(got, "sleep 1002") {
		t.Errorf("one container does not see the other's process:\n%s", got)
	}
	if got := c.kubectl("exec", "web", "--", "ps"); strings.Contains(got, "sleep 1001") {
		t.Errorf("a container sees another Pod's process:\n%s", got)
	}
}

func testHostNetwork(t *testing.T, c *cluster) {
	if got := c.pod("host").Status.PodIP; got != nodeIP {
		t.Errorf("the Pod's address is %s", got)
	}
	if got := c.kubectl("exec", "host", "--", "hostname"); got != nodeName+"\n" {
		t.Errorf("the Pod's host name is %q", got)
	}
}

func testFolderImage(t *testing.T, c *cluster) {
	c.eventually(20*time.Second, "the Pod succeeds", func() error {
		if phase := c.pod("folder").Status.Phase; phase != corev1.PodSucceeded {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
	if got := c.kubectl("logs", "folder"); got != "image written\n" {
		t.Errorf("log %q", got)
	}
}

func testMissingImage(t *testing.T, c *cluster) {
	c.eventually(20*time.Second, "the Pod waits for its image", func() error {
		statuses := c.pod("missing").Status.ContainerStatuses
		if len(statuses) == 0 || statuses[0].State.Waiting == nil {
			return fmt.Errorf("%v", statuses)
		}
		w := statuses[0].State.Waiting
		if w.Reason != "ErrImagePull" && w.Reason != "ImagePullBackOff" || !strings.Contains(w.Message, "example.com/team/absent") {
			return fmt.Errorf("%+v", w)
		}
		return nil
	})
	events := c.kubectl("get", "events", "--field-selector=involvedObject.name=missing")
	if want := filepath.Join("images", "example.com_team_absent_v2", "rootfs"); !strings.Contains(events, want) {
		t.Errorf("no event says what to do:\n%s", events)
	}
}

func testCrashLoop(t *testing.T, c *cluster) {
	c.eventually(time.Minute, "the Pod is in its crash loop", func() error {
		statuses := c.pod("crash").Status.ContainerStatuses
		if len(statuses) == 0 || statuses[0].RestartCount < 1 || statuses[0].LastTerminationState.Terminated == nil {
			return fmt.Errorf("%v", statuses)
		}
		last := statuses[0].LastTerminationState.Terminated
		if last.ExitCode != 3 || last.Message != "dying\n" || last.Reason != "Error" {
			t.Fatalf("it ended with %+v", last)
		}
		return nil
	})
}

func testLiveness(t *testing.T, c *cluster) {
	c.eventually(time.Minute, "the probe has the container restarted", func() error {
		statuses := c.pod("stuck").Status.ContainerStatuses
		if len(statuses) == 0 || statuses[0].RestartCount < 1 {
			return fmt.Errorf("%v", statuses)
		}
		return nil
	})
}

// testGracefulEnd asks Pods all the time while they are deleted: they must answer until their hooks are done, and only a
// Pod that does not listen to SIGTERM is killed.
func testGracefulEnd(t *testing.T, c *cluster) {
	for _, name := range []string{"polite-exec", "polite-sleep"} {
		address := net.JoinHostPort(c.pod(name).Status.PodIP, "80")
		begin := time.Now()
		c.kubectl("delete", "pod", name, "--wait=false")
		answered := time.Now()
		c.eventually(20*time.Second, name+" stops answering", func() error {
			conn, err := net.DialTimeout("tcp", address, time.Second)
			if err != nil {
				return nil
			}
			answered = time.Now()
			return fmt.Errorf("it answers (%v)", conn.Close())
		})
		if served := answered.Sub(begin); served < 3*time.Second {
			t.Errorf("%s served for %s after its deletion, less than its hook's 3 s", name, served)
		}
		c.eventually(20*time.Second, name+" is gone", func() error { return c.gone(name) })
	}
	begin := time.Now()
	c.kubectl("delete", "pod", "deaf", "--wait=false")
	c.eventually(20*time.Second, "the deaf Pod is gone", func() error { return c.gone("deaf") })
	if took := time.Since(begin); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("a Pod with a grace period of 2 s was gone after %s", took)
	}
}

// testRuntimeRestart kills the runtime: the containers end with it, and the kubelet makes new ones.
func testRuntimeRestart(t *testing.T, c *cluster) {
	before := c.pod("web").Status.ContainerStatuses[0].ContainerID
	c.restartRuntime()
	c.eventually(time.Minute, "the Pod has a new container", func() error {
		if now := c.pod("web").Status.ContainerStatuses[0].ContainerID; now == before {
			return fmt.Errorf("it is still %s", now)
		}
		return c.podReady("web")
	})
	ask(t, "http", net.JoinHostPort(c.pod("web").Status.PodIP, "80"))
}

func testNothingLeft(t *testing.T, c *cluster) {
	c.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false")
	c.eventually(time.Minute, "all Pods are gone", func() error {
		list, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
	c.eventually(90*time.Second, "nothing is left of them", func() error {
		var left []string
		for _, pattern := range []string{"/run/netns/*", c.path("cri/pods/*"), c.path("cri/containers/*"), "/sys/class/net/flp*"} {
			found, err := filepath.Glob(pattern)
			must(t, err)
			left = append(left, found...)
		}
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range lines {
			line, err := os.ReadFile(path)
			if err == nil && (bytes.Contains(line, []byte("guest\x00")) || bytes.HasPrefix(line, []byte("/playground\x00"))) {
				left = append(left, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
			}
		}
		mounts, err := os.ReadFile("/proc/self/mounts")
		must(t, err)
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, c.path("cri")) {
				left = append(left, line)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("%q", left)
		}
		return nil
	})
}
