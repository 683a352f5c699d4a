package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

const planUsage = `Usage: kubectl fairlead plan [svc/]NAME... [FLAGS]

Prints the steps that the manager would take, or is about to take, in the cloud for Services of type LoadBalancer, as their
LoadBalancerRecords have them. Without a name: all of the namespace.

What would happen if I change this?
  kubectl annotate svc/web fairlead.dev/policy=Plan   # from now on nothing is done in the cloud for it
  kubectl edit svc/web                                # the change
  kubectl fairlead plan svc/web                       # what it would do
  kubectl annotate svc/web fairlead.dev/policy-       # do it

Exit codes: 0 nothing is to be done, 1 there are steps or something is in the way, 2 it could not be looked at.

Flags:
`

// planOptions are what the command line says.
type planOptions struct {
	cluster
	namespace, format string
	all               bool
	names             []string
}

// plan is the command of that name.
func plan(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parsePlan(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitFine
	case errors.Is(err, errShown):
		return exitFailed
	}
	var entries []planEntry
	if err == nil {
		entries, err = lookAtPlans(ctx, o)
	}
	if err == nil {
		err = printPlans(stdout, entries, o.format)
	}
	if err != nil {
		fmt.Fprintf(stderr, "kubectl fairlead plan: %v\n", err)
		return exitFailed
	}
	if slices.ContainsFunc(entries, func(e planEntry) bool { return e.State != stateDone }) {
		return exitFindings
	}
	return exitFine
}

// errShown is of a mistake that the flag package has told of.
var errShown = errors.New("a flag is wrong")

// parsePlan reads flags before, between and after the names, as kubectl does.
func parsePlan(args []string, stderr io.Writer) (planOptions, error) {
	var o planOptions
	flags := flag.NewFlagSet("kubectl fairlead plan", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, planUsage)
		flags.PrintDefaults()
	}
	o.flags(flags)
	for _, name := range []string{"n", "namespace"} {
		flags.StringVar(&o.namespace, name, "", "the namespace; empty: that of the context")
	}
	for _, name := range []string{"A", "all-namespaces"} {
		flags.BoolVar(&o.all, name, false, "the Services of all namespaces")
	}
	flags.StringVar(&o.format, "o", "text", "text or json")
	for {
		switch err := flags.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return o, err
		case err != nil:
			return o, errShown
		}
		if flags.NArg() == 0 {
			break
		}
		name, err := serviceNamed(flags.Arg(0))
		if err != nil {
			return o, err
		}
		o.names, args = append(o.names, name), flags.Args()[1:]
	}
	switch {
	case o.format != "text" && o.format != "json":
		return o, fmt.Errorf("-o: %q is neither text nor json", o.format)
	case o.all && (len(o.names) > 0 || o.namespace != ""):
		return o, errors.New("--all-namespaces goes with neither names nor a namespace")
	}
	return o, nil
}

// serviceNamed takes svc/web, service/web, services/web and web.
func serviceNamed(text string) (string, error) {
	kind, name, both := strings.Cut(text, "/")
	if !both {
		kind, name = "svc", text
	}
	if !slices.Contains([]string{"svc", "service", "services"}, kind) || name == "" || strings.Contains(name, "/") {
		return "", fmt.Errorf("%q is no Service: write svc/NAME", text)
	}
	return name, nil
}

// lookAtPlans reads Services and their records. Services that are not of the type are left out where none was named.
func lookAtPlans(ctx context.Context, o planOptions) ([]planEntry, error) {
	c, err := o.connect()
	if err != nil {
		return nil, err
	}
	if o.namespace == "" && !o.all {
		if o.namespace, _, err = o.loading().Namespace(); err != nil {
			return nil, fmt.Errorf("reading the kubeconfig: %w", err)
		}
	}
	classes, err := readClasses(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(o.names) > 0 {
		return namedPlans(ctx, c, o.namespace, o.names, classes)
	}
	var services corev1.ServiceList
	if err := c.List(ctx, &services, client.InNamespace(o.namespace)); err != nil {
		return nil, fmt.Errorf("listing Services: %w", err)
	}
	var records v1alpha1.LoadBalancerRecordList
	if err := c.List(ctx, &records, client.InNamespace(o.namespace)); err != nil {
		return nil, fmt.Errorf("listing LoadBalancerRecords: %w", err)
	}
	byName := map[types.NamespacedName]*v1alpha1.LoadBalancerRecord{}
	for i := range records.Items {
		byName[client.ObjectKeyFromObject(&records.Items[i])] = &records.Items[i]
	}
	var entries []planEntry
	for i := range services.Items {
		svc := &services.Items[i]
		record := byName[client.ObjectKeyFromObject(svc)]
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer || record != nil {
			entries = append(entries, planOf(svc, record, classes))
		}
	}
	slices.SortFunc(entries, func(a, b planEntry) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return entries, nil
}

// readClasses reads all LoadBalancerClasses; nil where they cannot be read, since the kind, or the right, is not there: not everyone
// who has a Service may read what is the cluster's.
func readClasses(ctx context.Context, c client.Client) ([]v1alpha1.LoadBalancerClass, error) {
	var classes v1alpha1.LoadBalancerClassList
	switch err := c.List(ctx, &classes); {
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err), meta.IsNoMatchError(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	return append([]v1alpha1.LoadBalancerClass{}, classes.Items...), nil
}

// namedPlans reads those of some Services, in the order in which they were named.
func namedPlans(ctx context.Context, c client.Client, namespace string, names []string, classes []v1alpha1.LoadBalancerClass) ([]planEntry, error) {
	var entries []planEntry
	for _, name := range names {
		key := types.NamespacedName{Namespace: namespace, Name: name}
		svc := &corev1.Service{}
		if err := c.Get(ctx, key, svc); err != nil {
			return nil, fmt.Errorf("reading Service %s: %w", key, err)
		}
		record := &v1alpha1.LoadBalancerRecord{}
		switch err := c.Get(ctx, key, record); {
		case apierrors.IsNotFound(err), meta.IsNoMatchError(err):
			record = nil
		case err != nil:
			return nil, fmt.Errorf("reading LoadBalancerRecord %s: %w", key, err)
		}
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer && record == nil {
			return nil, fmt.Errorf("Service %s is of type %s: only one of type LoadBalancer has a plan", key, svc.Spec.Type)
		}
		entries = append(entries, planOf(svc, record, classes))
	}
	return entries, nil
}
