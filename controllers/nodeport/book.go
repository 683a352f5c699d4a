package nodeport

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/controllers/work"
	"github.com/fairlead/fairlead/portalloc"
)

// Book is a ledger for several goroutines, which follows what the manager's cache sees. Every replica has one, whether
// or not it leads: each of them answers webhooks, and whoever leads next already knows what is kept for whom.
type Book struct {
	now func() time.Time

	mu sync.Mutex
	// numbers says that there is a webhook that numbers Services, and that the API server is told to ask it.
	numbers bool
	ledger  *portalloc.Ledger
	byName  map[string]*v1alpha1.NodePortPool
	pools   []pool
	// changed is told of everything that can change a pool's status, after it is in the ledger.
	changed func()
	synced  []toolscache.InformerSynced
}

// pool is a NodePortPool as it is read.
type pool struct {
	name     string
	selector labels.Selector
	enforce  bool
	move     bool
}

// NewBook makes a book of the API server's range. now tells the time.
func NewBook(server portalloc.Range, now func() time.Time) *Book {
	return &Book{now: now, ledger: portalloc.NewLedger(server), byName: map[string]*v1alpha1.NodePortPool{}, changed: func() {}}
}

// follow has the book told of all Services and NodePortPools, those that are there first, and of the
// MutatingWebhookConfiguration of that name; "": there is none.
func (b *Book) follow(ctx context.Context, informers cache.Informers, configuration string) error {
	services, err := informers.GetInformer(ctx, &corev1.Service{})
	if err != nil {
		return fmt.Errorf("watching Services: %w", err)
	}
	pools, err := informers.GetInformer(ctx, &v1alpha1.NodePortPool{})
	if err != nil {
		return fmt.Errorf("watching NodePortPools: %w", err)
	}
	type following struct {
		informer cache.Informer
		handler  toolscache.ResourceEventHandler
	}
	// Pools first: what they keep is not handed out while Services are still being listed.
	all := []following{{pools, handlers(b.setPool, b.deletePool)}, {services, handlers(b.setService, b.deleteService)}}
	if configuration != "" {
		configurations, err := informers.GetInformer(ctx, &admissionregistrationv1.MutatingWebhookConfiguration{})
		if err != nil {
			return fmt.Errorf("watching the MutatingWebhookConfiguration: %w", err)
		}
		all = append(all, following{configurations, handlers(
			func(c *admissionregistrationv1.MutatingWebhookConfiguration) { b.setWebhook(c, configuration, asks(c)) },
			func(c *admissionregistrationv1.MutatingWebhookConfiguration) { b.setWebhook(c, configuration, false) })})
	}
	for _, f := range all {
		registration, err := f.informer.AddEventHandler(f.handler)
		if err != nil {
			return fmt.Errorf("following events: %w", err)
		}
		b.synced = append(b.synced, registration.HasSynced)
	}
	return nil
}

// ready reports whether the book knows everything that was there when it began to follow.
func (b *Book) ready() bool {
	return len(b.synced) > 0 && !slices.ContainsFunc(b.synced, func(synced toolscache.InformerSynced) bool { return !synced() })
}

// handlers calls set for what is there and gone for what is not, in the order of the events.
func handlers[T metav1.Object](set, gone func(T)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(object any) {
			if o, ok := object.(T); ok {
				set(o)
			}
		},
		UpdateFunc: func(_, object any) {
			if o, ok := object.(T); ok {
				set(o)
			}
		},
		DeleteFunc: func(object any) {
			if o, ok := work.Deleted[T](object); ok {
				gone(o)
			}
		},
	}
}

func (b *Book) setService(svc *corev1.Service) {
	b.locked(func(now time.Time) { b.ledger.Set(svc, now) })
}

func (b *Book) deleteService(svc *corev1.Service) {
	b.locked(func(now time.Time) { b.ledger.Delete(portalloc.KeyOf(svc), now) })
}

func (b *Book) setPool(p *v1alpha1.NodePortPool) {
	b.locked(func(now time.Time) {
		before := b.byName[p.Name]
		b.byName[p.Name] = p
		if before == nil || before.UID != p.UID || before.Generation != p.Generation {
			b.setPools(now)
		}
		b.ledger.Keep(portalloc.ReadHolds(p), now)
	})
}

func (b *Book) deletePool(p *v1alpha1.NodePortPool) {
	b.locked(func(now time.Time) {
		delete(b.byName, p.Name)
		b.setPools(now)
	})
}

// setWebhook tells whether the configuration of that name has the API server ask for numbers.
func (b *Book) setWebhook(c *admissionregistrationv1.MutatingWebhookConfiguration, name string, asks bool) {
	if c.Name == name {
		b.locked(func(time.Time) { b.numbers = asks })
	}
}

// asks reports whether a configuration names the webhook.
func asks(c *admissionregistrationv1.MutatingWebhookConfiguration) bool {
	return slices.ContainsFunc(c.Webhooks, func(w admissionregistrationv1.MutatingWebhook) bool {
		at := w.ClientConfig
		return at.Service != nil && at.Service.Path != nil && *at.Service.Path == WebhookPath ||
			at.URL != nil && strings.HasSuffix(*at.URL, WebhookPath)
	})
}

func (b *Book) locked(change func(now time.Time)) {
	b.mu.Lock()
	change(b.now())
	b.mu.Unlock()
	b.changed()
}

// setPools reads all pools anew, the oldest first.
func (b *Book) setPools(now time.Time) {
	all := make([]*v1alpha1.NodePortPool, 0, len(b.byName))
	for _, p := range b.byName {
		all = append(all, p)
	}
	b.pools = make([]pool, len(all))
	shares := make([]portalloc.Pool, len(all))
	for i, p := range portalloc.ByAge(all) {
		b.pools[i], shares[i] = read(p), portalloc.ReadPool(p)
	}
	b.ledger.SetPools(shares, now)
}

// read makes of a NodePortPool what the book goes by beside the ledger. A selector that the API server would not have let
// pass selects nothing.
func read(p *v1alpha1.NodePortPool) pool {
	selector, err := metav1.LabelSelectorAsSelector(&p.Spec.NamespaceSelector)
	if err != nil {
		selector = labels.Nothing()
	}
	return pool{name: p.Name, selector: selector, enforce: p.Spec.Enforcement == v1alpha1.EnforcementEnforce,
		move: p.Spec.Duplicates == v1alpha1.DuplicateRepairMove}
}

// selecting returns the pools that select a namespace by its labels, in the order in which it draws from them.
func (b *Book) selecting(namespace labels.Set) (names []string) {
	for _, p := range b.pools {
		if p.selector.Matches(namespace) {
			names = append(names, p.name)
		}
	}
	return names
}

// enforced reports whether a pool says Enforce, and can.
func (b *Book) enforced() bool {
	return b.numbers && slices.ContainsFunc(b.pools, func(p pool) bool { return p.enforce })
}

// assign chooses from the pools of a namespace with those labels.
func (b *Book) assign(r portalloc.Request, namespace labels.Set, intn func(int) int) (portalloc.Assignment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.Pools = b.selecting(namespace)
	return b.ledger.Assign(r, b.now(), intn)
}

func (b *Book) withdraw(key portalloc.Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ledger.Withdraw(key)
}

// poolOf is the pool that the first of the chosen ports comes from.
func (b *Book) poolOf(chosen portalloc.Assignment) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, i := range slices.Sorted(maps.Keys(chosen.Ports)) {
		return b.ledger.PoolOf(int(chosen.Ports[i]))
	}
	return b.ledger.PoolOf(int(chosen.HealthCheck))
}
