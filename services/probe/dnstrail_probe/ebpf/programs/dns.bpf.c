// Captures DNS packets on every socket of the host, with the process that owns the socket. All programs return 1:
// 0 would drop the packet. FIRST_BYTES adds the first bytes of the connections that processes open, by TCP or QUIC.

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define EXTENSIONS 8 // IPv6 extension headers that are followed
#define UNPLACED ((s32)(1U << 31)) // the distance of a segment if it is unknown
#define BEGINNING 16384 // bytes of a connection that are searched for the name of its server
#define INITIALS 262144 // bytes of QUIC's Initial datagrams that one socket may send: it can open many connections
#define LEAST_INITIAL 1200

// program_text.py repeats this part for each size: the verifier requires constant sizes, and bcc allows no map calls
// in macros.
// TIER
struct packet_SIZE {
    struct packet head;
    u8 payload[SIZE];
};

static __always_inline int send_SIZE(struct __sk_buff *skb, struct packet *head, u32 offset, u32 length)
{
    struct packet_SIZE *event = events.ringbuf_reserve(sizeof(struct packet_SIZE));
    if (!event)
        return LOST;
    u32 last = (length - 1) & (SIZE - 1);
    head->captured = last + 1;
    __builtin_memcpy(&event->head, head, sizeof(*head));
    if (bpf_skb_load_bytes(skb, offset, event->payload, last + 1)) {
        events.ringbuf_discard(event, WAKE_IF_WAITING);
        return UNREADABLE;
    }
    events.ringbuf_submit(event, WAKE_IF_WAITING);
    return -1;
}
// END TIER

static __always_inline int send(struct __sk_buff *skb, struct packet *head, u32 offset, u32 length)
{
    u64 cgroup = head->cgroup ? head->cgroup : bpf_skb_cgroup_id(skb);
    u32 size = length <= 128 ? 128 : length <= 512 ? 512 : length <= 4096 ? 4096 : length <= 16384 ? 16384 : 65536;
    int failed = LOST;
    if (!has_room(cgroup, sizeof(struct packet) + size))
        ;
    else if (size == 128)
        failed = send_128(skb, head, offset, length);
    else if (size == 512)
        failed = send_512(skb, head, offset, length);
    else if (size == 4096)
        failed = send_4096(skb, head, offset, length);
    else if (size == 16384)
        failed = send_16384(skb, head, offset, length);
    else
        failed = send_65536(skb, head, offset, length > 65536 ? 65536 : length);
    if (failed >= 0)
        lose(failed, cgroup);
    return 1;
}

static __always_inline void note_owner(struct packet *head, struct owner *owner, struct __sk_buff *skb)
{
#if SEES_NETNS
    head->netns = bpf_get_netns_cookie(skb);
#endif
    struct bpf_sock *socket = skb->sk;
    if (!owner && socket && IS_DNS(socket->src_port)) // an accepted socket
        owner = server_of(socket, head->netns, head->protocol, head->family);
    if (owner)
        copy_owner(head, owner);
#if SEES_CURRENT
    // The current task is the sender of an outgoing UDP packet, even if a fork shares the socket. For TCP and for
    // incoming packets the current task can be any.
    if (head->egress && head->protocol == UDP) {
        u64 id = bpf_get_current_pid_tgid();
        if (!owner || owner->pid != id >> 32) {
            struct owner sender = {.netns = head->netns};
            if (owner)
                sender = *owner;
            note_current(&sender);
            copy_owner(head, &sender);
            if (socket)
                inherit(&sender, socket);
            enter_owner(&head->cookie, &sender); // the reply is for the same process
        }
        head->tid = (u32)id;
        head->noted = head->ts;
    }
#endif
}

// A query that NAT passed to another port of this namespace is received by the socket that is bound there. The namespace
// is that of the sender's socket, which all kernels know.
static __always_inline void note_relay(struct packet *head)
{
    struct relay_place place = {.netns = head->netns, .port = head->dport, .protocol = head->protocol};
    __builtin_memcpy(&place.address, head->daddr, sizeof(place.address));
    if (!head->netns || !IS_LOOPBACK(place.address))
        return;
    u64 *cookie = relays.lookup(&place);
    struct owner *owner = cookie ? owners.lookup(cookie) : 0;
    if (owner)
        head->relay = owner->pid;
}

// The distance of a segment from the next byte that its socket expects. User space follows the windows, but the socket
// of an accepted connection has seen no SYN.
static __always_inline s32 distance_of(struct __sk_buff *skb, u32 offset)
{
    struct bpf_sock *socket = skb->sk;
    if (socket)
        socket = bpf_sk_fullsock(socket);
    if (!socket || (socket->state != BPF_TCP_ESTABLISHED && socket->state != BPF_TCP_FIN_WAIT1 &&
                    socket->state != BPF_TCP_FIN_WAIT2))
        return UNPLACED;
    struct bpf_tcp_sock *tcp = bpf_tcp_sock(socket);
    u32 sequence;
    if (!tcp || bpf_skb_load_bytes(skb, offset + 4, &sequence, sizeof(sequence)))
        return UNPLACED;
    return bpf_ntohl(sequence) - tcp->rcv_nxt;
}

// The payload of a record is a UDP payload, or a TCP segment with its header: user space follows the windows of both
// ends, so that segments without data count as well.
static __always_inline int keep(struct __sk_buff *skb, struct packet *head, u32 offset, struct owner *owner, u32 most)
{
    if (head->protocol == UDP) {
        offset += 8;
        head->datagram_size = skb->gso_size;
    } else {
        head->distance = head->egress ? UNPLACED : distance_of(skb, offset);
    }
    if (skb->len <= offset)
        return 1;
    head->ts = bpf_ktime_get_ns();
    head->processor = bpf_get_smp_processor_id();
    note_owner(head, owner, skb);
    if (head->egress && head->family == 4 && !IS_DNS(head->dport))
        note_relay(head);
    u32 length = skb->len - offset;
    return send(skb, head, offset, length < most ? length : most);
}

struct headers {
    u32 offset; // of the transport header
    u16 sport, dport;
    u8 family, protocol;
};

static __always_inline int read_ports(struct __sk_buff *skb, struct headers *found)
{
    u16 port[2];
    if (bpf_skb_load_bytes(skb, found->offset, port, sizeof(port)))
        return 0;
    found->sport = bpf_ntohs(port[0]);
    found->dport = bpf_ntohs(port[1]);
    return 1;
}

static __always_inline u64 cgroup_of(struct __sk_buff *skb)
{
    u64 cookie = bpf_get_socket_cookie(skb);
    struct owner *owner = owners.lookup(&cookie);
    return owner ? owner->cgroup : bpf_skb_cgroup_id(skb);
}

static __always_inline int is_extension(u8 protocol)
{ // hop-by-hop, routing, fragment, authentication, destination
    return protocol == 0 || protocol == 43 || protocol == 44 || protocol == 51 || protocol == 60;
}

static __always_inline int skip_extensions(struct __sk_buff *skb, struct headers *found)
{
#pragma unroll
    for (int i = 0; i < EXTENSIONS; i++) {
        u8 next = found->protocol, extension[2];
        if (is_extension(next)) {
            if (bpf_skb_load_bytes(skb, found->offset, extension, sizeof(extension)))
                return 0;
            u32 length = next == 51 ? (extension[1] + 2) * 4 : (extension[1] + 1) * 8;
            found->offset += next == 44 ? 8 : length;
            found->protocol = extension[0];
        }
    }
    if (is_extension(found->protocol))
        lose(TOO_MANY_EXTENSIONS, cgroup_of(skb));
    return found->protocol == UDP || found->protocol == TCP;
}

// Every packet of the host passes here. The common case reads the packet directly: one helper call costs as much as
// this whole function.
static __always_inline int read_headers(struct __sk_buff *skb, struct headers *found)
{
    u8 *ip = (u8 *)(long)skb->data, *end = (u8 *)(long)skb->data_end;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        if (ip + 24 > end)
            return 0;
        found->family = 4;
        found->protocol = ip[9];
        found->offset = (ip[0] & 15) * 4;
        if (found->protocol != UDP && found->protocol != TCP)
            return 0;
        if (found->offset != 20) // options
            return read_ports(skb, found);
        found->sport = bpf_ntohs(*(u16 *)(ip + 20));
        found->dport = bpf_ntohs(*(u16 *)(ip + 22));
        return 1;
    }
    if (skb->protocol != bpf_htons(ETH_P_IPV6) || ip + 44 > end)
        return 0;
    found->family = 6;
    found->protocol = ip[6];
    found->offset = 40;
    if (found->protocol != UDP && found->protocol != TCP)
        return skip_extensions(skb, found) && read_ports(skb, found);
    found->sport = bpf_ntohs(*(u16 *)(ip + 40));
    found->dport = bpf_ntohs(*(u16 *)(ip + 42));
    return 1;
}

// True if NAT rewrote the port of an outgoing packet that was sent to a DNS port. The reply has its DNS port again.
// A connected socket holds the original port itself; otherwise the owner's entry holds it.
static __always_inline int is_rewritten(struct __sk_buff *skb, u8 protocol)
{
    struct bpf_sock *socket = skb->sk;
    if (!socket)
        return 0;
    u16 meant = bpf_ntohs((u16)socket->dst_port);
    if (meant || protocol != UDP)
        return IS_DNS(meant);
    u64 cookie = bpf_get_socket_cookie(skb);
    struct owner *owner = owners.lookup(&cookie);
    return owner && owner->use == ASKS;
}

// A connection over UDP is reported with its first datagram, and with the source that the socket has.
static __always_inline void note_datagram(struct __sk_buff *skb)
{
    struct bpf_sock *socket = skb->sk;
    if (!socket || !socket->dst_port)
        return; // not connected
    u64 cookie = bpf_get_socket_cookie(skb);
    struct owner *owner = owners.lookup(&cookie);
    if (!owner || owner->use != UNSENT)
        return;
    owner->use = SENT;
    struct packet *event = note_connection(owner, cookie, bpf_ktime_get_ns(), CONNECT, UDP);
    if (!event)
        return;
    event->sport = socket->src_port;
    u32 *source = (u32 *)event->saddr;
    if (event->family == 4) {
        source[0] = socket->src_ip4;
    } else {
        source[0] = socket->src_ip6[0];
        source[1] = socket->src_ip6[1];
        source[2] = socket->src_ip6[2];
        source[3] = socket->src_ip6[3];
    }
    events.ringbuf_submit(event, WAKE_IF_WAITING);
}

#if FIRST_BYTES
BPF_TABLE("lru_hash", u64, u32, sent, 16384); // bytes sent so far, by the cookie of a socket that opens connections

// A datagram that begins with an Initial packet of version 1 or 2 of QUIC.
static __always_inline int is_initial(struct __sk_buff *skb, struct headers *found)
{
    u8 start[5];
    if (skb->len < found->offset + 8 + LEAST_INITIAL ||
        bpf_skb_load_bytes(skb, found->offset + 8, start, sizeof(start)))
        return 0;
    u32 version = start[1] << 24 | start[2] << 16 | start[3] << 8 | start[4];
    if (!(version == 1 && (start[0] & 0xf0) == 0xc0) && !(version == 0x6b3343cf && (start[0] & 0xf0) == 0xd0))
        return 0;
    u64 cookie = bpf_get_socket_cookie(skb);
    u32 length = skb->len, *before = sent.lookup(&cookie);
    if (!before)
        sent.update(&cookie, &length);
    else if (*before < INITIALS)
        *before += length;
    else
        return 0;
    return 1;
}

static __always_inline int is_beginning(struct __sk_buff *skb, struct headers *found)
{
    if (found->protocol == UDP)
        return is_initial(skb, found);
    u8 tcp[14];
    if (bpf_skb_load_bytes(skb, found->offset, tcp, sizeof(tcp)))
        return 0;
    u64 cookie = bpf_get_socket_cookie(skb);
    u32 none = 0, *before = sent.lookup(&cookie), header = found->offset + (tcp[12] >> 4) * 4;
    if (!before) {
        if ((tcp[13] & 0x12) != 0x02) // SYN without ACK
            return 0;
        sent.update(&cookie, &none);
        return 1;
    }
    if (*before >= BEGINNING || skb->len <= header)
        return 0;
    *before += skb->len - header;
    return 1;
}
#else
static __always_inline int is_beginning(struct __sk_buff *skb, struct headers *found) { return 0; }
#endif

// True for a reply that NAT gave the port of a DNS server. Its query came to another port and was captured at the client
// alone, on this host, and so is the reply. It shows a relay whose socket is older than the programs.
static __always_inline int is_of_relay(struct __sk_buff *skb, struct headers *found)
{
    u8 destination;
    asm volatile("" : "+r"(skb)); // the verifier refuses an address in skb that the compiler keeps for several reads
    struct bpf_sock *socket = skb->sk;
    if (!socket || found->family != 4 || !IS_DNS(found->sport) || socket->src_port == found->sport ||
        bpf_skb_load_bytes(skb, 16, &destination, 1) || destination != 127)
        return 0;
    u64 cookie = bpf_get_socket_cookie(skb);
    struct owner *owner = found->protocol == UDP ? owners.lookup(&cookie) : 0;
    if (owner && owner->netns && IS_LOOPBACK(socket->src_ip4)) {
        struct relay_place place = {.netns = owner->netns, .address = socket->src_ip4, .protocol = UDP};
        place.port = socket->src_port;
        relays.update(&place, &cookie);
    }
    return 1;
}

static __always_inline int capture(struct __sk_buff *skb, u8 egress)
{
    struct headers found = {};
    u32 most = 65536;
    if (!read_headers(skb, &found))
        return 1;
    if (!IS_DNS(found.sport) && !IS_DNS(found.dport) && !(egress && is_rewritten(skb, found.protocol))) {
        if (egress && found.protocol == UDP)
            note_datagram(skb);
        if (!egress || !is_beginning(skb, &found))
            return 1;
        most = BEGINNING;
    }
    if (egress && is_of_relay(skb, &found))
        return 1;
    struct packet head = {.kind = PACKET, .egress = egress, .sport = found.sport, .dport = found.dport};
    head.family = found.family;
    head.protocol = found.protocol;
    if (found.family == 4) {
        bpf_skb_load_bytes(skb, 12, head.saddr, 4);
        bpf_skb_load_bytes(skb, 16, head.daddr, 4);
    } else {
        bpf_skb_load_bytes(skb, 8, head.saddr, 16);
        bpf_skb_load_bytes(skb, 24, head.daddr, 16);
    }
    head.cookie = bpf_get_socket_cookie(skb);
    return keep(skb, &head, found.offset, owners.lookup(&head.cookie), most);
}

int on_ingress(struct __sk_buff *skb) { return capture(skb, 0); }
int on_egress(struct __sk_buff *skb) { return capture(skb, 1); }
