package work

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// metadataAlone asks for an answer without what was just sent.
const metadataAlone = runtime.ContentTypeProtobuf + ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

// Writer creates and updates objects of one kind as one field manager and is answered with their metadata alone. Where
// objects are large and written often, decoding each again costs as much as anything else. What an admission webhook
// made of an object it does not tell, labels and annotations included: who compares what should be with what was sent
// does not write against the webhook for ever.
type Writer struct {
	client          rest.Interface
	resource, owner string
}

// NewWriter returns a Writer for a resource of the groups core or discovery.k8s.io.
func NewWriter(mgr ctrl.Manager, resource schema.GroupVersionResource, owner string) (*Writer, error) {
	group := resource.GroupVersion()
	config := rest.CopyConfig(mgr.GetConfig())
	config.GroupVersion, config.APIPath = &group, "/apis"
	if group.Group == "" {
		config.APIPath = "/api"
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.NegotiatedSerializer = codecs.WithoutConversion()
	c, err := rest.RESTClientForConfigAndClient(config, mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("making a client of %s: %w", resource.Resource, err)
	}
	return &Writer{client: c, resource: resource.Resource, owner: owner}, nil
}

// codecs know what is written, and metadata.
var codecs = func() serializer.CodecFactory {
	scheme := runtime.NewScheme()
	utilruntime.Must(corev1.AddToScheme(scheme))
	utilruntime.Must(discoveryv1.AddToScheme(scheme))
	utilruntime.Must(metav1.AddMetaToScheme(scheme))
	return serializer.NewCodecFactory(scheme)
}()

// object is one whose metadata are a metav1.ObjectMeta, as those of all built-in kinds.
type object interface {
	client.Object
	metav1.ObjectMetaAccessor
}

// Create creates an object and gives it the metadata that the API server answers with, but for labels and annotations,
// which stay as they were sent. Errors are the API server's.
func (w *Writer) Create(ctx context.Context, obj object) error {
	return w.do(ctx, obj, w.client.Post().VersionedParams(&metav1.CreateOptions{FieldManager: w.owner}, metav1.ParameterCodec))
}

// Update replaces an object, if its resourceVersion still is the given one, as Create does.
func (w *Writer) Update(ctx context.Context, obj object) error {
	return w.do(ctx, obj, w.client.Put().Name(obj.GetName()).VersionedParams(&metav1.UpdateOptions{FieldManager: w.owner}, metav1.ParameterCodec))
}

func (w *Writer) do(ctx context.Context, obj object, request *rest.Request) error {
	var answer metav1.PartialObjectMetadata
	err := request.Namespace(obj.GetNamespace()).Resource(w.resource).SetHeader("Accept", metadataAlone).Body(obj).Do(ctx).Into(&answer)
	if err != nil {
		return err
	}
	answer.Labels, answer.Annotations = obj.GetLabels(), obj.GetAnnotations()
	*obj.GetObjectMeta().(*metav1.ObjectMeta) = answer.ObjectMeta
	return nil
}
