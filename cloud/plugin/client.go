package plugin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

// Defaults and bounds of a client.
const (
	// DefaultTimeout of calls that reach the cloud.
	DefaultTimeout = time.Minute
	// desiredWithin is how long Desired may take, which reaches no cloud.
	desiredWithin = 5 * time.Second
	// maxAnswer bounds the resources of one answer, in bytes: a plugin that never ends must not end the manager.
	maxAnswer = 256 << 20
)

// Options say where a plugin is.
type Options struct {
	// Name of the provider, for messages.
	Name string
	// Socket is the path of the plugin's socket.
	Socket string
	// Timeout of each call that reaches the cloud. 0: DefaultTimeout.
	Timeout time.Duration
	// Limits that the manager keeps to instead of the plugin's. They can only be lower: the plugin keeps to its own.
	Limits cloud.LimitOverrides
}

// Client is the provider that a plugin serves. It connects when it is called, and again after the plugin was restarted.
type Client struct {
	dialer    dialer
	timeout   time.Duration
	maxAnswer int
	// capabilities that the plugin said last.
	capabilities atomic.Pointer[cloud.Capabilities]
}

var _ cloud.Provider = (*Client)(nil)

// New returns the client of a plugin that has said hello. The error is of class RetryAfter: the plugin is not there, or not
// yet, or is none.
func New(options Options) (*Client, error) {
	c := silent(options)
	if _, err := c.dialer.session(context.Background()); err != nil {
		return nil, err
	}
	return c, nil
}

// silent is a client of a plugin that has not said anything.
func silent(options Options) *Client {
	c := &Client{timeout: cmp.Or(options.Timeout, DefaultTimeout), maxAnswer: maxAnswer}
	c.dialer = dialer{name: options.Name, socket: options.Socket, timeout: max(c.timeout, desiredWithin), limits: options.Limits,
		said: func(said cloud.Capabilities) { c.capabilities.Store(&said) }}
	return c
}

// Factory makes the plugin known to a cloud.Providers, as New would. Whoever asks while it does not answer waits no more than
// for one client: all of them have the same.
func Factory(options Options) cloud.Factory {
	var mu sync.Mutex
	var c *Client
	return func(config cloud.Config) (cloud.Provider, error) {
		mu.Lock()
		defer mu.Unlock()
		if c == nil {
			options.Limits = config.Limits
			c = silent(options)
		}
		if _, err := c.dialer.session(context.Background()); err != nil {
			return nil, err
		}
		return c, nil
	}
}

// Close ends the connection. A later call makes a new one.
func (c *Client) Close() { c.dialer.close() }

// Capabilities implements cloud.Provider: what the plugin said when it was connected to last.
func (c *Client) Capabilities() cloud.Capabilities { return *c.capabilities.Load() }

// Classify implements cloud.Provider. The plugin has classified its own.
func (c *Client) Classify(err error) *cloud.Error { return cloud.Classify(err) }

// Desired implements cloud.Provider. An error of another class than UserError says nothing about the Spec: the plugin
// could not be asked.
func (c *Client) Desired(spec cloud.Spec) (resources []cloud.Resource, err error) {
	err = c.call(context.Background(), "Desired", desiredWithin, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		stream, err := stub.Desired(ctx, &pluginv1alpha1.DesiredRequest{Spec: toSpec(spec)})
		resources, err = c.receive(stream, err)
		return err
	})
	return resources, err
}

// Observe implements cloud.Provider.
func (c *Client) Observe(ctx context.Context, owner cloud.Owner) (resources []cloud.Resource, err error) {
	request := &pluginv1alpha1.ObserveRequest{Owner: toOwner(owner), Priority: toPriority(cloud.PriorityOf(ctx))}
	err = c.call(ctx, "Observe", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		stream, err := stub.Observe(ctx, request)
		resources, err = c.receive(stream, err)
		return err
	})
	return resources, err
}

// List implements cloud.Provider.
func (c *Client) List(ctx context.Context, clusterID string) (resources []cloud.Resource, err error) {
	request := &pluginv1alpha1.ListRequest{ClusterId: clusterID, Priority: toPriority(cloud.PriorityOf(ctx))}
	err = c.call(ctx, "List", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		stream, err := stub.List(ctx, request)
		resources, err = c.receive(stream, err)
		return err
	})
	return resources, err
}

// receive gathers the parts of an answer. Beside an error that the plugin said it returns what came before it.
func (c *Client) receive(stream grpc.ServerStreamingClient[pluginv1alpha1.Resources], err error) ([]cloud.Resource, error) {
	if err != nil {
		return nil, err
	}
	var resources []cloud.Resource
	for size := 0; ; {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return resources, nil
		}
		if err != nil {
			return nil, err
		}
		if size += proto.Size(part); size > c.maxAnswer {
			return nil, status.Errorf(codes.ResourceExhausted, "the answer is larger than %d MiB", c.maxAnswer>>20)
		}
		for _, resource := range part.GetResources() {
			resources = append(resources, fromResource(resource))
		}
		if part.GetError() != nil {
			return resources, fromError(part.GetError())
		}
	}
}

// Create implements cloud.Provider.
func (c *Client) Create(ctx context.Context, owner cloud.Owner, desired cloud.Resource) (made cloud.Resource, err error) {
	request := &pluginv1alpha1.CreateRequest{Owner: toOwner(owner), Desired: toResource(desired), Priority: toPriority(cloud.PriorityOf(ctx))}
	err = c.call(ctx, "Create", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		answer, err := stub.Create(ctx, request)
		switch {
		case err != nil:
			return err
		case answer.GetError() != nil:
			return fromError(answer.GetError())
		case answer.GetResource().GetId() == "":
			return status.Error(codes.Internal, "what was created has no id")
		}
		made = fromResource(answer.GetResource())
		return nil
	})
	return made, err
}

// Update implements cloud.Provider.
func (c *Client) Update(ctx context.Context, owner cloud.Owner, observed, desired cloud.Resource) error {
	request := &pluginv1alpha1.UpdateRequest{Owner: toOwner(owner), Observed: toResource(observed), Desired: toResource(desired),
		Priority: toPriority(cloud.PriorityOf(ctx))}
	return c.call(ctx, "Update", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		answer, err := stub.Update(ctx, request)
		if err != nil {
			return err
		}
		return fromError(answer.GetError())
	})
}

// Delete implements cloud.Provider.
func (c *Client) Delete(ctx context.Context, owner cloud.Owner, observed cloud.Resource) error {
	request := &pluginv1alpha1.DeleteRequest{Owner: toOwner(owner), Observed: toResource(observed)}
	return c.call(ctx, "Delete", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		answer, err := stub.Delete(ctx, request)
		if err != nil {
			return err
		}
		return fromError(answer.GetError())
	})
}

// SyncTargets implements cloud.Provider. Where the plugin could not be asked, every change has failed.
func (c *Client) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	var results []*pluginv1alpha1.Result
	err := c.call(ctx, "SyncTargets", c.timeout, func(ctx context.Context, stub pluginv1alpha1.ProviderClient) error {
		stream, err := stub.SyncTargets(ctx)
		if err != nil {
			return err
		}
		for _, change := range changes {
			if err := stream.Send(toChange(change)); err != nil {
				break // CloseAndRecv says why
			}
		}
		answer, err := stream.CloseAndRecv()
		results = answer.GetResults()
		if err == nil && len(results) != 0 && len(results) != len(changes) {
			err = status.Errorf(codes.Internal, "there are %d results for %d changes", len(results), len(changes))
		}
		return err
	})
	if err == nil && len(results) == 0 {
		return nil
	}
	errs := make([]error, len(changes))
	for i := range errs {
		if errs[i] = err; err == nil {
			errs[i] = fromError(results[i].GetError())
		}
	}
	return errs
}

// call makes one call within the time. Its error is the plugin's own (*cloud.Error), that of a plugin that cannot be asked,
// or that of a context that ended.
func (c *Client) call(ctx context.Context, method string, within time.Duration,
	do func(context.Context, pluginv1alpha1.ProviderClient) error) error {
	s, err := c.dialer.session(ctx)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err = do(bounded, s.stub)
	if err == nil {
		return nil
	}
	if _, said := errors.AsType[*cloud.Error](err); said {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("calling plugin %q: %w", c.dialer.name, ctx.Err())
	}
	switch broken := status.Convert(err); broken.Code() {
	case codes.Unavailable, codes.Canceled:
		return c.dialer.unavailable(errGone)
	case codes.DeadlineExceeded:
		s.doubted.Store(true)
		return c.failed("%s takes longer than %s", method, within)
	case codes.Unimplemented:
		return c.failed("it has no %s", method)
	default:
		return c.failed("%s: %s", method, strings.Join(strings.Fields(broken.Message()), " "))
	}
}

// failed is the error of a plugin that is there and does not do what it has to.
func (c *Client) failed(format string, args ...any) error {
	return cloud.Errorf(cloud.Retry, "plugin %q at %s: %w", c.dialer.name, c.dialer.socket, fmt.Errorf(format, args...))
}
