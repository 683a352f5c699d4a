package nftables

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// feature is a part of the program that a kernel may lack.
type feature struct {
	needs string
	rules []rule
	sets  []setID
}

// features lists what the program uses, from the simple to the special.
func features(t *table) []feature {
	return []feature{
		{needs: "nf_tables (CONFIG_NF_TABLES) and NAT chains (CONFIG_NFT_NAT)"},
		{needs: "maps of concatenated keys (CONFIG_NF_TABLES)", sets: []setID{setFrontends, setEndpoints}},
		{needs: "ranges in concatenated keys (Linux 5.6)", sets: []setID{setSourceRanges}},
		{needs: "numgen (CONFIG_NFT_NUMGEN)", rules: []rule{{random(1, 2)}}},
		{needs: "fib (CONFIG_NFT_FIB_IPV4, CONFIG_NFT_FIB_IPV6)", rules: []rule{fibIsLocal(true)}},
		{needs: "conntrack (CONFIG_NFT_CT), and writing addresses", rules: []rule{join(t.originalDst(), t.writeDst())}},
		{needs: "reject in prerouting (CONFIG_NFT_REJECT, Linux 5.9)", rules: t.refuse()},
		{needs: "DNAT by map (CONFIG_NFT_NAT)", sets: []setID{setBackends},
			rules: []rule{join(t.dst(), lookupData(t.name(setBackends)), t.dnat())}},
		{needs: "sets that rules change", sets: []setID{setAffinity, setBackends}, rules: t.learn(1e9)},
	}
}

// probe tries every feature in a transaction that makes a table and deletes it again, so that no packet ever sees
// it.
func probe(conn *connection, o Options) error {
	o.Table += "-probe"
	for _, f := range families {
		t := newTable(f, o)
		for _, feature := range features(t) {
			try(conn, t, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest, feature)
			if err := explain(conn.Flush(), f, feature.needs); err != nil {
				return err
			}
		}
		masquerade := feature{needs: "masquerade (CONFIG_NFT_MASQ)", rules: []rule{{&expr.Masq{FullyRandom: t.randomFully}}}}
		try(conn, t, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource, masquerade)
		if err := explain(conn.Flush(), f, masquerade.needs); err != nil {
			return err
		}
	}
	return nil
}

// try adds a transaction that needs a feature.
func try(conn *connection, t *table, hook *nftables.ChainHook, priority *nftables.ChainPriority, f feature) {
	conn.AddTable(t.table)
	for _, id := range f.sets {
		t.set[id].ID = 0
		_ = conn.AddSet(t.set[id], nil) // Flush returns what went wrong
	}
	chain := conn.AddChain(&nftables.Chain{
		Table: t.table, Name: "probe", Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority,
	})
	for _, r := range f.rules {
		conn.AddRule(&nftables.Rule{Table: t.table, Chain: chain, Exprs: r})
	}
	conn.DelTable(t.table)
}

func explain(err error, f *family, needs string) error {
	if err == nil || remedy(err) != "" {
		return withRemedy(err)
	}
	return fmt.Errorf("programming nftables for IPv%d: the kernel lacks %s: %w", f.number, needs, err)
}
