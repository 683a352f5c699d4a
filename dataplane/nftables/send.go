package nftables

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
)

// The order of writing, for when the changes do not fit into one transaction: first what packets are sent to, then the
// frontends, then what goes, backwards. Neither a frontend nor an element that leads on ever names what is not there.
var (
	servingSets  = []setID{setHairpin, setFates, setBackends, setMembers, setEndpoints, setSlots}
	guardSets    = []setID{setSourceRanges}
	frontendSets = []setID{setExternal, setExternalNodePorts, setFrontends, setNodePorts}
	otherSets    = []setID{setClusterIPs, setLocalRanges, setNodePortAddresses, setServiceRanges}
)

// send writes what has changed, in transactions of at most limit bytes; prelude adds first what must be there before the
// elements.
func (b *Backend) send(limit int, prelude func(*transaction) error) error {
	tx := transaction{limit: limit}
	if err := prelude(&tx); err != nil {
		return err
	}
	for _, changes := range b.phases() {
		phase, size := changes(), 0
		for _, c := range phase {
			size += c.size()
		}
		// What fits into one transaction is not spread over two.
		if size <= limit && tx.bytes+size > limit {
			if err := b.commit(&tx); err != nil {
				return err
			}
		}
		for _, c := range phase {
			if tx.bytes+c.size() > limit {
				if err := b.commit(&tx); err != nil {
					return err
				}
			}
			tx.add(c)
		}
	}
	if err := b.commit(&tx); err != nil {
		return err
	}
	for _, t := range b.tables {
		t.sent()
	}
	return nil
}

// phases returns the changes in the order of writing, each part when it is asked for. Of ranges the old ones go first: the kernel refuses ranges that
// overlap, even for a moment.
func (b *Backend) phases() []func() []change {
	add := func(cs []change, now bool, sets []setID) []change {
		for _, t := range b.tables {
			for _, s := range sets {
				cs = t.pending(cs, s, now)
			}
		}
		return cs
	}
	of := func(now bool, sets []setID) func() []change {
		return func() []change { return add(nil, now, sets) }
	}
	replaced := func(sets []setID) func() []change {
		return func() []change { return add(add(nil, false, sets), true, sets) }
	}
	backwards := slices.Clone(servingSets)
	slices.Reverse(backwards)
	return []func() []change{
		of(true, servingSets), replaced(guardSets), of(true, frontendSets), of(false, frontendSets), replaced(otherSets),
		of(false, backwards),
	}
}

// transaction collects changes by set.
type transaction struct {
	limit, bytes int
	batches      []*batch
}

// batch is changes to one set.
type batch struct {
	t        *table
	set      setID
	old, new []nftables.SetElement
}

func (tx *transaction) add(c change) {
	tx.bytes += c.size()
	n := len(tx.batches)
	if n == 0 || tx.batches[n-1].t != c.t || tx.batches[n-1].set != c.set {
		tx.batches = append(tx.batches, &batch{t: c.t, set: c.set})
		n++
	}
	batch := tx.batches[n-1]
	spec := c.t.sets[c.set]
	if c.old.there {
		batch.old = append(batch.old, spec.elements(c.key, c.old.data)...)
	}
	if c.now {
		batch.new = append(batch.new, spec.elements(c.key, c.data)...)
	}
}

// commit sends a transaction, with whatever else waits in the connection, and empties it.
func (b *Backend) commit(tx *transaction) error {
	for _, batch := range tx.batches {
		set := batch.t.set[batch.set]
		// The kernel refuses to change the data of an element, so the old one goes in the same transaction.
		if err := b.conn.SetDeleteElements(set, batch.old); err != nil {
			return fmt.Errorf("encoding elements of set %s: %w", set.Name, err)
		}
		if err := b.conn.SetAddElements(set, batch.new); err != nil {
			return fmt.Errorf("encoding elements of set %s: %w", set.Name, err)
		}
	}
	ours := uint32(0)
	if tx.bytes > 0 { // without content there is no transaction
		ours = 1
	}
	*tx = transaction{limit: tx.limit}
	if err := b.conn.Flush(); err != nil {
		return fmt.Errorf("writing to the kernel: %w", err)
	}
	if b.census != nil {
		if err := b.census.count(ours); err != nil {
			return err
		}
	}
	if b.committed != nil {
		return b.committed()
	}
	return nil
}

// writeNewChains adds the chains that partial syncs need.
func (b *Backend) writeNewChains(tx *transaction) error {
	for _, t := range b.tables {
		written := map[string]bool{}
		for _, f := range t.newFates {
			for _, c := range t.fateChains(f) {
				if written[c.name] {
					continue
				}
				written[c.name] = true
				if err := b.writeChain(tx, t, c); err != nil {
					return err
				}
			}
		}
		if !t.interfacesChanged {
			continue
		}
		for _, c := range t.chains() {
			if c.name != chainLocalInterfaces {
				continue
			}
			if err := b.writeChain(tx, t, c); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeChain adds a chain, in the place of the rules it may have, to the transaction, or to the next one.
func (b *Backend) writeChain(tx *transaction, t *table, c chain) error {
	if tx.bytes+c.size() > tx.limit {
		if err := b.commit(tx); err != nil {
			return err
		}
	}
	tx.bytes += c.size()
	k := &nftables.Chain{Table: t.table, Name: c.name}
	if c.hook != nil {
		k.Hooknum, k.Priority, k.Type = c.hook, c.priority, c.kind
	}
	b.conn.AddChain(k)
	b.conn.FlushChain(k)
	for _, r := range c.rules {
		b.conn.AddRule(&nftables.Rule{Table: t.table, Chain: k, Exprs: r})
	}
	return nil
}

// size estimates the bytes of a chain's messages.
func (c chain) size() int {
	const header, expression = 128, 128
	n := 2 * header
	for _, r := range c.rules {
		n += header + len(r)*expression
	}
	return n
}
