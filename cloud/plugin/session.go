package plugin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

const (
	// comeAgain is how long the core waits before it asks for a plugin again that is not there.
	comeAgain = 5 * time.Second
	// helloWithin is how long a plugin may take to say hello.
	helloWithin = 3 * time.Second
	// patience is how long a call waits for another's try to connect. After the first that waited in vain, none does until
	// that try ends: a plugin that hangs must not keep the manager's workers from other providers.
	patience = 500 * time.Millisecond
)

// session is one connection on which the plugin has said hello.
type session struct {
	conn *grpc.ClientConn
	stub pluginv1alpha1.ProviderClient
	// doubted: a call was not answered in time. Before the next call the plugin has to say hello again.
	doubted atomic.Bool
}

// try is one try to connect, shared by all calls meanwhile.
type try struct {
	done    chan struct{}
	slow    atomic.Bool
	session *session
	err     error
}

// dialer keeps a session to one plugin, made when it is asked for.
type dialer struct {
	name, socket string
	timeout      time.Duration // of the longest call
	limits       cloud.LimitOverrides
	// said gets the capabilities with each hello, before anybody gets the session.
	said func(cloud.Capabilities)

	mu      sync.Mutex
	current *session
	trying  *try
	// refused is what the last hello came to, where the plugin was there and did not say it rightly, for all who ask
	// before until.
	refused error
	until   time.Time
}

// session returns a connection that works, as far as is known, or an error of class RetryAfter.
func (d *dialer) session(ctx context.Context) (*session, error) {
	d.mu.Lock()
	if s := d.current; s != nil && s.conn.GetState() == connectivity.Ready && !s.doubted.Load() {
		d.mu.Unlock()
		return s, nil
	}
	if time.Now().Before(d.until) {
		defer d.mu.Unlock()
		return nil, d.refused
	}
	t := d.trying
	if t == nil {
		t = &try{done: make(chan struct{})}
		d.trying = t
		go d.try(t, d.current)
	}
	d.mu.Unlock()
	if t.slow.Load() {
		return nil, d.unavailable(errStarting)
	}
	waited := time.NewTimer(patience)
	defer waited.Stop()
	select {
	case <-t.done:
		return t.session, t.err
	case <-waited.C:
		t.slow.Store(true)
		return nil, d.unavailable(errStarting)
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for plugin %q: %w", d.name, ctx.Err())
	}
}

// try takes up the connection that there is, if it still stands, or makes a new one, and has the plugin say hello.
func (d *dialer) try(t *try, old *session) {
	ctx, cancel := context.WithTimeout(context.Background(), helloWithin)
	defer cancel()
	s, there, err := old, true, error(nil)
	if old == nil || old.conn.GetState() != connectivity.Ready {
		s, there, err = d.dial(ctx)
	}
	if err == nil {
		err = d.hello(ctx, s)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer close(t.done)
	d.trying, d.current = nil, nil
	if err == nil {
		s.doubted.Store(false)
		d.current, t.session = s, s
	} else {
		t.err = d.unavailable(err)
		if there {
			d.refused, d.until = t.err, time.Now().Add(comeAgain)
		}
		d.retire(s)
	}
	if old != s {
		d.retire(old)
	}
}

// retire closes a connection once the calls that may still be under way on it are over: a plugin that stops gracefully lets
// them end.
func (d *dialer) retire(s *session) {
	if s != nil {
		time.AfterFunc(d.timeout, func() { _ = s.conn.Close() })
	}
}

// dial connects to the socket. The connection is never made anew behind our back, since every one begins with hello.
// there: somebody listens.
func (d *dialer) dial(ctx context.Context) (s *session, there bool, err error) {
	socket, err := (&net.Dialer{}).DialContext(ctx, "unix", d.socket)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return nil, false, err
	}
	var once sync.Once
	only := func(context.Context, string) (net.Conn, error) {
		conn, err := net.Conn(nil), errGone
		once.Do(func() { conn, err = socket, nil })
		return conn, err
	}
	conn, err := grpc.NewClient("passthrough:///plugin", grpc.WithContextDialer(only),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithIdleTimeout(0), grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, true, errors.Join(err, socket.Close())
	}
	return &session{conn: conn, stub: pluginv1alpha1.NewProviderClient(conn)}, true, nil
}

// hello checks that both sides speak the same contract.
func (d *dialer) hello(ctx context.Context, s *session) error {
	answer, err := s.stub.Hello(ctx, &pluginv1alpha1.HelloRequest{Contract: Contract})
	switch status.Code(err) {
	case codes.OK:
	case codes.DeadlineExceeded:
		return fmt.Errorf("it does not say hello within %s", helloWithin)
	default:
		return errNoPlugin
	}
	if answer.GetContract() != Contract {
		return fmt.Errorf("it speaks version %d of the contract and this manager version %d: use one that was built for this manager",
			answer.GetContract(), Contract)
	}
	capabilities := fromCapabilities(answer.GetCapabilities())
	if len(capabilities.Protocols) == 0 || len(capabilities.Families) == 0 {
		return errIncapable
	}
	if err := d.limits.Within(capabilities.Limits); err != nil {
		return err
	}
	d.said(capabilities)
	return nil
}

// unavailable is the one error for a plugin that cannot be asked, whatever the reason.
func (d *dialer) unavailable(reason error) error {
	return &cloud.Error{Class: cloud.RetryAfter, After: comeAgain, Err: fmt.Errorf("plugin %q at %s: %w", d.name, d.socket, reason)}
}

func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.current != nil {
		_ = d.current.conn.Close()
		d.current = nil
	}
}

var (
	errStarting  = errors.New("it has not said hello yet")
	errGone      = errors.New("it went away")
	errNoPlugin  = errors.New("what listens there does not speak the contract of a plugin")
	errIncapable = errors.New("it names no protocol or no family that it can do")
)
