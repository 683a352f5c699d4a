package nftables

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dataplane/model"
	"github.com/fairlead/fairlead/dataplane/nstest"
)

// TestRefusedProgram: what the kernel lacks is told from what it has not now, or not for us.
func TestRefusedProgram(t *testing.T) {
	for answer, want := range map[unix.Errno]string{
		unix.EOPNOTSUPP: "lacks nf_tables (CONFIG_NF_TABLES)", // the subsystem is not there
		unix.ENOENT:     "lacks nf_tables (CONFIG_NF_TABLES)",
		unix.EPERM:      "CAP_NET_ADMIN",
		unix.ENOMEM:     "memory limit",
		unix.ENOBUFS:    "memory limit",
		unix.EMSGSIZE:   "net.core.wmem_max",
		unix.ENOSPC:     "fewer Services",
		unix.E2BIG:      "fewer Services",
	} {
		conn, err := nftables.New(nftables.WithTestDial(func(request []netlink.Message) ([]netlink.Message, error) {
			if request == nil {
				return nil, nil
			}
			return nltest.Error(int(answer), request)
		}))
		if err != nil {
			t.Fatal(err)
		}
		err = probe(&connection{Conn: conn}, Options{}.withDefaults())
		if !errors.Is(err, answer) || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "lacks") != strings.Contains(want, "lacks") {
			t.Errorf("%v: the error is %v, want one that says %q", answer, err, want)
		}
	}
}

// TestRefusedWrite: a write that the kernel refuses changes nothing, its error says what to change, and once that is done
// the next one makes up for it.
func TestRefusedWrite(t *testing.T) {
	// What refuses returns takes the refusal back.
	for name, tc := range map[string]struct {
		refuse func(t *testing.T, b *Backend) func()
		answer unix.Errno
		want   string
	}{
		"rights lost": {func(t *testing.T, _ *Backend) func() {
			// The kernel asks what the thread that sends may do, too. It does not go back to the others.
			runtime.LockOSThread()
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var had, has [2]unix.CapUserData
			if err := unix.Capget(&header, &had[0]); err != nil {
				t.Fatal(err)
			}
			has = had
			has[0].Effective &^= 1 << unix.CAP_NET_ADMIN
			if err := unix.Capset(&header, &has[0]); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := unix.Capset(&header, &had[0]); err != nil {
					t.Fatal(err)
				}
				runtime.UnlockOSThread()
			}
		}, unix.EPERM, "CAP_NET_ADMIN"},
		"small buffer": {func(t *testing.T, b *Backend) func() {
			before, err := b.conn.netlink.WriteBuffer()
			if err == nil {
				err = b.conn.netlink.SetWriteBuffer(1)
			}
			if err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := b.conn.netlink.SetWriteBuffer(before / 2); err != nil { // the kernel doubles it
					t.Fatal(err)
				}
			}
		}, unix.EMSGSIZE, "net.core.wmem_max"},
		"full set": {func(t *testing.T, b *Backend) func() {
			table := b.tables[0]
			table.set[setFrontends].Size = uint32(len(table.elements[setFrontends]))
			state := packetsState()
			mustSync(t, b, state.State, nil) // makes the table anew
			return func() { table.set[setFrontends].Size = 0 }
		}, unix.ENFILE, "fewer Services"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &network{node: nstest.New(t, "node")}
			b := w.backend(t)
			state := packetsState()
			mustSync(t, b, state.State, nil)
			before := expected(state.State)
			cure := tc.refuse(t, b)

			more := state.group("more", model.TCP, 4, model.Cluster, model.Reject)
			for i := range 300 {
				state.frontend(model.ClusterIP, vip(4, "cluster", 9), uint16(1000+i), more, more, nobody)
			}
			changes := difference(packetsState().State, state.State)
			for range 2 { // by difference, then in full
				err := b.Sync(state.State, changes)
				if !errors.Is(err, tc.answer) || !strings.Contains(err.Error(), tc.want) {
					t.Errorf("the error is %v, want %v and one that says %q", err, tc.answer, tc.want)
				}
			}
			cure()
			if diff := cmp.Diff(before, served(t, b)); diff != "" {
				t.Errorf("before, after refused writes:\n%s", diff)
			}
			mustSync(t, b, state.State, &model.Changes{})
			if diff := cmp.Diff(expected(state.State), served(t, b)); diff != "" {
				t.Errorf("expected, served:\n%s", diff)
			}
		})
	}
}
