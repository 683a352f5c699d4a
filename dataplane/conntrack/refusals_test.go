package conntrack

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// refusing is a kernel that refuses to filter, in one family or (0) in both.
type refusing struct {
	*socket
	family uint8
	err    error
	asked  int
}

func (r *refusing) dump(request []byte, each func([]byte) error) error {
	r.asked++
	plain := (&filter{family: 4}).request(true)
	if family := request[unix.SizeofNlMsghdr]; len(request) > len(plain) && (r.family == 0 || r.family == family) {
		return r.err
	}
	return r.socket.dump(request, each)
}

// TestFilterRefused: a kernel that knows no filters, or not these, is asked for all flows, of which ours alone are looked
// at. One that is out of memory is not asked for more, but again.
func TestFilterRefused(t *testing.T) {
	for err, asked := range map[unix.Errno]int{unix.EOPNOTSUPP: 2, unix.EINVAL: 2, unix.ENOMEM: 1, unix.ENOBUFS: 1} {
		t.Run(err.Error(), func(t *testing.T) {
			w := conntrackNode(t)
			flows := ownFlows(0, 2)
			flows[1].endpoint = netip.AddrPortFrom(pod4.Addr(), 8081)
			makeFlows(t, w.node, flows)
			c, e := New(Options{Flows: true, NetNS: w.node.FD()})
			check(t, e)
			defer c.close()
			kernel := &refusing{socket: c.dumps.(*socket), err: err}
			c.dumps = kernel
			everything := judge(func(*model.Suspects, model.Flow) bool { return true })
			var log logBuffer
			c.Clean(suspectEndpoint(model.UDP, pod4, false))
			c.work(t.Context(), log.logger(), everything)
			if kernel.asked != asked {
				t.Errorf("asked %d times, want %d", kernel.asked, asked)
			}
			if asked == 1 {
				if n := len(w.flows(t)); n != 2 || log.count(err.Error()) != 1 || c.failures != 1 {
					t.Errorf("%d flows left, %d failures, log %v", n, c.failures, log.lines)
				}
				c.dumps = kernel.socket
				c.work(t.Context(), log.logger(), everything)
			}
			if left := w.flows(t); len(left) != 1 || left[0].reply.src != flows[1].endpoint || c.failures != 0 {
				t.Errorf("left %v after %d failures, want the flow of another endpoint", left, c.failures)
			}
		})
	}
}

// TestOneFamilyRefused: what cannot be listed of one family keeps nothing of the other.
func TestOneFamilyRefused(t *testing.T) {
	w := conntrackNode(t)
	makeFlows(t, w.node, []made{
		{protocol: model.UDP, client: client4, to: vip4, endpoint: pod4},
		{protocol: model.UDP, client: client6, to: vip6, endpoint: pod6},
	})
	c, err := New(Options{Flows: true, NetNS: w.node.FD()})
	check(t, err)
	defer c.close()
	c.dumps = &refusing{socket: c.dumps.(*socket), family: unix.AF_INET, err: unix.ENOMEM}
	s := suspectEndpoint(model.UDP, pod4, false)
	s.Add(suspectEndpoint(model.UDP, pod6, false))
	err = c.pass(t.Context(), s, judge(func(*model.Suspects, model.Flow) bool { return true }))
	if left := w.flows(t); !errors.Is(err, unix.ENOMEM) || len(left) != 1 || left[0].original.src != client4 {
		t.Errorf("error %v, left %v, want the flow of IPv4 alone", err, left)
	}
}

// TestDumpGivenUp: after a dump that was not read to its end the next one is whole.
func TestDumpGivenUp(t *testing.T) {
	const many = 1000 // more than a datagram holds
	w := conntrackNode(t)
	makeFlows(t, w.node, ownFlows(0, many))
	s, err := openSocket(w.node.FD())
	check(t, err)
	defer s.close()
	all := filter{family: 4}
	enough := errors.New("enough")
	if err := s.dump(all.request(true), func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Fatal(err)
	}
	for range 2 {
		n := 0
		check(t, s.dump(all.request(true), func([]byte) error { n++; return nil }))
		if n != many {
			t.Errorf("%d flows listed, want %d", n, many)
		}
	}
}

// TestLateAnswer: what comes in answer to a request that was given up is not taken for the answer to the next one.
func TestLateAnswer(t *testing.T) {
	w := conntrackNode(t)
	makeFlows(t, w.node, ownFlows(0, 1))
	flow := w.flows(t)[0]
	s, err := openSocket(w.node.FD())
	check(t, err)
	defer s.close()
	another := flow
	another.id++
	check(t, s.send(deletion(&another)))
	results, err := s.acknowledged(deletion(&flow), 1)
	check(t, err)
	if results[0] != nil {
		t.Errorf("the flow's deletion: %v", results[0])
	}
}

// TestResetTableTaken: that another program has the table for itself is an error each time, and afterwards everything is as
// ever.
func TestResetTableTaken(t *testing.T) {
	w := conntrackNode(t)
	other, err := nftables.New(nftables.WithNetNSFd(w.node.FD()), nftables.AsLasting())
	check(t, err)
	defer func() { _ = other.CloseLasting() }()
	theirs := table()
	theirs.Flags = nftables.TableFlagOwner
	other.AddTable(theirs)
	check(t, other.Flush())
	r := &resets{namespace: w.node.FD()}
	defer r.close()
	open := []entry{{original: tuple{src: client4, dst: vip4}}}
	for range 2 {
		if err := r.add(open); !errors.Is(err, unix.EPERM) {
			t.Errorf("error %v, want that of a table which is another's", err)
		}
	}
	check(t, other.CloseLasting())
	check(t, r.add(open))
	if text := ruleset(t, w.node); !strings.Contains(text, "10.96.0.10") {
		t.Errorf("not noted:\n%s", text)
	}
}

// TestResetTableOfFormerRun: the table that an agent left when it ended goes once nothing in it can be valid.
func TestResetTableOfFormerRun(t *testing.T) {
	w := conntrackNode(t)
	former := &resets{namespace: w.node.FD()}
	check(t, former.add([]entry{{original: tuple{src: client4, dst: vip4}}}))
	former.close()
	c, err := New(Options{Resets: true, NetNS: w.node.FD()})
	check(t, err)
	defer c.close()
	check(t, c.resets.removeIdle(c.resets.last.Add(resetMemory-1)))
	if text := ruleset(t, w.node); !strings.Contains(text, resetTable) {
		t.Errorf("removed too early:\n%s", text)
	}
	check(t, c.resets.removeIdle(c.resets.last.Add(resetMemory)))
	if text := ruleset(t, w.node); strings.Contains(text, resetTable) {
		t.Errorf("left:\n%s", text)
	}
}

func ruleset(t *testing.T, ns *nstest.Namespace) string {
	t.Helper()
	var out []byte
	check(t, ns.Do(func() (err error) {
		out, err = exec.Command("nft", "list", "ruleset").CombinedOutput()
		return err
	}))
	return string(out)
}
