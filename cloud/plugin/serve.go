package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

const (
	// stopWithin is how long calls may take to end once the plugin is to stop: below a Pod's usual grace period.
	stopWithin = 20 * time.Second
	// lookEvery is how often a plugin looks whether its socket is still there.
	lookEvery = time.Second
	// partSize is about how large a part of a long answer is, in bytes.
	partSize = 1 << 20
)

// Serve serves a provider on a unix socket until ctx ends, and then lets the calls that are under way end, for 20 seconds
// at most. The socket is readable and writable by this process's user alone; whatever an earlier run left in its place is
// replaced, but not the socket of a plugin that still answers, which is an error, as is any other reason why it cannot
// serve. So is a socket that was removed, or replaced, while it serves: nobody could find it any more, and whoever started
// it can start it again.
func Serve(ctx context.Context, socket string, provider cloud.Provider) error {
	if provider.Capabilities().Opaque {
		return errOpaque
	}
	listener, err := listen(socket)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", socket, err)
	}
	defer listener.remove()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	pluginv1alpha1.RegisterProviderServer(server, newService(provider))
	stopped := make(chan struct{})
	serving, cancel := context.WithCancel(ctx)
	var lost error
	go func() {
		defer close(stopped)
		lost = listener.watch(serving)
		hurry := time.AfterFunc(stopWithin, server.Stop)
		defer hurry.Stop()
		server.GracefulStop()
	}()
	err = server.Serve(listener)
	cancel()
	<-stopped
	if lost != nil {
		err = lost
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("serving on %s: %w", socket, err)
	}
	return nil
}

var errOpaque = errors.New("an Opaque provider needs Service and Nodes as objects, which do not leave the manager: link it into that")

// socketListener is a listener whose socket was made under another name.
type socketListener struct {
	net.Listener
	path string
	made os.FileInfo
}

// listen makes the socket under a name of its own and then gives it its name, so that nobody finds it before its
// permissions are set, and one that a killed process left behind is no obstacle.
func listen(socket string) (*socketListener, error) {
	if conn, err := net.Dial("unix", socket); err == nil {
		_ = conn.Close()
		return nil, errors.New("another process serves there")
	}
	if info, err := os.Lstat(socket); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, errors.New("there is something that is no socket")
	}
	fresh := fmt.Sprintf("%s.%d", socket, os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	listener.SetUnlinkOnClose(false)
	made, err := os.Lstat(fresh)
	if err == nil {
		err = os.Chmod(fresh, 0o600)
	}
	if err == nil {
		err = os.Rename(fresh, socket)
	}
	if err != nil {
		return nil, errors.Join(err, listener.Close(), os.Remove(fresh))
	}
	return &socketListener{Listener: listener, path: socket, made: made}, nil
}

// watch returns when ctx ends, or else an error when the socket is no longer there.
func (l *socketListener) watch(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		switch there, err := os.Lstat(l.path); {
		case errors.Is(err, os.ErrNotExist):
			return errors.New("the socket was removed")
		case err == nil && !os.SameFile(there, l.made):
			return errors.New("another process has put its own socket in this place")
		}
	}
}

// remove takes the socket away, unless another process has put its own there.
func (l *socketListener) remove() {
	if there, err := os.Lstat(l.path); err == nil && os.SameFile(there, l.made) {
		_ = os.Remove(l.path)
	}
}

// service is a provider as the wire calls it.
type service struct {
	pluginv1alpha1.UnimplementedProviderServer
	provider     cloud.Provider
	capabilities *pluginv1alpha1.Capabilities
}

// newService keeps the provider to its limits, since what a method sends beyond its first call is seen here only.
func newService(provider cloud.Provider) *service {
	capabilities := provider.Capabilities()
	return &service{provider: cloud.Limited(provider, capabilities.Limits), capabilities: toCapabilities(capabilities)}
}

// Hello implements pluginv1alpha1.ProviderServer, as the other methods do.
func (s *service) Hello(context.Context, *pluginv1alpha1.HelloRequest) (*pluginv1alpha1.HelloResponse, error) {
	return &pluginv1alpha1.HelloResponse{Contract: Contract, Capabilities: s.capabilities}, nil
}

type resourceStream = grpc.ServerStreamingServer[pluginv1alpha1.Resources]

func (s *service) Desired(request *pluginv1alpha1.DesiredRequest, stream resourceStream) error {
	spec, err := fromSpec(request.GetSpec())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	resources, err := s.provider.Desired(spec)
	return s.send(stream, resources, err)
}

func (s *service) Observe(request *pluginv1alpha1.ObserveRequest, stream resourceStream) error {
	ctx := cloud.WithPriority(stream.Context(), fromPriority(request.GetPriority()))
	resources, err := s.provider.Observe(ctx, fromOwner(request.GetOwner()))
	return s.send(stream, resources, err)
}

func (s *service) List(request *pluginv1alpha1.ListRequest, stream resourceStream) error {
	ctx := cloud.WithPriority(stream.Context(), fromPriority(request.GetPriority()))
	resources, err := s.provider.List(ctx, request.GetClusterId())
	return s.send(stream, resources, err)
}

// send sends resources in parts, the last one with the error.
func (s *service) send(stream resourceStream, resources []cloud.Resource, err error) error {
	part, size := &pluginv1alpha1.Resources{}, 0
	for i := range resources {
		resource := toResource(resources[i])
		part.Resources = append(part.Resources, resource)
		if size += proto.Size(resource); size < partSize {
			continue
		}
		if err := stream.Send(part); err != nil {
			return err
		}
		part, size = &pluginv1alpha1.Resources{}, 0
	}
	part.Error = toError(s.provider, err)
	return stream.Send(part)
}

func (s *service) Create(ctx context.Context, request *pluginv1alpha1.CreateRequest) (*pluginv1alpha1.CreateResponse, error) {
	ctx = cloud.WithPriority(ctx, fromPriority(request.GetPriority()))
	made, err := s.provider.Create(ctx, fromOwner(request.GetOwner()), fromResource(request.GetDesired()))
	if err != nil {
		return &pluginv1alpha1.CreateResponse{Error: toError(s.provider, err)}, nil
	}
	return &pluginv1alpha1.CreateResponse{Resource: toResource(made)}, nil
}

func (s *service) Update(ctx context.Context, request *pluginv1alpha1.UpdateRequest) (*pluginv1alpha1.UpdateResponse, error) {
	ctx = cloud.WithPriority(ctx, fromPriority(request.GetPriority()))
	err := s.provider.Update(ctx, fromOwner(request.GetOwner()), fromResource(request.GetObserved()), fromResource(request.GetDesired()))
	return &pluginv1alpha1.UpdateResponse{Error: toError(s.provider, err)}, nil
}

func (s *service) Delete(ctx context.Context, request *pluginv1alpha1.DeleteRequest) (*pluginv1alpha1.DeleteResponse, error) {
	err := s.provider.Delete(ctx, fromOwner(request.GetOwner()), fromResource(request.GetObserved()))
	return &pluginv1alpha1.DeleteResponse{Error: toError(s.provider, err)}, nil
}

func (s *service) SyncTargets(stream grpc.ClientStreamingServer[pluginv1alpha1.TargetChange, pluginv1alpha1.SyncTargetsResponse]) error {
	var changes []cloud.TargetChange
	for {
		change, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		changes = append(changes, fromChange(change))
	}
	response := &pluginv1alpha1.SyncTargetsResponse{}
	for _, err := range s.provider.SyncTargets(stream.Context(), changes) {
		response.Results = append(response.Results, &pluginv1alpha1.Result{Error: toError(s.provider, err)})
	}
	return stream.SendAndClose(response)
}
