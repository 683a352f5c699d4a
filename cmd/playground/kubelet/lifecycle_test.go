package kubelet

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func testMissingImage(t *testing.T, c *cluster) {
	c.eventually("the Pod waits for its image", func() error {
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
	c.eventually("the Pod is in its crash loop", func() error {
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
	c.eventually("the probe has the container restarted", func() error {
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
		var stopped time.Time
		c.eventually(name+" stops answering", func() error {
			conn, err := net.DialTimeout("tcp", address, patience)
			if err != nil {
				stopped = time.Now()
				return nil
			}
			return fmt.Errorf("it answers (%w)", conn.Close())
		})
		if served := stopped.Sub(begin); served < 3*time.Second {
			t.Errorf("%s served for less than %s after its deletion, not for its hook's 3 s", name, served)
		}
		c.eventually(name+" is gone", func() error { return c.gone(name) })
	}
	begin := time.Now()
	c.kubectl("delete", "pod", "deaf", "--wait=false")
	c.eventually("the deaf Pod is gone", func() error { return c.gone("deaf") })
	if took := time.Since(begin); took < 2*time.Second {
		t.Errorf("a Pod with a grace period of 2 s was gone after %s", took)
	}
}

// testRuntimeRestart kills the runtime: the containers end with it, and the kubelet makes new ones.
func testRuntimeRestart(t *testing.T, c *cluster) {
	before := c.pod("web").Status.ContainerStatuses[0].ContainerID
	c.restartRuntime()
	c.eventually("the Pod has a new container", func() error {
		if now := c.pod("web").Status.ContainerStatuses[0].ContainerID; now == before {
			return fmt.Errorf("it is still %s", now)
		}
		return c.podReady("web")
	})
	ask(t, "http", net.JoinHostPort(c.pod("web").Status.PodIP, "80"))
}

func testNothingLeft(t *testing.T, c *cluster) {
	c.kubectl("delete", "pods", "--all", "--grace-period=1", "--wait=false")
	c.eventually("all Pods are gone", func() error {
		list, err := c.client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		if err == nil && len(list.Items) > 0 {
			err = fmt.Errorf("%d are left", len(list.Items))
		}
		return err
	})
	c.eventually("nothing is left of them", func() error {
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
