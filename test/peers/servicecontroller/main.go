// Command servicecontroller runs the service controller of k8s.io/cloud-provider on Fairlead's fake cloud: what the
// manager's controller of load balancers is measured against. It is no cloud controller manager: it runs that one
// controller, without a leader election, until it is told to end.
//
// It is a module of its own, since nothing of what it needs may reach users.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/cloud-provider/controllers/service"
	"k8s.io/component-base/featuregate"
	controllersmetrics "k8s.io/component-base/metrics/prometheus/controllers"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/fake"
)

// options are what the command line says.
type options struct {
	kubeconfig, endpoint, clusterID string
	workers                         int
	qps, burst                      int
	limits                          cloud.Limits
}

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		log.Fatal("servicecontroller: ", err)
	}
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("servicecontroller", flag.ContinueOnError)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "`file` by which the API server is reached")
	fs.StringVar(&o.endpoint, "endpoint", "", "`address` of the fake cloud: http://host:port or unix:///path")
	fs.StringVar(&o.clusterID, "cluster-id", "bench", "`mark` on what is made in the cloud")
	fs.IntVar(&o.workers, "workers", 1, "Services that are worked on at once")
	fs.IntVar(&o.qps, "kube-api-qps", 500, "requests a second to the API server")
	fs.IntVar(&o.burst, "kube-api-burst", 1000, "requests to the API server at once after a quiet time")
	fs.Float64Var(&o.limits.Reads.PerSecond, "reads", 0, "calls a second that look at the cloud; 0: no limit")
	fs.IntVar(&o.limits.Reads.Burst, "reads-burst", 1, "such calls at once after a quiet time")
	fs.Float64Var(&o.limits.Writes.PerSecond, "writes", 0, "calls a second that change the cloud; 0: no limit")
	fs.IntVar(&o.limits.Writes.Burst, "writes-burst", 1, "such calls at once after a quiet time")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if o.kubeconfig == "" || o.endpoint == "" || o.workers < 1 {
		return o, fmt.Errorf("-kubeconfig and -endpoint are needed, and -workers must be positive")
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = float32(o.qps), o.burst
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("preparing a client: %w", err)
	}
	api, err := fake.NewClient(o.endpoint)
	if err != nil {
		return err
	}
	// The cloud controller manager resyncs its informers every 12 hours or more.
	factory := informers.NewSharedInformerFactory(client, 12*time.Hour)
	controller, err := service.New(&platform{newBalancer(fake.NewProvider(api), o.limits, o.clusterID)}, client,
		factory.Core().V1().Services(), factory.Core().V1().Nodes(), o.clusterID, featuregate.NewFeatureGate())
	if err != nil {
		return fmt.Errorf("making the service controller: %w", err)
	}
	factory.Start(ctx.Done())
	controller.Run(ctx, o.workers, controllersmetrics.NewControllerManagerMetrics("servicecontroller"))
	factory.Shutdown()
	return nil
}
