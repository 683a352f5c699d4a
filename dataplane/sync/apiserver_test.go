package sync

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"
)

// apiServer speaks as much of the API as a reflector needs, in JSON: lists, watches from a resource version, watches
// that begin with the whole list, label and field selectors.
type apiServer struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every event
	revision int
	objects  map[string]map[string]metav1.Object // resource, then namespace/name
	events   []event
	refuse   map[string]bool // resources for which the server answers 403
	refused  int             // how often it did
	gone     chan struct{}   // closed to end all watches
}

// event is a change from before to after, either of which may be nil.
type event struct {
	revision      int
	resource      string
	before, after metav1.Object
}

// seen is the event as a watch with a selector has it: an object that no longer matches is deleted for it.
func (e event) seen(matches func(metav1.Object) bool) (string, metav1.Object) {
	was, is := e.before != nil && matches(e.before), e.after != nil && matches(e.after)
	switch {
	case was && is:
		return "MODIFIED", e.after
	case is:
		return "ADDED", e.after
	case was:
		return "DELETED", e.before
	}
	return "", nil
}

// newAPIServer makes one that has a Node n1 and nothing else.
func newAPIServer(t *testing.T) *apiServer {
	s := &apiServer{t: t, changed: make(chan struct{}), revision: 1, objects: map[string]map[string]metav1.Object{}, refuse: map[string]bool{}, gone: make(chan struct{})}
	s.put("nodes", node("zone-a"))
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.dropWatches()
		s.Close()
	})
	return s
}

func (s *apiServer) config() *rest.Config { return &rest.Config{Host: s.URL} }

// dropWatches ends all watches, as a restart of the API server does.
func (s *apiServer) dropWatches() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gone)
	s.gone = make(chan struct{})
}

func (s *apiServer) put(resource string, object metav1.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects[resource] == nil {
		s.objects[resource] = map[string]metav1.Object{}
	}
	name := object.GetNamespace() + "/" + object.GetName()
	before := s.objects[resource][name]
	s.revision++
	object.SetResourceVersion(strconv.Itoa(s.revision))
	s.objects[resource][name] = object
	s.note(event{s.revision, resource, before, object})
}

func (s *apiServer) remove(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object := s.objects[resource][namespace+"/"+name]
	delete(s.objects[resource], namespace+"/"+name)
	s.revision++
	s.note(event{s.revision, resource, object, nil})
}

func (s *apiServer) note(e event) {
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

// forgetSilently removes an object without an event, as if it had gone while nobody watched and history was
// compacted.
func (s *apiServer) forgetSilently(resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects[resource], namespace+"/"+name)
	s.revision++
	s.events = nil
}

func (s *apiServer) setRefuse(resource string, refuse bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse[resource] = refuse
}

func (s *apiServer) refusals() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	selector, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	field, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	matches := func(o metav1.Object) bool {
		return selector.Matches(labels.Set(o.GetLabels())) && field.Matches(fields.Set{"metadata.name": o.GetName()})
	}
	s.mu.Lock()
	refused := s.refuse[resource]
	if refused {
		s.refused++
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if refused {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status: "Failure", Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden, Message: "forbidden"})
		return
	}
	if query.Get("watch") == "" {
		list, revision := s.snapshot(resource, matches)
		_ = json.NewEncoder(w).Encode(map[string]any{
			"kind": listKinds[resource].kind + "List", "apiVersion": listKinds[resource].apiVersion,
			"metadata": map[string]string{"resourceVersion": strconv.Itoa(revision)}, "items": list,
		})
		return
	}
	s.watch(w, r, resource, matches)
}

var listKinds = map[string]struct{ kind, apiVersion string }{
	"services":       {"Service", "v1"},
	"nodes":          {"Node", "v1"},
	"endpointslices": {"EndpointSlice", "discovery.k8s.io/v1"},
	"servicecidrs":   {"ServiceCIDR", "networking.k8s.io/v1"},
}

func (s *apiServer) snapshot(resource string, matches func(metav1.Object) bool) ([]metav1.Object, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []metav1.Object{}
	for _, object := range s.objects[resource] {
		if matches(object) {
			list = append(list, object)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].GetName() < list[j].GetName() })
	return list, s.revision
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string, matches func(metav1.Object) bool) {
	send := func(kind string, object any) {
		raw, err := json.Marshal(object)
		if err != nil {
			s.t.Errorf("encoding: %v", err)
			return
		}
		// The kind is not in typed objects.
		typed := map[string]any{}
		if err := json.Unmarshal(raw, &typed); err != nil {
			s.t.Errorf("encoding: %v", err)
			return
		}
		typed["kind"], typed["apiVersion"] = listKinds[resource].kind, listKinds[resource].apiVersion
		_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": typed})
	}
	flush := w.(http.Flusher).Flush
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		list, revision := s.snapshot(resource, matches)
		for _, object := range list {
			send("ADDED", object)
		}
		send("BOOKMARK", map[string]any{"metadata": map[string]any{
			"resourceVersion": strconv.Itoa(revision),
			"annotations":     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}})
		from = revision
	}
	flush()
	s.mu.Lock()
	gone := s.gone
	s.mu.Unlock()
	for {
		s.mu.Lock()
		changed := s.changed
		var pending []event
		for _, e := range s.events {
			if e.revision > from && e.resource == resource {
				pending = append(pending, e)
			}
		}
		from = s.revision
		s.mu.Unlock()
		for _, e := range pending {
			if kind, object := e.seen(matches); kind != "" {
				send(kind, object)
			}
		}
		flush()
		select {
		case <-changed:
		case <-gone:
			return
		case <-r.Context().Done():
			return
		}
	}
}
