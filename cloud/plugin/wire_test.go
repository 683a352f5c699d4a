package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/cloud"
	pluginv1alpha1 "github.com/fairlead/fairlead/cloud/plugin/v1alpha1"
)

// fill sets everything in v, lists to two elements, each value to another one. What the contract keeps out of JSON does not
// leave the process, either.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	if prefix, ok := v.Addr().Interface().(*netip.Prefix); ok {
		*prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(*n), 0}), 24)
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(fmt.Sprint("v", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8:
		v.SetUint(uint64('0' + *n%10))
	case reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(t, v.Index(i), n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			fill(t, key, n)
			fill(t, value, n)
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(t, v.Field(i), n)
			}
		}
	default:
		t.Fatalf("%s: say here how to fill it, and in wire.go how it travels", v.Type())
	}
}

// overTheWire encodes and decodes a message.
func overTheWire[M proto.Message](t *testing.T, message, into M) M {
	t.Helper()
	encoded, err := proto.Marshal(message)
	if err == nil {
		err = proto.Unmarshal(encoded, into)
	}
	if err != nil {
		t.Fatal(err)
	}
	return into
}

// travels checks that a value with everything set, and the zero value, arrive as they were. A field that the contract has
// and the wire has not fails here.
func travels[T any](t *testing.T, carry func(T) T) {
	t.Helper()
	var zero, full T
	n := 0
	fill(t, reflect.ValueOf(&full).Elem(), &n)
	for name, value := range map[string]T{"zero": zero, "full": full} {
		if diff := cmp.Diff(value, carry(value), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%T, %s, differs at the other end (-sent +arrived):\n%s", value, name, diff)
		}
	}
}

func TestEverythingTravels(t *testing.T) {
	travels(t, func(v cloud.Spec) cloud.Spec {
		arrived, err := fromSpec(overTheWire(t, toSpec(v), &pluginv1alpha1.Spec{}))
		if err != nil {
			t.Error(err)
		}
		return arrived
	})
	travels(t, func(v cloud.Resource) cloud.Resource {
		return fromResource(overTheWire(t, toResource(v), &pluginv1alpha1.Resource{}))
	})
	travels(t, func(v cloud.Owner) cloud.Owner { return fromOwner(overTheWire(t, toOwner(v), &pluginv1alpha1.Owner{})) })
	travels(t, func(v cloud.TargetChange) cloud.TargetChange {
		return fromChange(overTheWire(t, toChange(v), &pluginv1alpha1.TargetChange{}))
	})
	travels(t, func(v cloud.TargetHealth) cloud.TargetHealth {
		return fromHealth(overTheWire(t, toHealth(v), &pluginv1alpha1.TargetHealth{}))
	})
	travels(t, func(v cloud.Adoptable) cloud.Adoptable {
		return fromAdoptable(overTheWire(t, toAdoptable(v), &pluginv1alpha1.Adoptable{}))
	})
	travels(t, func(v cloud.Capabilities) cloud.Capabilities {
		arrived := fromCapabilities(overTheWire(t, toCapabilities(v), &pluginv1alpha1.Capabilities{}))
		arrived.Opaque = v.Opaque // Serve refuses such a provider
		return arrived
	})
}

func TestPrefixesAreRead(t *testing.T) {
	if _, err := fromSpec(&pluginv1alpha1.Spec{SourceRanges: []string{"everyone"}}); err == nil {
		t.Error("a range that is none was read")
	}
}

// classifier classifies as the contract's fallback does.
type classifier struct{ cloud.Provider }

func (classifier) Classify(err error) *cloud.Error { return cloud.Classify(err) }

func TestErrorsTravel(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     error
		class  cloud.Class
		after  time.Duration
		text   string
	}{
		"Plain":       {"what has no class is tried again", errors.New("broken"), cloud.Retry, 0, "broken"},
		"Wrapped":     {"the chain's text stays", fmt.Errorf("asking: %w", cloud.Errorf(cloud.Quota, "full")), cloud.Quota, 0, "asking: full"},
		"After":       {"to the nanosecond", &cloud.Error{Class: cloud.Throttled, After: 1500*time.Millisecond + 1, Err: errors.New("slow down")}, cloud.Throttled, 1500*time.Millisecond + 1, "slow down"},
		"NoText":      {"bytes that are no text must not keep the answer", cloud.Errorf(cloud.Conflict, "a\xffb"), cloud.Conflict, 0, "a?b"},
		"UnknownWord": {"another language's slip", cloud.Errorf("Odd", "odd"), cloud.Retry, 0, "odd"},
	}
	for _, class := range classes {
		cases[string(class)] = struct {
			reason string
			in     error
			class  cloud.Class
			after  time.Duration
			text   string
		}{"every class arrives", cloud.Errorf(class, "x"), class, 0, "x"}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			arrived := fromError(overTheWire(t, toError(classifier{}, tc.in), &pluginv1alpha1.Error{}))
			got := cloud.Classify(arrived)
			if got.Class != tc.class || got.After != tc.after || got.Error() != tc.text {
				t.Errorf("%s: got %s, after %s, %q", tc.reason, got.Class, got.After, got.Error())
			}
			if errors.Is(arrived, cloud.ErrMixedProtocols) {
				t.Error("it is no error of mixed protocols")
			}
		})
	}
	mixed := fromError(toError(classifier{}, cloud.Errorf(cloud.UserError, "spec.ports: %w", cloud.ErrMixedProtocols)))
	if !errors.Is(mixed, cloud.ErrMixedProtocols) {
		t.Errorf("%v has lost its reason", mixed)
	}
	if toError(classifier{}, nil) != nil || fromError(nil) != nil {
		t.Error("no error has become one")
	}
}

func TestPrioritiesTravel(t *testing.T) {
	for _, p := range []cloud.Priority{cloud.PriorityDrift, cloud.PriorityNormal, cloud.PriorityUrgent} {
		if got := fromPriority(toPriority(p)); got != p {
			t.Errorf("%d has become %d", p, got)
		}
	}
}
