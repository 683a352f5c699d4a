package app

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	configv1alpha1 "github.com/fairlead/fairlead/api/config/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/plugin"
)

// TestPluginsMayComeLater: a plugin that is not there keeps neither the manager from starting nor other providers from
// serving, also where it is the default one, or where something hangs in its place; it is found when it comes.
func TestPluginsMayComeLater(t *testing.T) {
	folder, err := os.MkdirTemp("", "manager")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	hung, err := net.Listen("unix", filepath.Join(folder, "hung"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hung.Close() })
	c := &configv1alpha1.ManagerConfiguration{ClusterID: "test", Cloud: configv1alpha1.Cloud{Provider: "rack", Plugins: []configv1alpha1.CloudPlugin{
		{Name: "rack", Socket: filepath.Join(folder, "rack")}, {Name: "hung", Socket: filepath.Join(folder, "hung")}}}}
	c.Default()
	if err := errors.Join(c.Validate(), checkCloud(c.Cloud)); err != nil {
		t.Fatal(err)
	}
	providers, err := cloudProviders(c, nil)
	if err != nil {
		t.Fatalf("the manager does not start without its plugin: %v", err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := providers.Get("hung")
		asked <- err
	}()
	if _, err := providers.Get(fake.Name); err != nil {
		t.Errorf("the other provider: %v", err)
	}
	if _, err := providers.Get("rack"); !cloud.IsClass(err, cloud.RetryAfter) || !strings.Contains(err.Error(), c.Cloud.Plugins[0].Socket) {
		t.Errorf("the plugin that is not there: %v", err)
	}
	if err := <-asked; !cloud.IsClass(err, cloud.RetryAfter) {
		t.Errorf("the plugin that hangs: %v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- plugin.Serve(ctx, c.Cloud.Plugins[0].Socket, fake.NewProvider(fake.New(fake.Options{})))
	}()
	var provider cloud.Provider
	for deadline := time.Now().Add(2 * time.Minute); provider == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		provider, err = providers.Get("rack")
	}
	if err != nil {
		t.Fatalf("the plugin has come and is not found: %v", err)
	}
	if resources, err := provider.List(t.Context(), "test"); err != nil || len(resources) > 0 {
		t.Errorf("got %v, %v", resources, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
