package kubelet

import (
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
		{"ready", testReady}, {"answers", testAnswers}, {"files", testFiles}, {"exec", testExec}, {"terminal", testTerminal}, {"attach", testAttach},
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
	for _, name := range []string{"web", "staged", "together", "talk", "host", "polite-exec", "polite-sleep", "deaf"} {
		c.eventually(name+" is ready", func() error { return c.podReady(name) })
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
		conn, err = net.DialTimeout(protocol, address, patience)
		must(t, err)
		defer func() { _ = conn.Close() }()
		must(t, conn.SetDeadline(time.Now().Add(patience)))
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
	c.eventually("the new setting arrives", func() error {
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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

// testAttach types into the container's own shell, twice: it must not end with the first who attaches.
func testAttach(t *testing.T, c *cluster) {
	request := c.client.CoreV1().RESTClient().Post().Resource("pods").Namespace("default").Name("talk").SubResource("attach").
		VersionedParams(&corev1.PodAttachOptions{Stdin: true, Stdout: true, TTY: true}, scheme.ParameterCodec)
	for _, exchange := range [][2]string{{"echo $((6*7))", "42"}, {"echo $((7*7))", "49"}} {
		executor, err := remotecommand.NewWebSocketExecutor(c.config, "GET", request.URL().String())
		must(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		typed, typing := io.Pipe()
		shown := &buffer{changed: make(chan struct{}, 1)}
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: typed, Stdout: shown, Tty: true})
		}()
		_, err = io.WriteString(typing, exchange[0]+"\n")
		must(t, err)
		must(t, shown.await(ctx, exchange[1]))
		cancel()
		<-done
	}
	if got := c.kubectl("logs", "talk"); !strings.Contains(got, "42") || !strings.Contains(got, "49") {
		t.Errorf("the log is %q", got)
	}
}

func testLogs(t *testing.T, c *cluster) {
	out := c.kubectl("logs", "web")
	if !strings.Contains(out, "listening on") || !strings.Contains(out, "udp from") {
		t.Errorf("the log is %s", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
	ctx, cancel := context.WithTimeout(t.Context(), patience)
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
	c.eventually("the Pod succeeds", func() error {
		if phase := c.pod("folder").Status.Phase; phase != corev1.PodSucceeded {
			return fmt.Errorf("it is %s", phase)
		}
		return nil
	})
	if got := c.kubectl("logs", "folder"); got != "image written\n" {
		t.Errorf("log %q", got)
	}
}
