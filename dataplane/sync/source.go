package sync

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"

	"github.com/fairlead/fairlead/dataplane/model"
)

// codecs know the three groups that are watched and nothing else; client-go's own scheme would bring 400 packages.
var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	utilruntime.Must(networkingv1.AddToScheme(scheme))
	return serializer.NewCodecFactory(scheme)
}()

// Lists and watches that fail are repeated after retryFirst, then later and later up to retryLast, so that the rules
// are fresh soon after the API server is back, yet a whole cluster's nodes do not come at once.
const (
	retryFirst = 500 * time.Millisecond
	retryLast  = 10 * time.Second
)

// Source watches what a node needs from an API server.
type Source struct {
	nodeName                    string
	coexist                     bool
	core, discovery, networking rest.Interface
	outage                      *outage
}

// NewSource prepares clients; it does not talk to the API server yet. The error is one of configuration, such as a
// certificate that cannot be read.
func NewSource(config *rest.Config, nodeName string, coexist bool) (*Source, error) {
	s := &Source{nodeName: nodeName, coexist: coexist, outage: &outage{server: config.Host}}
	config = rest.CopyConfig(config)
	config.Wrap(s.outage.wrap)
	config.NegotiatedSerializer = codecs.WithoutConversion()
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for %s: %w", config.Host, err)
	}
	for _, c := range []struct {
		client *rest.Interface
		gv     schema.GroupVersion
		path   string
	}{
		{&s.core, corev1.SchemeGroupVersion, "/api"},
		{&s.discovery, discoveryv1.SchemeGroupVersion, "/apis"},
		{&s.networking, networkingv1.SchemeGroupVersion, "/apis"},
	} {
		groupConfig := rest.CopyConfig(config)
		groupConfig.GroupVersion = &c.gv
		groupConfig.APIPath = c.path
		client, err := rest.RESTClientForConfigAndClient(groupConfig, httpClient)
		if err != nil {
			return nil, fmt.Errorf("making a client for %s of %s: %w", c.gv, config.Host, err)
		}
		*c.client = client
	}
	return s, nil
}

// reflectors are the watches, each a function that runs until its context ends.
func (s *Source) reflectors(l *Loop) []func(context.Context) {
	s.outage.log = l.log
	// Which proxy a Service belongs to cannot be asked for in replace mode, where "ours" or "nobody's" counts; the
	// model sorts that out. Slices of any Service may be made by anybody, without the Service's labels.
	services := listWatch(s.core, "services", func(o *metav1.ListOptions) {
		if s.coexist {
			o.LabelSelector = model.LabelProxyName + "=" + model.ProxyName
		}
	})
	endpointSlices := listWatch(s.discovery, "endpointslices", func(o *metav1.ListOptions) {
		o.LabelSelector = discoveryv1.LabelServiceName + ",!" + corev1.IsHeadlessService
	})
	nodes := listWatch(s.core, "nodes", func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.nodeName).String()
	})
	runs := []func(context.Context){
		reflector(l, services, &corev1.Service{}, serviceStore(l)),
		reflector(l, endpointSlices, &discoveryv1.EndpointSlice{}, sliceStore(l)),
		reflector(l, nodes, &corev1.Node{}, nodeStore(l)),
	}
	if !s.coexist {
		cidrs := listWatch(s.networking, "servicecidrs", func(*metav1.ListOptions) {})
		runs = append(runs, reflector(l, cidrs, &networkingv1.ServiceCIDR{}, cidrStore(l)))
	}
	return runs
}

func listWatch(client rest.Interface, resource string, options func(*metav1.ListOptions)) cache.ListerWatcher {
	return cache.NewFilteredListWatchFromClient(client, resource, metav1.NamespaceAll, options)
}

func reflector(l *Loop, lw cache.ListerWatcher, example runtime.Object, store cache.ReflectorStore) func(context.Context) {
	return func(ctx context.Context) {
		r := cache.NewReflectorWithOptions(lw, example, store, cache.ReflectorOptions{
			Name:   "node-agent",
			Logger: &l.log,
			Backoff: &wait.Backoff{
				Duration: retryFirst, Factor: 2, Jitter: 1, Steps: 20, Cap: retryLast,
			},
			Clock: untilDone{ctx: ctx},
		})
		r.RunWithContext(ctx)
	}
}

// untilDone is a clock whose waits end with a context. A reflector that was refused a connection waits for its next try
// whatever becomes of its context: up to twice retryLast, in which nobody would take over the node.
type untilDone struct {
	clock.RealClock
	ctx context.Context
}

// After is a clock.Clock's.
func (c untilDone) After(d time.Duration) <-chan time.Time {
	fired := make(chan time.Time, 1)
	ctx, cancel := context.WithTimeout(c.ctx, d)
	context.AfterFunc(ctx, func() {
		cancel()
		fired <- time.Now()
	})
	return fired
}
