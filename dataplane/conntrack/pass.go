package conntrack

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
)

// batchSize is how many flows are judged, and deleted, at a time.
const batchSize = 64

// pass is one dump: flows are judged, and deleted, while it goes on.
type pass struct {
	*Cleaner
	suspects *model.Suspects
	judge    Judge
	filter   *filter
	report   *Report

	batch []entry
	flows []model.Flow
	stale []bool
	// errs are failures that did not end the dump; a few tell enough.
	errs []error
}

const maxErrors = 3

// run makes the dump. A kernel that refuses the filter is asked for everything.
func (p *pass) run() error {
	err := p.dumps.dump(p.filter.request(false), p.see)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		err = p.dumps.dump(p.filter.request(true), p.see)
	}
	if err != nil {
		err = fmt.Errorf("listing flows: %w", err)
	}
	p.settle()
	return errors.Join(append(p.errs, err)...)
}

// see takes one message of the dump.
func (p *pass) see(data []byte) error {
	e := parseEntry(data)
	if p.filter.matches(&e) {
		if p.batch = append(p.batch, e); len(p.batch) == batchSize {
			p.settle()
		}
	}
	return nil
}

// settle judges the batch and deletes what is stale.
func (p *pass) settle() {
	if len(p.batch) == 0 {
		return
	}
	p.flows, p.stale = p.flows[:0], p.stale[:0]
	for i := range p.batch {
		p.flows = append(p.flows, p.batch[i].flow())
		p.stale = append(p.stale, false)
	}
	p.judge.Stale(p.suspects, p.flows, p.stale)
	stale := p.batch[:0]
	for i := range p.batch {
		if p.stale[i] {
			stale = append(stale, p.batch[i])
		}
	}
	if len(stale) > 0 {
		p.forget(stale)
	}
	p.batch = p.batch[:0]
}

// forget deletes flows. Connections that are open are noted for their reset before, so that no packet of theirs falls
// in between, and their clients are poked afterwards.
func (p *pass) forget(stale []entry) {
	var open []entry
	for i := range stale {
		if stale[i].open() {
			open = append(open, stale[i])
		}
	}
	if len(open) > 0 {
		p.note(p.resets.add(open))
	}
	var requests []byte
	for i := range stale {
		requests = append(requests, deletion(&stale[i])...)
	}
	results, err := p.deaths.acknowledged(requests, len(stale))
	p.note(err)
	for i, err := range results {
		switch {
		case err == nil:
			p.report.Deleted++
			if stale[i].open() {
				p.report.Reset++
				if p.poker != nil {
					p.poker.poke(&stale[i].original)
				}
			}
		case !errors.Is(err, unix.ENOENT): // that one ended by itself, or another took its place
			p.note(fmt.Errorf("deleting a flow: %w", err))
		}
	}
}

func (p *pass) note(err error) {
	if err != nil && len(p.errs) < maxErrors {
		p.errs = append(p.errs, err)
	}
}
