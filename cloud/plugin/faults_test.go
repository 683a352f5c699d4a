package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/plugin"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

// stub is a plugin in this process that does what the test says.
type stub struct {
	pluginv1alpha1.UnimplementedProviderServer
	hello   *pluginv1alpha1.HelloResponse
	observe func(context.Context, func(*pluginv1alpha1.Resources) error) error
	create  func() *pluginv1alpha1.CreateResponse
	sync    *pluginv1alpha1.SyncTargetsResponse
	hellos  atomic.Int32
}

func (s *stub) Hello(context.Context, *pluginv1alpha1.HelloRequest) (*pluginv1alpha1.HelloResponse, error) {
	s.hellos.Add(1)
	if s.hello != nil {
		return s.hello, nil
	}
	return &pluginv1alpha1.HelloResponse{Contract: plugin.Contract,
		Capabilities: &pluginv1alpha1.Capabilities{Protocols: []string{"TCP"}, Families: []string{"IPv4"}}}, nil
}

func (s *stub) Observe(_ *pluginv1alpha1.ObserveRequest, stream grpc.ServerStreamingServer[pluginv1alpha1.Resources]) error {
	return s.observe(stream.Context(), stream.Send)
}

func (s *stub) Create(context.Context, *pluginv1alpha1.CreateRequest) (*pluginv1alpha1.CreateResponse, error) {
	return s.create(), nil
}

func (s *stub) SyncTargets(stream grpc.ClientStreamingServer[pluginv1alpha1.TargetChange, pluginv1alpha1.SyncTargetsResponse]) error {
	return stream.SendAndClose(s.sync)
}

// serve listens for a stub and returns its socket.
func (s *stub) serve(t *testing.T) string {
	t.Helper()
	socket := folder(t) + "/plugin"
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pluginv1alpha1.RegisterProviderServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return socket
}

// unavailable asks until the error says the words, and checks that it is the one for a plugin that cannot be asked: on a busy
// machine a plugin may not have said hello for a while, and the one before it be still on its way out.
func unavailable(t *testing.T, ask func() error, socket string, words ...string) {
	t.Helper()
	eventually(t, func() error {
		err := ask()
		e := cloud.Classify(err)
		if err == nil || e.Class != cloud.RetryAfter || e.After <= 0 {
			t.Fatalf("got %v, want one of class RetryAfter", err)
		}
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("%q is more than one line", err)
		}
		for _, word := range append(words, socket, `plugin "rack"`) {
			if !strings.Contains(err.Error(), word) {
				return fmt.Errorf("%w: that does not say %q", err, word)
			}
		}
		return nil
	})
}

// dial makes a client, and has no use for it.
func dial(socket string) error {
	_, err := plugin.New(plugin.Options{Name: "rack", Socket: socket})
	return err
}

// observe makes a call.
func observe(client *plugin.Client) error {
	_, err := client.Observe(context.Background(), cloud.Owner{})
	return err
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	unavailable(t, func() error { return dial(socket) }, socket, "no such file")
}

// TestMute: of all who ask for a plugin that listens and does not answer, only the first waits, and it is asked once.
func TestMute(t *testing.T) {
	t.Parallel()
	socket := folder(t) + "/plugin"
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			defer conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close(); <-done })
	providers := cloud.NewProviders(func(string) (cloud.Config, error) { return cloud.Config{}, nil },
		map[string]cloud.Factory{"rack": plugin.Factory(plugin.Options{Name: "rack", Socket: socket})})
	for range 5 {
		unavailable(t, func() error {
			_, err := providers.Get("rack")
			return err
		}, socket, "hello")
	}
	eventually(t, func() error {
		if asked.Load() == 0 {
			return errNotYet
		}
		return nil
	})
	if n := asked.Load(); n != 1 {
		t.Errorf("the plugin was asked %d times at once", n)
	}
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	s := &stub{hello: &pluginv1alpha1.HelloResponse{Contract: plugin.Contract + 1}}
	socket := s.serve(t)
	for range 3 {
		unavailable(t, func() error { return dial(socket) }, socket, fmt.Sprint("version ", plugin.Contract+1), fmt.Sprint("version ", plugin.Contract), "built for this manager")
	}
}

func TestIncapable(t *testing.T) {
	t.Parallel()
	s := &stub{hello: &pluginv1alpha1.HelloResponse{Contract: plugin.Contract}}
	socket := s.serve(t)
	unavailable(t, func() error { return dial(socket) }, socket, "protocol")
}

// TestGarbage: something else listens, which talks, hangs up, or says nothing.
func TestGarbage(t *testing.T) {
	t.Parallel()
	cases := map[string]func(net.Conn){
		"Noise": func(conn net.Conn) {
			noise := rand.New(rand.NewSource(1))
			for {
				block := make([]byte, 4096)
				noise.Read(block)
				if _, err := conn.Write(block); err != nil {
					return
				}
			}
		},
		"HTTP":    func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"HangsUp": func(net.Conn) {},
		"Silence": func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1<<20)); _, _ = conn.Read(make([]byte, 1)) },
	}
	for name, talk := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket := folder(t) + "/plugin"
			listener, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				for {
					conn, err := listener.Accept()
					if err != nil {
						return
					}
					go func() {
						defer conn.Close()
						talk(conn)
					}()
				}
			}()
			eventually(t, func() error { // a busy machine may keep a caller for as long, but not each of them
				began := time.Now()
				unavailable(t, func() error { return dial(socket) }, socket)
				if took := time.Since(began); took > 2*time.Second {
					return fmt.Errorf("the caller was kept for %s", took)
				}
				return nil
			})
		})
	}
}

// TestSlow: a call that is not answered ends in time, and a plugin that does not answer at all any more keeps nobody
// waiting.
func TestSlow(t *testing.T) {
	t.Parallel()
	s := &stub{observe: func(ctx context.Context, _ func(*pluginv1alpha1.Resources) error) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	client := connect(t, plugin.Options{Name: "rack", Socket: s.serve(t), Timeout: 50 * time.Millisecond})
	if err := observe(client); !cloud.IsClass(err, cloud.Retry) || !strings.Contains(err.Error(), "Observe takes longer than 50ms") {
		t.Errorf("got %v", err)
	}
	hellos := s.hellos.Load()
	eventually(t, func() error { // it may be late with its hello
		if err := observe(client); !cloud.IsClass(err, cloud.Retry) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	if s.hellos.Load() == hellos {
		t.Error("a plugin that was slow is not asked for hello before the next call")
	}
}

// TestCancelled: the plugin hears that the caller gave up, and the error says so.
func TestCancelled(t *testing.T) {
	t.Parallel()
	called, heard := make(chan struct{}), make(chan struct{})
	s := &stub{observe: func(ctx context.Context, _ func(*pluginv1alpha1.Resources) error) error {
		close(called)
		<-ctx.Done()
		close(heard)
		return ctx.Err()
	}}
	client := connect(t, plugin.Options{Name: "rack", Socket: s.serve(t)})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-called
		cancel()
	}()
	began := time.Now()
	if _, err := client.Observe(ctx, cloud.Owner{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-heard
	if took := time.Since(began); took > plugin.DefaultTimeout/2 {
		t.Errorf("it took %s", took)
	}
}

// TestHuge: an answer is not bounded by the size of a message, and one that has no end does not end the manager.
func TestHuge(t *testing.T) {
	t.Parallel()
	const services, targets = 1000, 1000
	resource := &pluginv1alpha1.Resource{Kind: "TargetSet", Key: "tcp-80", HasTargets: true}
	for i := range targets {
		resource.Targets = append(resource.Targets, &pluginv1alpha1.Target{Id: fmt.Sprintf("172.30.%d.%d", i/256, i%256)})
	}
	endless := false
	s := &stub{observe: func(_ context.Context, send func(*pluginv1alpha1.Resources) error) error {
		part := &pluginv1alpha1.Resources{}
		for range 100 {
			part.Resources = append(part.Resources, resource)
		}
		for i := 0; i < services/100 || endless; i++ {
			if err := send(part); err != nil {
				return err
			}
		}
		return nil
	}}
	client := connect(t, plugin.Options{Name: "rack", Socket: s.serve(t)})
	resources, err := client.Observe(context.Background(), cloud.Owner{})
	if err != nil || len(resources) != services || len(resources[services-1].Targets) != targets {
		t.Errorf("got %d resources and %v", len(resources), err)
	}
	endless = true
	plugin.BoundAnswers(client, 1<<20)
	if _, err := client.Observe(context.Background(), cloud.Owner{}); !cloud.IsClass(err, cloud.Retry) || !strings.Contains(err.Error(), "MiB") {
		t.Errorf("got %v", err)
	}
}

// TestSenseless: answers that a plugin must not give are errors, not resources.
func TestSenseless(t *testing.T) {
	t.Parallel()
	s := &stub{
		create: func() *pluginv1alpha1.CreateResponse { return &pluginv1alpha1.CreateResponse{} },
		sync:   &pluginv1alpha1.SyncTargetsResponse{Results: []*pluginv1alpha1.Result{{}}},
	}
	client := connect(t, plugin.Options{Name: "rack", Socket: s.serve(t)})
	if made, err := client.Create(context.Background(), cloud.Owner{}, cloud.Resource{}); err == nil {
		t.Errorf("got %v without an id", made)
	}
	for i, err := range client.SyncTargets(context.Background(), make([]cloud.TargetChange, 2)) {
		if err == nil {
			t.Errorf("change %d passed for done, with one result for two changes", i)
		}
	}
	if errs := client.SyncTargets(context.Background(), make([]cloud.TargetChange, 1)); errors.Join(errs...) != nil {
		t.Errorf("got %v for a success", errs)
	}
	if err := client.Delete(context.Background(), cloud.Owner{}, cloud.Resource{}); err == nil || !strings.Contains(err.Error(), "no Delete") {
		t.Errorf("got %v from a plugin without Delete", err)
	}
}
