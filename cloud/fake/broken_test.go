package fake_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fairlead/fairlead/cloud"
	"github.com/fairlead/fairlead/cloud/cloudtest"
	"github.com/fairlead/fairlead/cloud/cloudtest/apart"
	"github.com/fairlead/fairlead/cloud/fake"
)

// brokenEnv names the defect that TestBroken runs the suite with.
const brokenEnv = "FAIRLEAD_BROKEN_PROVIDER"

// broken is the real provider with one defect, by name.
type broken struct {
	cloud.Provider
	cloud  *fake.Cloud
	defect string
	// made are the ids of what this very provider made.
	made *sync.Map
}

// defects, and the case of the suite that must see each.
var defects = map[string]struct {
	defect   string
	property string
}{
	"impure":       {"another answer each time", "DesiredIsPure"},
	"once":         {"a Create of what exists fails", "ReplayIsIdempotent"},
	"unspeakable":  {"calls a balancer what no host can be called", "ReplayIsIdempotent"},
	"unsettled":    {"reads an attribute otherwise than Desired writes it", "NoChangeNoWrite"},
	"unmarked":     {"marks what it makes in a second call", "CrashAnywhere"},
	"greedy":       {"takes everything for its own", "ForeignIsUntouched"},
	"strict":       {"fails to delete what is gone", "DeleteWhateverIsThere"},
	"amnesic":      {"shows what it made since it was started, and no more", "DeleteWhateverIsThere"},
	"lavish":       {"lets everything be replaced", "BlockedChangesNothing"},
	"meddling":     {"brings all that is desired together with the targets", "BlockedChangesNothing"},
	"rash":         {"does not look before something goes", "BlockedChangesNothing"},
	"lenient":      {"passes over what it does not know", "BlockedChangesNothing"},
	"mute":         {"tells of no target that was refused", "FailedTargetsAreTold"},
	"crosswise":    {"tells the failures of targets of others", "FailedTargetsAreTold"},
	"hasty":        {"takes the old targets away before it adds the new", "TargetsAreAddedFirst"},
	"prefixed":     {"lists clusters whose ids begin alike", "ListIsComplete"},
	"deaf":         {"takes throttling for any other error", "ThrottlingWithRetryAfter"},
	"forgetful":    {"loses the time that the cloud named", "ThrottlingWithRetryAfter"},
	"impatient":    {"tries again by itself", "ThrottlingWithoutRetryAfter"},
	"uncounted":    {"sends a call that waits for no limit", "EveryCallIsCounted"},
	"chatty":       {"makes a call for each target", "NodesAreCheap"},
	"shortsighted": {"lists no targets", "ListIsComplete"},
	"portless":     {"sends to every Pod at the port of the first", "PodsAreTargets"},
	"retelling":    {"makes a call for each Pod", "PodsAreCheap"},
	"optimistic":   {"takes what is registered for healthy", "HealthIsTold"},
	"overwriting":  {"writes the owners as it believes them to be", "SharedInAnyOrder"},
	"ruthless":     {"deletes a balancer with whatever is on it", "SharedInAnyOrder"},
	"separate":     {"names what is shared by the Service that makes it", "SharedConcurrently"},
	"clinging":     {"leaves its mark on what it shared", "SharedCrashAnywhere"},
	"bodiless":     {"tells of a balancer without its parts", "AdoptedWithConsent"},
	"possessive":   {"forgets that a balancer is lent", "AdoptedWithConsent"},
	"sticky":       {"leaves the cluster's mark on what it lets go", "AdoptedWithConsent"},
	"trusting":     {"takes every id for consent", "NotAdoptedWithoutConsent"},
	"oblivious":    {"tells of no owners", "NotAdoptedWithoutConsent"},
	"blind":        {"finds nothing that other controllers made", "OfferedAndTakenOver"},
	"gullible":     {"takes what was made for others for its own Service's", "OfferedAndTakenOver"},
	"piecemeal":    {"adopts in two calls", "AdoptionCrashAnywhere"},
	"jealous":      {"leaves the mark of the earlier Service on what is taken back", "AdoptionCrashAnywhere"},
	"boastful":     {"declares what it ignores", "Feature/SourceRanges"},
	"intercepting": {"says that packets pass through to nodes, and answers for the address itself", "Feature/TCP"},
}

var calls atomic.Int32

func (b broken) is(defect string) bool { return b.defect == defect }

func (b broken) Capabilities() cloud.Capabilities {
	caps := b.Provider.Capabilities()
	caps.Passthrough = b.is("intercepting")
	return caps
}

func (b broken) Desired(spec cloud.Spec) ([]cloud.Resource, error) {
	if b.is("boastful") {
		spec.SourceRanges = nil
	}
	if b.is("portless") {
		spec.Endpoints = slices.Clone(spec.Endpoints)
		for i := range spec.Endpoints {
			spec.Endpoints[i].Ports = spec.Endpoints[0].Ports
		}
	}
	switch b.defect {
	case "lenient":
		spec.Annotations = nil
	case "meddling":
		b.made.Store("address", spec.RequestedAddress)
	}
	resources, err := b.Provider.Desired(spec)
	for i := range resources {
		resources[i].Fixed = resources[i].Fixed && !b.is("lavish")
	}
	if b.is("impure") && len(resources) > 0 {
		resources[0].Attributes["pool"] = fmt.Sprint(calls.Add(1))
	}
	return resources, err
}

func (b broken) Observe(ctx context.Context, owner cloud.Owner) ([]cloud.Resource, error) {
	switch b.defect {
	case "greedy":
		all, err := b.Provider.List(ctx, "")
		for i := range all {
			all[i].Owners = []cloud.OwnerID{owner.ID()}
		}
		return all, err
	case "uncounted":
		if _, err := b.cloud.List(ctx); err != nil {
			return nil, err
		}
	}
	resources, err := b.Provider.Observe(ctx, owner)
	if b.is("amnesic") {
		resources = slices.DeleteFunc(resources, func(r cloud.Resource) bool {
			_, mine := b.made.Load(r.ID)
			return !mine
		})
	}
	for i := range resources {
		if b.is("unspeakable") && len(resources[i].Ingress) > 0 {
			resources[i].Ingress = []cloud.Ingress{{Hostname: "my_lb.example.com"}}
		}
		if b.is("unsettled") && resources[i].Kind == fake.KindListener {
			resources[i].Attributes["affinitySeconds"] = "0s"
		}
		for j := range resources[i].Ingress {
			if b.is("intercepting") {
				resources[i].Ingress[j].IPMode = "Proxy"
			}
		}
	}
	return resources, err
}

func (b broken) List(ctx context.Context, clusterID string) ([]cloud.Resource, error) {
	resources, err := b.Provider.List(ctx, clusterID)
	if b.is("prefixed") && err == nil {
		for _, o := range b.cloud.Objects() {
			longer := o.Tags["fairlead.dev/cluster"]
			if strings.HasPrefix(longer, clusterID) && longer != clusterID {
				more, err := b.Provider.List(ctx, longer)
				return append(resources, more...), err
			}
		}
	}
	for i := range resources {
		if b.is("shortsighted") {
			resources[i].Targets = nil
		}
	}
	return resources, err
}

func (b broken) Adoptable(ctx context.Context, owner cloud.Owner, id string) ([]cloud.Adoptable, error) {
	switch {
	case b.is("blind") && id == "":
		return nil, nil
	case b.is("gullible") && id == "":
		for _, o := range b.cloud.Objects() {
			if _, uid, ok := strings.Cut(o.Tags[fake.TagMadeFor], "/"); ok && uid != owner.ServiceUID {
				owner.ServiceUID = uid
				break
			}
		}
	}
	found, err := cloud.FindAdoptable(ctx, b.Provider, owner, id)
	for i := range found {
		f := &found[i]
		switch b.defect {
		case "bodiless":
			f.Resources = slices.DeleteFunc(f.Resources, func(r cloud.Resource) bool { return r.ID != f.ID })
		case "trusting":
			f.AdoptableBy = cloud.AdoptableBy(owner)
		case "oblivious":
			for j := range f.Resources {
				f.Resources[j].Owners = nil
			}
		}
	}
	return found, err
}

func (b broken) Create(ctx context.Context, owner cloud.Owner, r cloud.Resource) (cloud.Resource, error) {
	switch b.defect {
	case "unmarked":
		nobody := owner
		nobody.ServiceUID = fmt.Sprint("nobody-", calls.Add(1))
		made, err := b.Provider.Create(ctx, nobody, r)
		if err != nil {
			return made, err
		}
		return made, b.Provider.Update(ctx, owner, made, r)
	case "once":
		name := cloud.Name(owner, r, 63)
		for _, o := range b.cloud.Objects() {
			if o.Kind == r.Kind && o.Name == name {
				return cloud.Resource{}, cloud.Errorf(cloud.Conflict, "a %s called %s is there already", r.Kind, name)
			}
		}
	case "separate":
		r.Shared = false
	}
	made, err := b.Provider.Create(ctx, owner, r)
	b.made.Store(made.ID, true)
	if err != nil && b.is("impatient") && b.Provider.Classify(err).Class == cloud.Throttled {
		return b.Provider.Create(ctx, owner, r)
	}
	return made, err
}

func (b broken) Check(ctx context.Context, owner cloud.Owner, desired cloud.Resource, replaced []cloud.Resource) error {
	if b.is("rash") {
		return nil
	}
	return cloud.CheckCreate(ctx, b.Provider, owner, desired, replaced)
}

func (b broken) Update(ctx context.Context, owner cloud.Owner, was, desired cloud.Resource) error {
	if b.is("clinging") && !slices.Contains(desired.Owners, owner.ID()) {
		return nil
	}
	adopts := desired.Adopted != "" && len(was.Owners) == 0
	switch {
	case b.is("jealous") && len(was.Owners) == 1 && !slices.Contains(desired.Owners, was.Owners[0]) && len(desired.Owners) > 0:
		desired.Owners = append(slices.Clone(was.Owners), desired.Owners...)
	case b.is("possessive") && adopts:
		desired.Lent = false
	case b.is("sticky") && len(desired.Owners) == 0:
		_, err := b.cloud.Update(ctx, fake.Object{ID: was.ID, Kind: was.Kind, Tags: map[string]string{"fairlead.dev/owner/" + owner.ServiceUID: ""}})
		return err
	case b.is("piecemeal") && adopts:
		later := map[string]string{"fairlead.dev/adopted": desired.Adopted}
		if desired.Lent {
			later["fairlead.dev/lent"] = "true"
		}
		desired.Adopted, desired.Lent = "", false
		if err := b.Provider.Update(ctx, owner, was, desired); err != nil {
			return err
		}
		_, err := b.cloud.Update(ctx, fake.Object{ID: was.ID, Kind: was.Kind, Tags: later})
		return err
	}
	if b.is("overwriting") {
		// As if the marks were one field: those that it does not know of are gone.
		all, err := b.Provider.List(ctx, owner.ClusterID)
		if err != nil {
			return err
		}
		for _, r := range all {
			if r.ID == was.ID {
				was.Owners = r.Owners
			}
		}
	}
	return b.Provider.Update(ctx, owner, was, desired)
}

func (b broken) Delete(ctx context.Context, owner cloud.Owner, r cloud.Resource) error {
	switch b.defect {
	case "strict":
		for _, o := range b.cloud.Objects() {
			if o.ID == r.ID {
				return b.Provider.Delete(ctx, owner, r)
			}
		}
		return fmt.Errorf("%s does not exist", r.Name())
	case "ruthless":
		for _, o := range b.cloud.Objects() {
			if r.Kind == fake.KindBalancer && slices.Contains(o.Refs, r.ID) {
				if err := b.cloud.Delete(ctx, o.ID); err != nil {
					return err
				}
			}
		}
	}
	return b.Provider.Delete(ctx, owner, r)
}

func (b broken) SyncTargets(ctx context.Context, changes []cloud.TargetChange) []error {
	switch b.defect {
	case "chatty", "retelling":
	case "meddling":
		for _, change := range changes {
			address, _ := b.made.Load("address")
			tags := map[string]string{"address": fmt.Sprint(address)}
			if _, err := b.cloud.Update(ctx, fake.Object{ID: change.Resource.ID, Kind: change.Resource.Kind, Tags: tags}); err != nil {
				return []error{err}
			}
		}
		return b.Provider.SyncTargets(ctx, changes)
	case "mute":
		_ = b.Provider.SyncTargets(ctx, changes)
		return nil
	case "crosswise":
		errs := b.Provider.SyncTargets(ctx, changes)
		slices.Reverse(errs)
		return errs
	case "hasty":
		less, more := slices.Clone(changes), slices.Clone(changes)
		for i := range changes {
			less[i].Add, more[i].Remove = nil, nil
		}
		if errs := b.Provider.SyncTargets(ctx, less); errs != nil {
			return errs
		}
		return b.Provider.SyncTargets(ctx, more)
	default:
		return b.Provider.SyncTargets(ctx, changes)
	}
	for _, change := range changes {
		for _, target := range change.Add {
			one := cloud.TargetChange{Owner: change.Owner, Resource: change.Resource, Add: []cloud.Target{target}}
			if errs := b.Provider.SyncTargets(ctx, []cloud.TargetChange{one}); errs != nil {
				return errs
			}
		}
	}
	return nil
}

func (b broken) TargetHealth(ctx context.Context, owner cloud.Owner, resources []cloud.Resource) ([]cloud.TargetHealth, error) {
	healths, err := b.Provider.(cloud.HealthReader).TargetHealth(ctx, owner, resources)
	if b.is("optimistic") {
		for i := range healths {
			healths[i].Health = cloud.HealthHealthy
		}
	}
	return healths, err
}

func (b broken) Classify(err error) *cloud.Error {
	e := b.Provider.Classify(err)
	switch {
	case b.is("deaf"):
		return &cloud.Error{Class: cloud.Retry, Err: err}
	case b.is("forgetful"):
		e.After = 0
	}
	return e
}

// TestBroken is what TestSuiteCatchesDefects runs in a process of its own, since it must fail. By itself it tests nothing.
func TestBroken(t *testing.T) {
	defect := os.Getenv(brokenEnv)
	if defect == "" {
		return
	}
	cloudtest.Run(t, func(t *testing.T) *cloudtest.Harness {
		h, c := harnessOf(t, fake.Options{}, false)
		provider := h.New
		h.New = func() cloud.Provider { return broken{provider(), c, defect, &sync.Map{}} }
		return h
	})
}

// TestSuiteCatchesDefects shows of each property that the suite would see its absence.
func TestSuiteCatchesDefects(t *testing.T) {
	for name, tc := range defects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			apart.Catches(t, "TestBroken/"+tc.property, brokenEnv+"="+name)
		})
	}
}
