package adapter_test

import (
	"errors"
	"io"
	"net"

	corev1 "k8s.io/api/core/v1"
	cloudprovider "k8s.io/cloud-provider"
	"k8s.io/cloud-provider/fake"

	"github.com/fairlead/fairlead/cloud/adapter"
)

// upstream is the fake of k8s.io/cloud-provider. Its GetLoadBalancer finds nothing.
var upstream = &fake.Cloud{ExternalIP: net.ParseIP("198.51.100.9"), BalancerIPMode: new(corev1.LoadBalancerIPModeProxy), Provider: "fake"}

func init() {
	cloudprovider.RegisterCloudProvider("fake", func(config io.Reader) (cloudprovider.Interface, error) {
		if config != nil {
			return nil, errors.New("refused")
		}
		return upstream, nil
	})
	cloudprovider.RegisterCloudProvider("empty", func(io.Reader) (cloudprovider.Interface, error) {
		return &fake.Cloud{DisableLoadBalancers: true}, nil
	})
	adapter.Register("upstream-fake", adapter.Registered("fake"), adapter.Options{})
	adapter.Register("without-balancers", adapter.Registered("empty"), adapter.Options{})
	adapter.Register("unregistered", adapter.Registered("moon"), adapter.Options{})
}
