package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"syscall"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// connection speaks netlink: by package nftables of Google for writing and for what is small, by itself for large lists
// and for hearing of changes, at which the library is too slow. It is not safe for concurrent use.
type connection struct {
	*nftables.Conn
	netlink *netlink.Conn
	raw     syscall.RawConn
	buf     []byte
	// transaction bounds the bytes of one transaction, bulk of those that write thousands of Services.
	transaction, bulk int
}

const (
	// receiveBuffer is more than the kernel ever puts into one datagram (32 KiB).
	receiveBuffer = 64 << 10
	// maxTransaction is some 10,000 elements, more than a change of a Service of 1,000 endpoints. Where thousands of
	// Services are written, smaller transactions are faster and take less memory.
	maxTransaction  = 1 << 20
	bulkTransaction = 128 << 10
	// maxDescriptor is what select takes, by which the library waits: with a larger one it would panic.
	maxDescriptor = 1023
)

// dial opens a connection.
func dial(o Options) (*connection, error) {
	c := &connection{buf: make([]byte, receiveBuffer)}
	opts := []nftables.ConnOption{nftables.AsLasting(), nftables.WithSockOptions(c.configure)}
	if o.NetNS != 0 {
		opts = append(opts, nftables.WithNetNSFd(o.NetNS))
	}
	var err error
	c.Conn, err = nftables.New(opts...)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return nil, fmt.Errorf("opening netlink: the kernel lacks netfilter netlink (CONFIG_NETFILTER_NETLINK): %w", err)
	case err != nil:
		return nil, fmt.Errorf("opening netlink: %w", err)
	}
	return c, nil
}

// configure prepares the socket. A transaction is one message to the kernel and must fit into the send buffer, which
// root may make as large as it likes, others up to net.core.wmem_max.
func (c *connection) configure(conn *netlink.Conn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var number uintptr
	if err := raw.Control(func(fd uintptr) { number = fd }); err != nil {
		return err
	}
	if number > maxDescriptor {
		return errors.Join(fmt.Errorf("file descriptor %d is more than %d: too many files are open", number, maxDescriptor), conn.Close())
	}
	// The kernel answers with each rule that it was given.
	if err := errors.Join(conn.SetWriteBuffer(maxTransaction), conn.SetReadBuffer(2*maxTransaction)); err != nil {
		return err
	}
	size, err := conn.WriteBuffer()
	c.netlink, c.raw = conn, raw
	c.transaction, c.bulk = min(maxTransaction, size/2), min(bulkTransaction, size/2)
	return err
}

// port names the connection; the kernel tells it of each change's sender.
func (c *connection) port() uint32 { return c.netlink.PID() }

// aboutNftables marks the kinds of messages of nftables.
const aboutNftables = unix.NFNL_SUBSYS_NFTABLES << 8

// message is one netlink message about nftables; its bytes are valid until the next one is received.
type message struct {
	kind   uint16 // aboutNftables|NFT_MSG_*, NLMSG_DONE or NLMSG_ERROR
	sender uint32 // port of the socket that caused it
	serial uint32
	family nftables.TableFamily
	// body is its attributes, after the header of netfilter; of NLMSG_DONE and NLMSG_ERROR all of it.
	body []byte
}

// receive waits for a datagram and returns its messages.
func (c *connection) receive() (iter.Seq[message], error) {
	var n int
	var err error
	if readErr := c.raw.Read(func(fd uintptr) bool {
		// The buffer is large each time: the kernel puts as much into a datagram of a list as the largest buffer had
		// room for, and searches the set from its beginning for each datagram.
		n, _, err = unix.Recvfrom(int(fd), c.buf, unix.MSG_DONTWAIT)
		return !errors.Is(err, unix.EAGAIN)
	}); readErr != nil {
		return nil, readErr
	}
	if err != nil {
		return nil, os.NewSyscallError("recvfrom", err)
	}
	return messages(c.buf[:n]), nil
}

// messages splits a datagram; what is cut short ends it.
func messages(b []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return
			}
			m := message{
				kind: binary.NativeEndian.Uint16(b[4:]), serial: binary.NativeEndian.Uint32(b[8:]),
				sender: binary.NativeEndian.Uint32(b[12:]), body: b[unix.NLMSG_HDRLEN:size],
			}
			if m.kind&aboutNftables != 0 && len(m.body) >= 4 {
				m.family, m.body = nftables.TableFamily(m.body[0]), m.body[4:]
			}
			if !yield(m) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// attributes splits netlink attributes.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.NLA_HDRLEN || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.NLA_HDRLEN:size]) {
				return
			}
			b = b[min(align(size), len(b)):]
		}
	}
}

// attribute returns the first one of a type, nil if there is none.
func attribute(b []byte, want uint16) []byte {
	for typ, value := range attributes(b) {
		if typ == want {
			return value
		}
	}
	return nil
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// text is an attribute that ends with a zero byte.
func text(value []byte) string {
	if n := len(value); n > 0 && value[n-1] == 0 {
		value = value[:n-1]
	}
	return string(value)
}

// list asks for a list and hands over the attributes of each message of the answer.
func (c *connection) list(get uint16, family nftables.TableFamily, attrs []netlink.Attribute, each func(body []byte)) error {
	data, err := netlink.MarshalAttributes(attrs)
	if err != nil {
		return err
	}
	asked, err := c.netlink.Send(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(aboutNftables | get),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{byte(family), unix.NFNETLINK_V0, 0, 0}, data...),
	})
	if err != nil {
		return err
	}
	for {
		answer, err := c.receive()
		if err != nil {
			return err
		}
		for m := range answer {
			switch {
			case m.serial != asked.Header.Sequence:
			case m.kind == unix.NLMSG_DONE || m.kind == unix.NLMSG_ERROR:
				if len(m.body) >= 4 {
					if errno := int32(binary.NativeEndian.Uint32(m.body)); errno < 0 {
						return os.NewSyscallError("netlink", unix.Errno(-errno))
					}
				}
				return nil
			default:
				each(m.body)
			}
		}
	}
}

// element is one element of a set as the kernel tells it.
type element struct {
	key, keyEnd []byte
	data        []byte // the attributes of a verdict, where it is one
	end         bool   // of a range
	// strange is true for what no element of ours is: one that stands for everything, or has an object or rules of its own,
	// such as a limit.
	strange bool
}

// elements hands over each element of a set.
func (c *connection) elements(set *nftables.Set, each func(element)) error {
	return c.list(unix.NFT_MSG_GETSETELEM, set.Table.Family, []netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(set.Table.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(set.Name + "\x00")},
	}, func(body []byte) {
		for _, item := range attributes(attribute(body, unix.NFTA_SET_ELEM_LIST_ELEMENTS)) {
			each(parseElement(item))
		}
	})
}

func parseElement(b []byte) element {
	const keyEnd, expressions = 10, 11 // NFTA_SET_ELEM_KEY_END and _EXPRESSIONS, which package unix lacks
	var e element
	for typ, value := range attributes(b) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.key = attribute(value, unix.NFTA_DATA_VALUE)
		case keyEnd:
			e.keyEnd = attribute(value, unix.NFTA_DATA_VALUE)
		case unix.NFTA_SET_ELEM_DATA:
			if e.data = attribute(value, unix.NFTA_DATA_VALUE); e.data == nil {
				e.data = attribute(value, unix.NFTA_DATA_VERDICT)
			}
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = len(value) == 4 && binary.BigEndian.Uint32(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_EXPR, expressions, unix.NFTA_SET_ELEM_OBJREF:
			e.strange = true
		}
	}
	e.strange = e.strange || e.key == nil
	return e
}

// names lists the chains (get NFT_MSG_GETCHAIN) or sets (NFT_MSG_GETSET) of a table, but those without a name of their
// own. The kernel may list those of all tables of a family, with whatever they have: of these no more than the name is
// looked at.
func (c *connection) names(get uint16, t *nftables.Table) ([]string, error) {
	const table = 1 // NFTA_CHAIN_TABLE, NFTA_SET_TABLE
	name := uint16(unix.NFTA_CHAIN_NAME)
	if get == unix.NFT_MSG_GETSET {
		name = unix.NFTA_SET_NAME
	}
	var names []string
	err := c.list(get, t.Family, []netlink.Attribute{{Type: table, Data: []byte(t.Name + "\x00")}}, func(body []byte) {
		anonymous := get == unix.NFT_MSG_GETSET && numberOf(body, unix.NFTA_SET_FLAGS)&unix.NFT_SET_ANONYMOUS != 0
		if text(attribute(body, table)) == t.Name && !anonymous {
			names = append(names, text(attribute(body, name)))
		}
	})
	return names, err
}

// expressions counts the expressions of each rule of a table, by chain.
func (c *connection) expressions(t *nftables.Table) (map[string][]int, error) {
	counts := map[string][]int{}
	err := c.list(unix.NFT_MSG_GETRULE, t.Family, []netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")}}, func(body []byte) {
		if text(attribute(body, unix.NFTA_RULE_TABLE)) != t.Name {
			return
		}
		n := 0
		for range attributes(attribute(body, unix.NFTA_RULE_EXPRESSIONS)) {
			n++
		}
		chain := text(attribute(body, unix.NFTA_RULE_CHAIN))
		counts[chain] = append(counts[chain], n)
	})
	return counts, err
}

// numberOf reads a number; 0 if it is not there.
func numberOf(b []byte, typ uint16) uint32 {
	if value := attribute(b, typ); len(value) == 4 {
		return binary.BigEndian.Uint32(value)
	}
	return 0
}
