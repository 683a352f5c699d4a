package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// orphanEntry is one line of `orphans`.
type orphanEntry struct {
	// Class that lists it, and its provider.
	Class    string `json:"class"`
	Provider string `json:"provider"`
	v1alpha1.Orphan
	// Deleting: somebody asked to have it deleted.
	Deleting bool `json:"deleting,omitempty"`
}

// orphans is the command of that name.
func orphans(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("kubectl fairlead orphans", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, "Usage: kubectl fairlead orphans [FLAGS] [ID…]\n\nLists what clouds have of Services that are gone, or have no balancer there any more and no record of one; with -delete and ids,\nhas the manager delete it.\n\n")
		flags.PrintDefaults()
	}
	var at cluster
	at.flags(flags)
	format := flags.String("o", "table", "table or json")
	remove := flags.Bool("delete", false, "have the orphans with the ids that follow deleted")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitFine
	case err != nil:
		return exitFailed
	}
	found, err := lookForOrphans(ctx, at, *format, *remove, flags.Args(), stdout)
	switch {
	case err != nil:
		fmt.Fprintf(stderr, "kubectl fairlead orphans: %v\n", err)
		return exitFailed
	case found && !*remove:
		return exitFindings
	}
	return exitFine
}

// lookForOrphans does the command, and reports whether there are any.
func lookForOrphans(ctx context.Context, at cluster, format string, remove bool, ids []string, stdout io.Writer) (bool, error) {
	switch {
	case format != "table" && format != "json":
		return false, fmt.Errorf("-o: %q is neither table nor json", format)
	case remove && len(ids) == 0:
		return false, errors.New("-delete needs the ids of orphans")
	case !remove && len(ids) > 0:
		return false, fmt.Errorf("%q is not understood: ids are for -delete", ids[0])
	}
	c, err := at.connect()
	if err != nil {
		return false, err
	}
	var classes v1alpha1.LoadBalancerClassList
	if err := c.List(ctx, &classes); err != nil {
		return false, fmt.Errorf("listing LoadBalancerClasses: %w", err)
	}
	entries := orphanEntries(classes.Items)
	if remove {
		return len(entries) > 0, askToDelete(ctx, c, classes.Items, entries, ids, stdout)
	}
	return len(entries) > 0, printOrphans(stdout, len(classes.Items), entries, format)
}

// orphanEntries gathers what classes list, in the order of their names.
func orphanEntries(classes []v1alpha1.LoadBalancerClass) []orphanEntry {
	slices.SortFunc(classes, func(a, b v1alpha1.LoadBalancerClass) int { return strings.Compare(a.Name, b.Name) })
	entries := []orphanEntry{}
	for _, class := range classes {
		asked, _ := cloud.OrphanIDs(&class) // the manager tells what is wrong with it
		for _, orphan := range class.Status.Orphans {
			entries = append(entries, orphanEntry{Class: class.Name, Provider: class.Spec.Provider, Orphan: orphan,
				Deleting: slices.Contains(asked, orphan.ID)})
		}
	}
	return entries
}

// askToDelete has each class that lists one of the ids name it in its annotation, beside those that it names already. An id
// that no class lists is an error, and nothing is asked for.
func askToDelete(ctx context.Context, c client.Client, classes []v1alpha1.LoadBalancerClass, entries []orphanEntry, ids []string, stdout io.Writer) error {
	wanted := map[string][]string{} // by class
	for _, id := range ids {
		known := false
		for _, e := range entries {
			if e.ID == id {
				wanted[e.Class], known = append(wanted[e.Class], id), true
			}
		}
		if !known || strings.ContainsAny(id, ", \n") {
			return fmt.Errorf("no orphan has the id %q: nothing is deleted", id)
		}
	}
	for i := range classes {
		class := &classes[i]
		if len(wanted[class.Name]) == 0 {
			continue
		}
		changed := class.DeepCopy()
		all, _ := cloud.OrphanIDs(class)
		all = append(all, wanted[class.Name]...)
		slices.Sort(all)
		if changed.Annotations == nil {
			changed.Annotations = map[string]string{}
		}
		changed.Annotations[v1alpha1.AnnotationDeleteOrphans] = strings.Join(slices.Compact(all), ",")
		patch := client.MergeFromWithOptions(class, client.MergeFromWithOptimisticLock{})
		if err := c.Patch(ctx, changed, patch, client.FieldOwner("kubectl-fairlead")); err != nil {
			return fmt.Errorf("annotating LoadBalancerClass %q: %w", class.Name, err)
		}
		fmt.Fprintf(stdout, "LoadBalancerClass %s: the manager is asked to delete %s\n", class.Name, strings.Join(wanted[class.Name], ", "))
	}
	return nil
}

// printOrphans prints what so many classes list.
func printOrphans(w io.Writer, classes int, entries []orphanEntry, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(entries)
	}
	if len(entries) == 0 {
		text := "There are no orphans."
		if classes == 0 {
			text = "There is no LoadBalancerClass, by which orphans are listed and deleted: make one of the provider."
		}
		_, err := fmt.Fprintln(w, text)
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CLASS\tPROVIDER\tKIND\tID\tKEY\tSERVICE UID\tSINCE\tNOTE")
	for _, e := range entries {
		uids := make([]string, len(e.ServiceUIDs))
		for i, uid := range e.ServiceUIDs {
			uids[i] = string(uid)
		}
		note := ""
		if e.Deleting {
			note = "deletion is asked for"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Class, e.Provider, e.Kind, e.ID, e.Key, strings.Join(uids, ","),
			e.Since.UTC().Format(time.RFC3339), note)
	}
	return table.Flush()
}
