package loadbalancer

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead/fairlead/cloud/fake"
)

// TestEntryIsOfWhoWorksOnIt: whoever takes an entry is woken when a pass is owed, also where somebody else made it.
func TestEntryIsOfWhoWorksOnIt(t *testing.T) {
	l := newLedger()
	l.end(l.begin(uid(1), types.NamespacedName{Namespace: "copy", Name: "web"}, "other", true))
	e := l.begin(uid(1), types.NamespacedName{Namespace: "shop", Name: "web"}, fake.Name, true)
	if e.name.Namespace != "shop" || e.provider != fake.Name {
		t.Errorf("the Service is known as %s of %s", e.name, e.provider)
	}
}
