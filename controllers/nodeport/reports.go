package nodeport

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Reports is how node agents are asked which programs listen on node ports of Services.
type Reports struct {
	// Port is where agents answer. 0: nobody is asked.
	Port uint16
	// Interval is the time between two questions to one agent.
	Interval time.Duration
	// Identity is the certificate by which agents know the manager.
	Identity func(*tls.CertificateRequestInfo) (*tls.Certificate, error)
}

const (
	// askedAtOnce bounds the agents that are asked at the same time, answerWithin each answer, and answerSize its bytes.
	askedAtOnce  = 32
	answerWithin = 3 * time.Second
	answerSize   = 1 << 20
	// believedFor is how long the last report of a node counts that tells nothing any more, and how long nothing is taken
	// back for want of the report of a node that never told anything.
	believedFor = 10 * time.Minute
)

// listener is a program that a node tells of.
type listener struct {
	Namespace   string `json:"namespace"`
	Service     string `json:"service"`
	Protocol    string `json:"protocol"`
	Port        int    `json:"port"`
	HealthCheck bool   `json:"healthCheckNodePort"`
	Listener    string `json:"listener"`
	Process     string `json:"process"`

	node string
}

// gatherer asks node agents, and says on Services what they tell. It runs where the manager leads.
type gatherer struct {
	teller
	reports Reports
	agents  *http.Client
	now     func() time.Time
	// nodes are those that are there, by name.
	nodes map[string]*heard
}

// heard is what a node told.
type heard struct {
	uid types.UID
	// last is when it told, or, before that, when it was first asked.
	last time.Time
	// told says that it told anything, silent that it did not answer when it was asked last.
	told, silent bool
	listeners    []listener
}

// setupReports adds the gatherer to mgr.
func (r *Reconciler) setupReports(mgr ctrl.Manager) error {
	if r.Reports.Port == 0 {
		return nil
	}
	g := &gatherer{teller: teller{client: r.Client, recorder: r.Recorder}, reports: r.Reports, now: time.Now, nodes: map[string]*heard{},
		agents: agentClient(r.Reports.Identity)}
	if err := mgr.Add(g); err != nil {
		return fmt.Errorf("adding what asks node agents: %w", err)
	}
	return nil
}

// agentClient shows who we are and does not ask who answers: no secret is sent, and what a node tells is believed of that
// node alone.
func agentClient(identity func(*tls.CertificateRequestInfo) (*tls.Certificate, error)) *http.Client {
	return &http.Client{
		Timeout:       answerWithin,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, GetClientCertificate: identity,
				InsecureSkipVerify: true, // nothing is sent that its reader could use: ADR 15
			},
			// Agents are asked once a minute: thousands of open connections would cost more than they save.
			DisableKeepAlives: true,
		},
	}
}

// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch

// Start asks until the context ends. It is a manager's Runnable.
func (g *gatherer) Start(ctx context.Context) error {
	for {
		if err := g.pass(ctx); err != nil && ctx.Err() == nil {
			ctrl.LoggerFrom(ctx).Error(err, "Failed to say what listens on node ports")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(g.reports.Interval):
		}
	}
}

// pass asks every node once, and brings Services in step with what is known then.
func (g *gatherer) pass(ctx context.Context) error {
	var nodes corev1.NodeList
	if err := g.client.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("listing Nodes: %w", err)
	}
	g.ask(ctx, nodes.Items)
	if ctx.Err() != nil {
		return nil
	}
	found, telling, missing := g.known()
	reportsHeard.Set(float64(telling))
	return g.tell(ctx, found, missing > 0)
}

// ask forgets nodes that are gone and asks the others.
func (g *gatherer) ask(ctx context.Context, nodes []corev1.Node) {
	now, there := g.now(), map[string]*heard{}
	var all sync.WaitGroup
	places := make(chan struct{}, askedAtOnce)
	for i := range nodes {
		node := &nodes[i]
		h := g.nodes[node.Name]
		if h == nil || h.uid != node.UID {
			h = &heard{uid: node.UID, last: now}
		}
		there[node.Name] = h
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			listeners, err := g.fetch(ctx, node)
			if h.silent = err != nil; h.silent {
				ctrl.LoggerFrom(ctx).V(1).Info("A node does not tell what listens on node ports", "Node", node.Name, "error", err.Error())
				return
			}
			h.last, h.told, h.listeners = now, true, listeners
		})
	}
	all.Wait()
	g.nodes = there
}

// known returns what nodes have told that is still believed, how many answered when they were asked last, and how many may
// have something to tell and never did, though not for so long that they are given up.
func (g *gatherer) known() (found []listener, telling, missing int) {
	now := g.now()
	for _, h := range g.nodes {
		if !h.silent {
			telling++
		}
		switch {
		case h.silent && now.Sub(h.last) >= believedFor:
		case !h.told:
			missing++
		default:
			found = append(found, h.listeners...)
		}
	}
	return found, telling, missing
}

// fetch asks one node.
func (g *gatherer) fetch(ctx context.Context, node *corev1.Node) ([]listener, error) {
	address, err := addressOf(node)
	if err != nil {
		return nil, err
	}
	url := "https://" + net.JoinHostPort(address.String(), strconv.Itoa(int(g.reports.Port))) + "/nodeports"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("asking the agent: %w", err)
	}
	response, err := g.agents.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking the agent: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("asking the agent: %s", response.Status)
	}
	var report struct {
		Checked time.Time  `json:"checked"`
		Clashes []listener `json:"clashes"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, answerSize)).Decode(&report); err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	if report.Checked.IsZero() {
		return nil, errors.New("asking the agent: it has not looked yet")
	}
	for i := range report.Clashes {
		report.Clashes[i].node = node.Name
	}
	return report.Clashes, nil
}

// addressOf returns the address by which nodes reach each other.
func addressOf(node *corev1.Node) (netip.Addr, error) {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			address, err := netip.ParseAddr(a.Address)
			if err != nil {
				return netip.Addr{}, fmt.Errorf("reading the Node's InternalIP: %w", err)
			}
			return address, nil
		}
	}
	return netip.Addr{}, errors.New("the Node has no InternalIP")
}
