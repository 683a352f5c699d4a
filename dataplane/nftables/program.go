package nftables

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Constants of linux/netfilter that package unix lacks.
const (
	statusDNAT   = 1 << 5 // IPS_DST_NAT
	dynsetUpdate = 1      // NFT_DYNSET_OP_UPDATE
	dynsetDelete = 2      // NFT_DYNSET_OP_DELETE
)

// rule is the expressions of one rule.
type rule []expr.Any

// chain is one chain of the program.
type chain struct {
	name string
	// hook is nil for chains that only other chains enter; kind and priority are those of hooked ones.
	hook     *nftables.ChainHook
	kind     nftables.ChainType
	priority *nftables.ChainPriority
	rules    []rule
}

// Names of chains that rules or maps refer to.
const (
	chainRefuse          = "refuse"
	chainGuard           = "guard"
	chainMarkMasquerade  = "mark-masquerade"
	chainFate            = "fate"
	chainPods            = "from-pods"
	chainHost            = "from-host"
	chainOutside         = "from-outside"
	chainLocalInterfaces = "local-interfaces"
	chainFrontend        = "frontend"
	chainNodePort        = "node-port"
	chainServices        = "services"
)

// program builds the chains of one table. They depend on the options and on the names of local interfaces, and
// on nothing else of the state: Services are elements of maps.
type program struct {
	*family
	sets            [setCount]setSpec
	masqueradeMark  uint32
	randomFully     bool
	localInterfaces []string
}

// chains returns the fixed chains; a chain comes before those that enter it.
func (p *program) chains() []chain {
	cs := []chain{
		{name: chainRefuse, rules: p.refuse()},
		{name: chainGuard, rules: p.guard()},
		{name: chainMarkMasquerade, rules: []rule{p.setMark()}},
		{name: chainFate, rules: []rule{
			join(p.scratch(fateMask), lookupVerdict(p.name(setFates))),
			{drop()},
		}},
		{name: chainPods, rules: p.class(flagPods)},
		{name: chainHost, rules: p.class(flagHost)},
		{name: chainOutside, rules: p.class(flagOutside)},
		{name: chainLocalInterfaces},
		{name: chainFrontend, rules: p.classify(true, p.originalFrontend(), setExternal)},
		{name: chainNodePort, rules: p.classify(false, nodePortKey(), setExternalNodePorts)},
		{name: chainServices, rules: p.services()},
		{name: "prerouting", hook: nftables.ChainHookPrerouting, kind: nftables.ChainTypeNAT,
			priority: nftables.ChainPriorityNATDest, rules: []rule{{jump(chainServices)}}},
		{name: "output", hook: nftables.ChainHookOutput, kind: nftables.ChainTypeNAT,
			priority: nftables.ChainPriorityNATDest, rules: []rule{{jump(chainServices)}}},
		{name: "postrouting", hook: nftables.ChainHookPostrouting, kind: nftables.ChainTypeNAT,
			priority: nftables.ChainPriorityNATSource, rules: p.postrouting()},
		{name: "unclaimed-forward", hook: nftables.ChainHookForward, kind: nftables.ChainTypeFilter,
			priority: nftables.ChainPriorityFilter, rules: p.unclaimed()},
		{name: "unclaimed-output", hook: nftables.ChainHookOutput, kind: nftables.ChainTypeFilter,
			priority: nftables.ChainPriorityFilter, rules: p.unclaimed()},
	}
	for i := range cs {
		if cs[i].name == chainLocalInterfaces {
			for _, name := range p.localInterfaces {
				cs[i].rules = append(cs[i].rules, fromInterface(name))
			}
		}
	}
	return cs
}

// services recognises what a packet is addressed to. From here on the scratch word is in its destination address.
func (p *program) services() []rule {
	return []rule{
		join(p.frontend(), p.toScratch(setFrontends), goTo(chainFrontend)),
		join(
			p.notLoopback(),
			p.dst(), lookup(p.name(setNodePortAddresses)),
			fibIsLocal(false),
			nodePortKey(), p.toScratch(setNodePorts), goTo(chainNodePort)),
		join(p.dst(), lookup(p.name(setClusterIPs)), goTo(chainRefuse)),
	}
}

// unclaimed drops connections to an address for Services that is still there after all address translation: another
// proxy on the node may have Services of its own, and its chains may come after ours.
func (p *program) unclaimed() []rule {
	return []rule{join(
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		p.dst(), lookup(p.name(setServiceRanges)), drop())}
}

// classify finds the class of the client; for outside clients the external group takes the place of the internal
// one where they differ.
func (p *program) classify(guarded bool, key rule, external setID) []rule {
	var rules []rule
	if guarded {
		rules = append(rules, join(p.scratchHas(flagGuarded), jump(chainGuard)))
	}
	return append(rules,
		join(p.src(1), lookup(p.name(setLocalRanges)), goTo(chainPods)),
		rule{jump(chainLocalInterfaces)},
		join(fibIsLocal(true), goTo(chainHost)),
		join(key, p.toScratch(external)),
		rule{goTo(chainOutside)})
}

// guard lets pass who is in the frontend's source ranges.
func (p *program) guard() []rule {
	return []rule{
		join(p.originalFrontend(), p.src(p.regSrc), lookup(p.name(setSourceRanges)), verdict(expr.VerdictReturn, "")),
		{drop()},
	}
}

func (p *program) class(flag uint32) []rule {
	return []rule{
		join(p.scratchHas(flag), jump(chainMarkMasquerade)),
		{goTo(chainFate)},
	}
}

// refuse answers; the answer must quote the address that the client used, which conntrack remembers.
func (p *program) refuse() []rule {
	return []rule{
		join(p.originalDst(), p.writeDst()),
		{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Reject{Type: unix.NFT_REJECT_TCP_RST},
		},
		{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: p.refuseCode}},
	}
}

// postrouting masquerades connections that are marked, and those that come back to the Pod they left. Those that
// were not translated are none of ours, whatever their mark is.
func (p *program) postrouting() []rule {
	mark := binaryutil.NativeEndian.PutUint32(p.masqueradeMark)
	zero := make([]byte, 4)
	status := binaryutil.NativeEndian.PutUint32(statusDNAT)
	masquerade := &expr.Masq{FullyRandom: p.randomFully}
	return []rule{
		{
			&expr.Ct{Key: expr.CtKeySTATUS, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: status, Xor: zero},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: zero},
			verdict(expr.VerdictReturn, ""),
		},
		{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mark, Xor: zero},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: zero},
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: inverse(mark), Xor: zero},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
			masquerade,
		},
		join(p.src(1), p.dstIn(p.regSecond), lookup(p.name(setHairpin)), masquerade),
	}
}

func (p *program) setMark() rule {
	mark := binaryutil.NativeEndian.PutUint32(p.masqueradeMark)
	return rule{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: inverse(mark), Xor: mark},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// fate is what happens to new connections of a group with so many endpoints. Affinity is the time for which
// clients stay, in whole seconds; 0: they do not.
type fate struct {
	endpoints int
	affinity  time.Duration
}

// chain is the name of the fate's chain.
func (f fate) chain() string {
	if f.affinity == 0 {
		return fmt.Sprintf("pick-%d", f.endpoints)
	}
	return fmt.Sprintf("pick-%d-%ds", f.endpoints, f.affinity/time.Second)
}

// learnChain is the name of the chain that remembers where clients went.
func (f fate) learnChain() string {
	return fmt.Sprintf("learn-%ds", f.affinity/time.Second)
}

// parseFate is the inverse of fate.chain.
func parseFate(name string) (fate, bool) {
	var f fate
	var seconds int
	if n, _ := fmt.Sscanf(name, "pick-%d-%ds", &f.endpoints, &seconds); n == 0 {
		return f, false
	}
	f.affinity = time.Duration(seconds) * time.Second
	return f, f.endpoints > 0 && f.chain() == name
}

// fateChains returns the chains of a fate; a chain comes before those that enter it.
func (p *program) fateChains(f fate) []chain {
	if f.affinity == 0 {
		return []chain{{name: f.chain(), rules: p.pick(f.endpoints)}}
	}
	return []chain{
		{name: f.learnChain(), rules: p.learn(f.affinity)},
		{name: f.chain(), rules: p.pickSticky(f)},
	}
}

// pick sends the connection to one of n endpoints. A lookup can miss only while a transaction that shrinks the
// group is being committed; the first endpoint is there in any case.
func (p *program) pick(n int) []rule {
	dnat := func(n int) rule {
		return join(p.dst(), random(p.regSecond, n), lookupData(p.name(setEndpoints)), p.dnat())
	}
	return []rule{p.onlyGroup(), dnat(n), dnat(1), {drop()}}
}

// pickSticky sends a client to the endpoint it had. The map affinity remembers a number that the endpoint has
// in its group as long as it belongs to it; members says which numbers are in use, so that clients of an
// endpoint that has left get another one.
func (p *program) pickSticky(f fate) []rule {
	clientAndGroup := join(p.src(1), p.dstIn(p.regSecond))
	toSlot := func(n int) rule {
		return join(p.dst(), random(p.regSecond, n), p.toScratch(setSlots), goTo(f.learnChain()))
	}
	return []rule{
		p.onlyGroup(),
		join(clientAndGroup, p.toScratch(setAffinity)),
		join(p.dst(), lookup(p.name(setMembers)), goTo(f.learnChain())),
		p.onlyGroup(),
		// An update keeps the data of an element that exists, so the stale one goes first.
		join(clientAndGroup, p.dstIn(p.regData), &expr.Dynset{
			SrcRegKey: 1, SrcRegData: p.regData, SetName: p.name(setAffinity), Operation: dynsetDelete,
		}),
		toSlot(f.endpoints),
		toSlot(1),
		{drop()},
	}
}

// learn remembers the member in the scratch word, or prolongs what is remembered, and sends the connection there.
func (p *program) learn(d time.Duration) []rule {
	return []rule{
		join(p.src(1), p.dstIn(p.regSecond), p.mask(p.regSecond, groupMask), p.dstIn(p.regData), &expr.Dynset{
			SrcRegKey: 1, SrcRegData: p.regData, SetName: p.name(setAffinity), Operation: dynsetUpdate,
			Timeout: d,
		}),
		join(p.dst(), lookupData(p.name(setBackends)), p.dnat()),
		{drop()},
	}
}

// onlyGroup leaves of the scratch word the number of the group.
func (p *program) onlyGroup() rule {
	return join(p.scratch(groupMask), p.writeDst())
}

func (p *program) name(s setID) string { return p.sets[s].name }

// fromInterface matches packets that came in by an interface; a trailing * makes it a prefix.
func fromInterface(name string) rule {
	data := make([]byte, unix.IFNAMSIZ)
	if prefix, ok := strings.CutSuffix(name, "*"); ok {
		data = []byte(prefix)
	} else {
		copy(data, name)
	}
	if len(data) == 0 { // "*"
		return rule{goTo(chainPods)}
	}
	return rule{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data},
		goTo(chainPods),
	}
}

// notLoopback matches destinations outside the loopback range.
func (p *program) notLoopback() rule {
	want := p.loopback.Addr().AsSlice()
	return join(p.dst(), p.maskPrefix(p.loopback), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: want})
}

func (p *program) maskPrefix(prefix netip.Prefix) rule {
	if prefix.IsSingleIP() {
		return nil
	}
	mask := make([]byte, p.addrLen)
	for i := range prefix.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return rule{&expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: uint32(p.addrLen), Mask: mask, Xor: make([]byte, p.addrLen),
	}}
}
