package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead/fairlead/dataplane/model"
)

// serviceServers answer on healthCheckNodePorts: one listener for each port and node port address.
type serviceServers struct {
	log     logr.Logger
	healthy func() bool

	mu      sync.Mutex
	closed  bool
	servers map[netip.AddrPort]*serviceServer
	retry   *time.Timer // nil: no listener is missing
}

// serviceServer is one listener. Its check changes while it runs.
type serviceServer struct {
	server *http.Server
	mu     sync.Mutex
	check  model.HealthCheck
	failed string // last logged
}

func newServiceServers(log logr.Logger, healthy func() bool) *serviceServers {
	return &serviceServers{log: log, healthy: healthy, servers: map[netip.AddrPort]*serviceServer{}}
}

// sync listens where it must, and only there. A port that somebody else holds is tried again; it harms no other.
func (s *serviceServers) sync(checks []model.HealthCheck, on model.NodePortAddresses) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	wanted := map[netip.AddrPort]model.HealthCheck{}
	for _, check := range checks {
		for _, addr := range listenAddresses(check.Family, on) {
			// The API server gives each port to one Service; if not, the first one has it.
			at := netip.AddrPortFrom(addr, check.Port)
			if _, taken := wanted[at]; !taken {
				wanted[at] = check
			}
		}
	}
	for at, server := range s.servers {
		if _, ok := wanted[at]; !ok {
			server.close()
			delete(s.servers, at)
		}
	}
	for at, check := range wanted {
		server := s.servers[at]
		if server == nil {
			server = &serviceServer{}
			s.servers[at] = server
		}
		server.set(check)
	}
	s.listenAll()
}

// listenAll opens the listeners that are missing, and comes back for those that cannot be opened.
func (s *serviceServers) listenAll() {
	missing := false
	for at, server := range s.servers {
		if server.server == nil && !s.listen(at, server) {
			missing = true
		}
	}
	if s.retry != nil {
		s.retry.Stop()
		s.retry = nil
	}
	if missing {
		s.retry = time.AfterFunc(listenAgain, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.listenAll()
		})
	}
}

func (s *serviceServers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, server := range s.servers {
		server.close()
	}
	clear(s.servers)
	if s.retry != nil {
		s.retry.Stop()
	}
}

// listenAddresses are those of node ports of the family, the unspecified one for all.
func listenAddresses(family uint8, on model.NodePortAddresses) []netip.Addr {
	switch {
	case family == 4 && on.AllIPv4:
		return []netip.Addr{netip.IPv4Unspecified()}
	case family == 6 && on.AllIPv6:
		return []netip.Addr{netip.IPv6Unspecified()}
	}
	var out []netip.Addr
	for _, addr := range on.Addrs {
		if addr.Is4() == (family == 4) {
			out = append(out, addr)
		}
	}
	return out
}

// listen says whether it could.
func (s *serviceServers) listen(at netip.AddrPort, server *serviceServer) bool {
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6" // sets IPV6_V6ONLY, so that both families can share a port
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), network, at.String())
	if err != nil {
		if server.failed != err.Error() {
			server.failed = err.Error()
			s.log.Error(fmt.Errorf("listening on %s: %w", at, err), "Cannot serve a healthCheckNodePort", "service", server.get().Service)
		}
		return false
	}
	server.server = &http.Server{
		Handler:           server.handler(s.healthy),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
	}
	go func(server *http.Server) {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error(err, "Stopped serving a healthCheckNodePort", "address", at)
		}
	}(server.server)
	return true
}

func (s *serviceServer) close() {
	if s.server != nil {
		// Open connections end too: a load balancer must not go on asking a closed one.
		_ = s.server.Close()
	}
}

func (s *serviceServer) set(check model.HealthCheck) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.check = check
}

func (s *serviceServer) get() model.HealthCheck {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.check
}

// serviceReport is the body, in kube-proxy's form.
type serviceReport struct {
	Service             serviceName `json:"service"`
	LocalEndpoints      int         `json:"localEndpoints"`
	ServiceProxyHealthy bool        `json:"serviceProxyHealthy"`
}

type serviceName struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// handler answers 200 while the node has endpoints of the Service and the dataplane is healthy, else 503, whatever the
// path.
func (s *serviceServer) handler(healthy func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		check := s.get()
		r := serviceReport{Service: serviceName(check.Service), LocalEndpoints: check.LocalEndpoints, ServiceProxyHealthy: healthy()}
		body, err := json.MarshalIndent(r, "", "\t")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		code := http.StatusServiceUnavailable
		if r.LocalEndpoints > 0 && r.ServiceProxyHealthy {
			code = http.StatusOK
		}
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.Itoa(r.LocalEndpoints))
		writeJSON(w, code, body)
	})
}
