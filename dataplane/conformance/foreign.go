package conformance

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/nstest"
)

// foreign is a table of another program in the node: it puts a mark of its own on every packet that comes in or is sent
// by the node, and counts, when translated connections leave, those whose mark is as it was and those whose mark is not.
// So no dataplane may leave its masquerade bit (14) behind, nor touch the bits of others.
type foreign struct {
	conn  *nftables.Conn
	table *nftables.Table
	// rules are the handles of the table's rules as they were made.
	rules []uint64
}

const (
	// foreignMark has all bits of the upper half and of the lower, but for bits 14 and 15.
	foreignMark  = 0xabcd3fff
	counterKept  = "kept"
	counterOther = "changed"
)

func newForeign(tb testing.TB, node *nstest.Namespace) *foreign {
	tb.Helper()
	conn, err := nftables.New(nftables.WithNetNSFd(node.FD()))
	if err != nil {
		tb.Fatal(err)
	}
	f := &foreign{conn: conn}
	f.table = conn.AddTable(&nftables.Table{Name: "foreign", Family: nftables.TableFamilyINet})
	for _, name := range []string{counterKept, counterOther} {
		conn.AddObj(&nftables.CounterObj{Table: f.table, Name: name})
	}
	mark := binaryutil.NativeEndian.PutUint32(foreignMark)
	setMark := []expr.Any{
		&expr.Immediate{Register: 1, Data: mark},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
	f.chain("prerouting", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityMangle, setMark)
	f.chain("output", nftables.ChainTypeRoute, nftables.ChainHookOutput, nftables.ChainPriorityMangle, setMark)
	const statusDNAT = 1 << 5 // IPS_DST_NAT
	has := func(key expr.CtKey, bit uint32) []expr.Any {
		return []expr.Any{
			&expr.Ct{Key: key, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bit), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		}
	}
	count := func(op expr.CmpOp, counter string) []expr.Any {
		return slices.Concat(has(expr.CtKeySTATUS, statusDNAT), has(expr.CtKeySTATE, expr.CtStateBitNEW), []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: op, Register: 1, Data: mark},
			&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counter},
		})
	}
	f.chain("postrouting", nftables.ChainTypeFilter, nftables.ChainHookPostrouting, nftables.ChainPriorityRef(200),
		count(expr.CmpOpEq, counterKept), count(expr.CmpOpNeq, counterOther))
	if err := conn.Flush(); err != nil {
		tb.Fatal(err)
	}
	if f.rules, err = f.handles(); err != nil {
		tb.Fatal(err)
	}
	return f
}

func (f *foreign) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority, rules ...[]expr.Any) {
	chain := f.conn.AddChain(&nftables.Chain{Table: f.table, Name: name, Type: kind, Hooknum: hook, Priority: priority})
	for _, r := range rules {
		f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: chain, Exprs: r})
	}
}

func (f *foreign) handles() ([]uint64, error) {
	var handles []uint64
	for _, name := range []string{"prerouting", "output", "postrouting"} {
		rules, err := f.conn.GetRules(f.table, &nftables.Chain{Table: f.table, Name: name})
		if err != nil {
			return nil, fmt.Errorf("listing the foreign table's chain %s: %w", name, err)
		}
		for _, r := range rules {
			handles = append(handles, r.Handle)
		}
	}
	return handles, nil
}

func (f *foreign) packets(counter string) (uint64, error) {
	object, err := f.conn.GetObject(&nftables.CounterObj{Table: f.table, Name: counter})
	if err != nil {
		return 0, fmt.Errorf("reading the counter %s of the foreign table: %w", counter, err)
	}
	c, ok := object.(*nftables.CounterObj)
	if !ok {
		return 0, fmt.Errorf("reading the counter %s of the foreign table: got %T", counter, object)
	}
	return c.Packets, nil
}

// check wants the table as it was made, translated packets to have passed it, and none with another mark.
func (f *foreign) check(tb testing.TB) {
	tb.Helper()
	kept, err := f.packets(counterKept)
	if err != nil {
		tb.Fatal(err)
	}
	changed, err := f.packets(counterOther)
	if err != nil {
		tb.Fatal(err)
	}
	if kept == 0 || changed > 0 {
		tb.Errorf("of the translated packets %d left with the mark they had before, %d with another", kept, changed)
	}
	handles, err := f.handles()
	if err != nil {
		tb.Fatal(err)
	}
	if !slices.Equal(handles, f.rules) {
		tb.Errorf("rules %v of a foreign table became %v", f.rules, handles)
	}
}
