package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// attrs are netlink attributes: numbers in the order of the network, texts, bytes, and attrs inside.
type attrs []struct {
	kind  uint16
	value any
}

func (as attrs) bytes() []byte {
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	for _, a := range as {
		switch v := a.value.(type) {
		case int:
			e.Uint32(a.kind, uint32(v))
		case string:
			e.String(a.kind, v)
		case []byte:
			e.Bytes(a.kind, v)
		case attrs:
			e.Bytes(a.kind|unix.NLA_F_NESTED, v.bytes())
		}
	}
	b, err := e.Encode()
	if err != nil {
		panic(err)
	}
	return b
}

// expression is one of a rule, by its name and attributes.
func expression(name string, data attrs) attrs {
	return attrs{{unix.NFTA_EXPR_NAME, name}, {unix.NFTA_EXPR_DATA, data}}
}

// Of linux/netfilter/nf_tables.h, what package unix lacks.
const (
	attrBitwiseOp, attrBitwiseSecond, bitwiseAND                                          = 6, 8, 3
	attrInnerNum, attrInnerType, attrInnerFlags, attrInnerHeaderSize, attrInnerExpression = 1, 2, 3, 4, 5
	innerVXLAN, innerAllHeaders, payloadTunnelHeader                                      = 1, 15, 4
	attrXfrmRegister, attrXfrmKey, attrXfrmDirection, xfrmRequest                         = 1, 2, 3, 5
	attrSocketKey, attrSocketRegister, attrSetExpressions, setHasExpressions              = 1, 2, 18, 0x100
)

// thing is a message that makes a rule or a set.
type thing struct {
	kind  uint16
	attrs attrs
}

// strange are rules of chain strange and sets with what our library does not know, nor, in part, nft 1.0.6. The names of the
// sets are those of ours behind a prefix.
func strange(table, prefix string) map[string]thing {
	rule := func(expressions ...attrs) thing {
		list := attrs{}
		for _, e := range expressions {
			list = append(list, attrs{{unix.NFTA_LIST_ELEM, e}}...)
		}
		return thing{unix.NFT_MSG_NEWRULE, attrs{
			{unix.NFTA_RULE_TABLE, table}, {unix.NFTA_RULE_CHAIN, "strange"}, {unix.NFTA_RULE_EXPRESSIONS, list},
			{unix.NFTA_RULE_USERDATA, []byte{0xff, 0xff, 0xff, 0xff, 0xff}},
		}}
	}
	set := func(name string, flags, keyType, keyLen int, more attrs) thing {
		return thing{unix.NFT_MSG_NEWSET, append(attrs{
			{unix.NFTA_SET_TABLE, table}, {unix.NFTA_SET_NAME, prefix + name}, {unix.NFTA_SET_ID, 1}, {unix.NFTA_SET_FLAGS, flags},
			{unix.NFTA_SET_KEY_TYPE, keyType}, {unix.NFTA_SET_KEY_LEN, keyLen},
		}, more...)}
	}
	load := expression("payload", attrs{{unix.NFTA_PAYLOAD_DREG, 1}, {unix.NFTA_PAYLOAD_BASE, 1}, {unix.NFTA_PAYLOAD_OFFSET, 12}, {unix.NFTA_PAYLOAD_LEN, 4}})
	return map[string]thing{
		"and of two registers (Linux 6.13)": rule(load, expression("bitwise", attrs{
			{unix.NFTA_BITWISE_SREG, 1}, {unix.NFTA_BITWISE_DREG, 1}, {unix.NFTA_BITWISE_LEN, 4},
			{attrBitwiseOp, bitwiseAND}, {attrBitwiseSecond, 1}})),
		"header inside a tunnel (Linux 6.2)": rule(expression("inner", attrs{
			{attrInnerNum, 0}, {attrInnerType, innerVXLAN}, {attrInnerFlags, innerAllHeaders}, {attrInnerHeaderSize, 8},
			{attrInnerExpression, expression("payload", attrs{
				{unix.NFTA_PAYLOAD_DREG, 1}, {unix.NFTA_PAYLOAD_BASE, payloadTunnelHeader}, {unix.NFTA_PAYLOAD_OFFSET, 4},
				{unix.NFTA_PAYLOAD_LEN, 3}})}})),
		"IPsec":                     rule(expression("xfrm", attrs{{attrXfrmRegister, 1}, {attrXfrmKey, xfrmRequest}, {attrXfrmDirection, []byte{0}}})),
		"socket":                    rule(expression("socket", attrs{{attrSocketKey, 0}, {attrSocketRegister, 1}})),
		"last":                      rule(expression("last", nil)),
		"no expression at all":      rule(),
		"key of an unknown type":    set("frontends", 0, 0x2bad, 7, nil),
		"values of an unknown type": set("endpoints", unix.NFT_SET_MAP, 0x2bad, 64, attrs{{unix.NFTA_SET_DATA_TYPE, 0x3bad}, {unix.NFTA_SET_DATA_LEN, 64}}),
		"map of objects":            set("fates", unix.NFT_SET_OBJECT, 0, 4, attrs{{unix.NFTA_SET_OBJ_TYPE, unix.NFT_OBJECT_COUNTER}}),
		"elements with rules of their own": set("hairpin", unix.NFT_SET_EVAL|setHasExpressions, 0x2bad, 8, attrs{
			{attrSetExpressions, attrs{{unix.NFTA_LIST_ELEM, expression("counter", nil)}, {unix.NFTA_LIST_ELEM, expression("last", nil)}}}}),
		"a comment that is none": set("slots", 0, 7, 4, attrs{{unix.NFTA_SET_USERDATA, []byte{0xff, 0xff, 0xff}}}),
	}
}

// sendRaw sends messages about nftables as one transaction, past all libraries.
func sendRaw(ns *nstest.Namespace, family nftables.TableFamily, messages ...netlink.Message) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: ns.FD()})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	batch := func(kind uint16) netlink.Message {
		header := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request}, Data: header}
	}
	all := []netlink.Message{batch(unix.NFNL_MSG_BATCH_BEGIN)}
	for _, m := range messages {
		m.Header.Type |= aboutNftables
		m.Header.Flags |= netlink.Request | netlink.Acknowledge | netlink.Create
		m.Data = append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, m.Data...)
		all = append(all, m)
	}
	all = append(all, batch(unix.NFNL_MSG_BATCH_END))
	if _, err := conn.SendMessages(all); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	var errs []error
	for range messages {
		_, err := conn.Receive()
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// addStrange adds to a table whatever of strange the kernel takes, in a chain of its own.
func addStrange(t *testing.T, ns *nstest.Namespace, family nftables.TableFamily, table, prefix string) {
	t.Helper()
	message := func(kind uint16, as attrs) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: as.bytes()}
	}
	if err := sendRaw(ns, family, message(unix.NFT_MSG_NEWTABLE, attrs{{unix.NFTA_TABLE_NAME, table}}),
		message(unix.NFT_MSG_NEWCHAIN, attrs{{unix.NFTA_CHAIN_TABLE, table}, {unix.NFTA_CHAIN_NAME, "strange"}})); err != nil {
		t.Fatal(err)
	}
	taken := 0
	for name, thing := range strange(table, prefix) {
		m := message(thing.kind, thing.attrs)
		if thing.kind == unix.NFT_MSG_NEWRULE {
			m.Header.Flags = netlink.Append
		}
		if err := sendRaw(ns, family, m); err != nil {
			t.Logf("%s: the kernel does not take %s: %v", table, name, err)
			continue
		}
		taken++
	}
	if taken < 5 {
		t.Fatalf("the kernel takes only %d of the strange things", taken)
	}
}

// raw is all that the kernel tells of a table, byte by byte.
func raw(t *testing.T, b *Backend, table *nftables.Table) []string {
	t.Helper()
	var all []string
	for _, get := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETRULE, unix.NFT_MSG_GETSET, unix.NFT_MSG_GETOBJ} {
		const name = 1 // NFTA_CHAIN_TABLE and so on
		err := b.conn.list(get, table.Family, []netlink.Attribute{{Type: name, Data: []byte(table.Name + "\x00")}}, func(body []byte) {
			if text(attribute(body, name)) == table.Name {
				all = append(all, fmt.Sprintf("%d %x", get, body))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// elements is a message about one element of a set of ours.
func elements(kind uint16, table string, set setID, element attrs) netlink.Message {
	return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: attrs{
		{unix.NFTA_SET_ELEM_LIST_TABLE, table}, {unix.NFTA_SET_ELEM_LIST_SET, families[0].sets()[set].name},
		{unix.NFTA_SET_ELEM_LIST_ELEMENTS, attrs{{unix.NFTA_LIST_ELEM, element}}},
	}.bytes()}
}

// shape is what a table consists of but for elements: names of chains and sets, and rules without their numbers.
func shape(t *testing.T, b *Backend, table *nftables.Table) []string {
	t.Helper()
	var all []string
	for _, get := range []uint16{unix.NFT_MSG_GETCHAIN, unix.NFT_MSG_GETSET} {
		names, err := b.conn.names(get, table)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		all = append(all, names...)
	}
	err := b.conn.list(unix.NFT_MSG_GETRULE, table.Family, []netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(table.Name + "\x00")}}, func(body []byte) {
		all = append(all, fmt.Sprintf("%s %x", attribute(body, unix.NFTA_RULE_CHAIN), attribute(body, unix.NFTA_RULE_EXPRESSIONS)))
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestUnknown: tables of other tools with what neither we nor nft know are not in our way, and are left as they are, to the
// byte, by a start, a change, a restart and a clean-up.
func TestUnknown(t *testing.T) {
	w := newNetwork(t, 1)
	var tables []*nftables.Table
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6, nftables.TableFamilyINet} {
		for _, name := range []string{"a", "unknown"} { // listed before ours, and after
			addStrange(t, w.node, family, name, "")
			tables = append(tables, &nftables.Table{Name: name, Family: family})
		}
	}
	addStrange(t, w.node, nftables.TableFamilyINet, "fairlead", "")
	tables = append(tables, &nftables.Table{Name: "fairlead", Family: nftables.TableFamilyINet})
	// It ends by a segmentation fault in nft 1.0.6.
	t.Logf("nft list ruleset: %v", w.node.Do(exec.Command("nft", "list", "ruleset").Run))
	state := stickyState()
	b, changes := watched(t, w, state)
	list := func() (all []string) {
		for _, table := range tables {
			all = append(all, raw(t, b, table)...)
		}
		return all
	}
	before := list()
	untouched := func(after string) {
		t.Helper()
		if diff := cmp.Diff(before, list()); diff != "" {
			t.Errorf("what others have was changed by %s:\n%s", after, diff)
		}
	}
	works := func(after string) {
		t.Helper()
		untouched(after)
		if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
			t.Errorf("%s: expected, served:\n%s", after, diff)
		}
		for _, family := range []uint8{4, 6} {
			if a := mustAsk(t, w.pods[9], "tcp", at(vip(family, "cluster", 2), 80)); a.Server != "ep1" {
				t.Errorf("%s: IPv%d: %v answers", after, family, a)
			}
		}
	}
	works("a start")
	state.Node.LocalInterfaces = []string{"cni1"}
	mustSync(t, b, state.State, &model.Changes{Node: true})
	works("a change")
	gen := generation(t, w.node)
	mustSync(t, w.backendNoProbe(t), state.State, nil)
	if generation(t, w.node) != gen {
		t.Error("a restart wrote")
	}
	addStrange(t, w.node, nftables.TableFamilyIPv4, "later", "") // heard of, and none of our business
	sentinel(t, w.node, changes)
	mustSync(t, b, state.State, nil)
	works("a repair")
	if err := Cleanup(Options{NetNS: w.node.FD()}); err != nil {
		t.Fatal(err)
	}
	untouched("a clean-up")
}

// TestUnknownInOurTables: the same in our own tables is damage, and repaired: chains and sets of others go, and rules of
// ours are as they were, though all that was done to one of them is an expression that the library passes over.
func TestUnknownInOurTables(t *testing.T) {
	socket := &expr.Socket{Key: expr.NFT_SOCKET_TRANSPARENT, Register: 1}
	tests := map[string]func(c *nftables.Conn, ip *nftables.Table, ns *nstest.Namespace){
		"chains and sets": func(_ *nftables.Conn, ip *nftables.Table, ns *nstest.Namespace) {
			addStrange(t, ns, ip.Family, ip.Name, "strange-")
		},
		"element that counts": func(_ *nftables.Conn, ip *nftables.Table, ns *nstest.Namespace) {
			key := attrs{{unix.NFTA_SET_ELEM_KEY, attrs{{unix.NFTA_DATA_VALUE, netip.MustParseAddr(vip(map[nftables.TableFamily]uint8{nftables.TableFamilyIPv4: 4, nftables.TableFamilyIPv6: 6}[ip.Family], "cluster", 1)).AsSlice()}}}}
			counting := append(slices.Clone(key), attrs{{unix.NFTA_SET_ELEM_EXPR, expression("counter", nil)}}...)
			if err := sendRaw(ns, ip.Family, elements(unix.NFT_MSG_DELSETELEM, ip.Name, setClusterIPs, key),
				elements(unix.NFT_MSG_NEWSETELEM, ip.Name, setClusterIPs, counting)); err != nil {
				t.Fatal(err)
			}
		},
		"range of everything": func(_ *nftables.Conn, ip *nftables.Table, ns *nstest.Namespace) {
			const catchAll = 2 // NFT_SET_ELEM_CATCHALL
			all := elements(unix.NFT_MSG_NEWSETELEM, ip.Name, setServiceRanges, attrs{{unix.NFTA_SET_ELEM_FLAGS, catchAll}})
			if err := sendRaw(ns, ip.Family, all); err != nil {
				t.Fatal(err)
			}
		},
		// Source ranges would be open to all but transparent sockets.
		"expression before a drop": func(c *nftables.Conn, ip *nftables.Table, _ *nstest.Namespace) {
			guard := &nftables.Chain{Table: ip, Name: chainGuard}
			rules, err := c.GetRules(ip, guard)
			if err != nil || len(rules) != 2 {
				t.Fatal(rules, err)
			}
			c.ReplaceRule(&nftables.Rule{Table: ip, Chain: guard, Handle: rules[1].Handle, Exprs: []expr.Any{socket, drop()}})
		},
		"rule of nothing else": func(c *nftables.Conn, ip *nftables.Table, _ *nstest.Namespace) {
			c.InsertRule(&nftables.Rule{Table: ip, Chain: &nftables.Chain{Table: ip, Name: chainServices}, Exprs: []expr.Any{socket}})
		},
		"rule in a chain that has none": func(c *nftables.Conn, ip *nftables.Table, _ *nstest.Namespace) {
			c.AddRule(&nftables.Rule{Table: ip, Chain: &nftables.Chain{Table: ip, Name: chainLocalInterfaces}, Exprs: []expr.Any{socket}})
		},
	}
	for name, damage := range tests {
		t.Run(name, func(t *testing.T) {
			w := newNetwork(t, 1)
			state := packetsState()
			b, changes := watched(t, w, state)
			tables := func() (all []string) {
				for _, table := range b.tables {
					all = append(all, shape(t, b, table.table)...)
				}
				return all
			}
			before := tables()
			for _, table := range b.tables {
				c, err := nftables.New(nftables.WithNetNSFd(w.node.FD()))
				if err != nil {
					t.Fatal(err)
				}
				damage(c, table.table, w.node)
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
			}
			nextReport(t, changes)
			mustSync(t, b, state.State, nil)
			if diff := cmp.Diff(before, tables()); diff != "" {
				t.Errorf("our tables before the damage, after the repair:\n%s", diff)
			}
			if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
				t.Errorf("expected, served:\n%s", diff)
			}
			if diff := cmp.Diff(held(b), contents(t, b)); diff != "" {
				t.Errorf("believed, in the kernel:\n%s", diff)
			}
			gen := generation(t, w.node)
			mustSync(t, b, state.State, nil)
			if generation(t, w.node) != gen {
				t.Error("a sync after the repair wrote again")
			}
		})
	}
}
