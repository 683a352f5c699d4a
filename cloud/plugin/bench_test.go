package plugin_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/fake"
	"github.com/fairlead/fairlead/cloud/plugin"
)

// BenchmarkDesired is what the controller asks most, linked in and over the socket.
func BenchmarkDesired(b *testing.B) {
	linked := fake.NewProvider(newCloud())
	socket := b.TempDir() + "/plugin"
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { _ = plugin.Serve(ctx, socket, linked) }()
	if err := poll(func() error { return answers(socket) }); err != nil {
		b.Fatal(err)
	}
	client, err := plugin.New(plugin.Options{Name: "rack", Socket: socket})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	for _, nodes := range []int{10, 100, 1000} {
		spec := cloudtest.Spec(linked.Capabilities(), nodes)
		for name, p := range map[string]cloud.Provider{"Linked": linked, "Plugin": client} {
			b.Run(fmt.Sprintf("%s/%dNodes", name, nodes), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := p.Desired(spec); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
