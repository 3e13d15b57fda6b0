// Attributes a socket to its process, and keeps its destination before any NAT. All programs return 1: 0 would block.

#define TCP 6
#define UDP 17
#define IS_LOOPBACK(address) (((address) & 0xff) == 127) // of an IPv4 address in network order

// program_text.py defines IS_DNS(port): comparisons with constants cost less than a map.

// UNSENT: a UDP socket that connected, and has sent nothing yet. The C library connects such sockets to put addresses in
// order. SENT: its connection was reported.
enum use { OTHER, ASKS, UNSENT, SENT };

struct owner {
    u64 noted; // time of the entry: process ids are reused, so the id alone does not identify a process
    u64 netns, cgroup, charged; // charged: the owner of the cgroup in whose share the entry is; in `servers`, a cookie
    u32 pid, tid, uid;
    u16 meant_port;
    u8 family, use;
    u8 meant[16];
    char comm[16];
};

// Where a socket is bound. An IPv4 address is IPv4-mapped, and so is the wildcard of IPv4; that of IPv6 is zeros.
struct place {
    u64 netns;
    u32 address[4], protocol, port;
};

// A packet; or a connection attempt, its result, its end, or the end of a UDP socket used for DNS. Only a packet, the
// result and the end of TCP, and the attempt of UDP have a source. Only a packet and the end of TCP have a payload.
struct packet {
    u64 ts;
    u32 kind, captured;
    u64 cookie, netns, cgroup, noted;
    u32 pid, tid, uid, processor;
    u16 sport, dport, meant_port, datagram_size; // the size: of each datagram, if the packet holds several (UDP_SEGMENT, GRO)
    u8 family, protocol, egress, error; // error: an errno
    s32 distance; // of an arriving TCP segment from the next byte that its socket expects; or UNPLACED
    u32 relay, unused; // relay: the process whose socket receives a query that NAT passes to another port, or 0
    u8 saddr[16], daddr[16], meant[16];
    char comm[16];
};

// NAT can pass queries to a port of the same namespace, as for Docker's resolver: the owner of its socket is their relay.
struct relay_place {
    u64 netns;
    u32 address; // 127/8, as in the packet
    u16 port, protocol;
};

BPF_TABLE("lru_hash", u64, struct owner, owners, OWNERS); // by socket cookie, while the socket is open
BPF_TABLE("lru_hash", struct place, struct owner, servers, 4096); // owns the sockets that the bound one accepts
BPF_TABLE("lru_hash", struct relay_place, u64, relays, RELAYS); // the cookie of the socket that is bound there

static __always_inline void note_current(struct owner *owner)
{
    u64 id = bpf_get_current_pid_tgid();
    owner->noted = bpf_ktime_get_ns();
    owner->pid = id >> 32;
    owner->tid = (u32)id;
    owner->uid = (u32)bpf_get_current_uid_gid();
    owner->cgroup = bpf_get_current_cgroup_id();
    bpf_get_current_comm(owner->comm, sizeof(owner->comm));
}

static __always_inline void copy_owner(struct packet *packet, struct owner *owner)
{
    packet->noted = owner->noted;
    packet->netns = owner->netns;
    packet->cgroup = owner->cgroup;
    packet->pid = owner->pid;
    packet->tid = owner->tid;
    packet->uid = owner->uid;
    packet->meant_port = owner->meant_port;
    __builtin_memcpy(packet->meant, owner->meant, sizeof(packet->meant));
    __builtin_memcpy(packet->comm, owner->comm, sizeof(packet->comm));
}

// Takes a place in the map for a socket of this cgroup; false if its owner holds as many as are free. The map never
// gets full, so it evicts no socket of others.
static __always_inline int take_place(struct owner *owner)
{
    u32 held = OWNERS_HELD, found = OWNERS_FOUND;
    u64 *entered = counters.lookup(&held), *seeded = counters.lookup(&found);
    owner->charged = owner_of(owner->cgroup);
    struct share *share = share_of(owner->charged);
    if (!entered || !seeded || !share || share->sockets + *entered + *seeded >= OWNERS)
        return 0;
    __sync_fetch_and_add(&share->sockets, 1);
    count(OWNERS_HELD);
    return 1;
}

static __always_inline void enter_owner(u64 *cookie, struct owner *owner)
{
    struct owner *before = owners.lookup(cookie);
    if (before)
        owner->charged = before->charged;
    else if (!take_place(owner))
        return lose(OWNERS_REFUSED, owner->cgroup);
    owners.update(cookie, owner);
}

static __always_inline void remove_owner(u64 *cookie)
{
    struct owner *owner = owners.lookup(cookie);
    if (!owner)
        return;
    u64 charged = owner->charged;
    if (owners.delete(cookie))
        return; // another processor has removed it
    add(OWNERS_HELD, -1);
    struct share *share = shares.lookup(&charged);
    if (share && share->sockets)
        __sync_fetch_and_add(&share->sockets, -1);
}

int on_create(struct bpf_sock *ctx)
{
    if (ctx->family != 2 && ctx->family != 10)
        return 1;
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner owner = {.netns = bpf_get_netns_cookie(ctx)};
    note_current(&owner);
    enter_owner(&cookie, &owner);
    return 1;
}

static __always_inline void
fill_connection(struct packet *event, struct owner *owner, u64 cookie, u64 now, u32 kind, u8 protocol)
{
    __builtin_memset(event, 0, sizeof(*event));
    copy_owner(event, owner);
    event->ts = now;
    event->kind = kind;
    event->processor = bpf_get_smp_processor_id();
    event->cookie = cookie;
    event->dport = owner->meant_port;
    event->family = owner->family;
    event->protocol = protocol;
    event->egress = 1;
    __builtin_memcpy(event->daddr, owner->meant, sizeof(event->daddr));
}

static __always_inline struct packet *
note_connection(struct owner *owner, u64 cookie, u64 now, u32 kind, u8 protocol)
{
    struct packet *event = has_room(owner->cgroup, sizeof(*event)) ? events.ringbuf_reserve(sizeof(struct packet)) : 0;
    if (event)
        fill_connection(event, owner, cookie, now, kind, protocol);
    else
        lose(LOST, owner->cgroup);
    return event;
}

static __always_inline void report(struct owner *owner, u64 cookie, u32 kind, u8 protocol)
{
    struct packet *event = note_connection(owner, cookie, bpf_ktime_get_ns(), kind, protocol);
    if (event)
        events.ringbuf_submit(event, WAKE_IF_WAITING);
}

int on_release(struct bpf_sock *ctx)
{
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner *owner = owners.lookup(&cookie);
#ifdef SOCK_COOKIE // results.bpf.c removes the owner when the connection ends, which can be long after this
    if (ctx->protocol == TCP && ctx->state != BPF_TCP_CLOSE)
        return 1;
    if (owner && owner->meant_port && ctx->protocol == TCP) // no route, or no address: no state led to the result
        report(owner, cookie, NOT_CONNECTED, TCP);
#endif
    if (owner && owner->use == ASKS && ctx->protocol == UDP) // the C library closes its socket once it has its answers
        report(owner, cookie, DNS_CLOSED, UDP);
    if (owner && owner->use == SENT)
        report(owner, cookie, CLOSED, UDP);
    remove_owner(&cookie);
    return 1;
}

static __always_inline void set_ipv4(struct place *place, u32 address)
{
    asm volatile("" : "+r"(address)); // the verifier refuses one read for the addresses of both families
    place->address[2] = bpf_htonl(0xffff);
    place->address[3] = address;
}

static __always_inline void set_ipv6(struct place *place, struct bpf_sock *socket)
{
    place->address[0] = socket->src_ip6[0];
    place->address[1] = socket->src_ip6[1];
    place->address[2] = socket->src_ip6[2];
    place->address[3] = socket->src_ip6[3];
}

// The address is that of the socket: NAT may have changed the one of the packet.
static __always_inline void set_place(struct place *place, struct bpf_sock *socket, u64 netns, u32 protocol)
{
    place->netns = SEES_NETNS ? netns : 0;
    place->protocol = protocol;
    place->port = socket->src_port;
    if (socket->family == 2)
        set_ipv4(place, socket->src_ip4);
    else
        set_ipv6(place, socket);
}

static __always_inline int note_server(struct bpf_sock *ctx, struct place *place)
{
    if (!IS_DNS(ctx->src_port))
        return 1;
    struct owner owner = {.netns = bpf_get_netns_cookie(ctx), .charged = bpf_get_socket_cookie(ctx)};
    place->netns = SEES_NETNS ? owner.netns : 0;
    place->protocol = ctx->protocol;
    place->port = ctx->src_port;
    note_current(&owner);
    servers.update(place, &owner);
    return 1;
}

int on_post_bind4(struct bpf_sock *ctx)
{
    u32 address = ctx->src_ip4;
    struct place bound = {};
    if (IS_LOOPBACK(address) && !IS_DNS(ctx->src_port)) {
        u64 cookie = bpf_get_socket_cookie(ctx);
        struct relay_place place = {.netns = bpf_get_netns_cookie(ctx), .address = address};
        place.port = ctx->src_port;
        place.protocol = ctx->protocol;
        relays.update(&place, &cookie);
    }
    set_ipv4(&bound, address);
    return note_server(ctx, &bound);
}

int on_post_bind6(struct bpf_sock *ctx)
{
    struct place bound = {};
    set_ipv6(&bound, ctx);
    return note_server(ctx, &bound);
}

// The process that bound the listening socket of an accepted one: to its address, or to a wildcard. An entry stays when
// its socket is closed, and counts only if there is none of an open socket.
static __always_inline struct owner *server_of(struct bpf_sock *socket, u64 netns, u32 protocol, u8 family)
{
    struct place place = {};
    set_place(&place, socket, netns, protocol);
    struct owner *server = servers.lookup(&place), *closed = server;
    if (server && owners.lookup(&server->charged))
        return server;
    place.address[3] = 0;
    if (family == 4) {
        server = servers.lookup(&place);
        if (server && owners.lookup(&server->charged))
            return server;
        closed = closed ? closed : server;
    }
    place.address[0] = place.address[1] = place.address[2] = 0; // serves IPv4, too
    server = servers.lookup(&place);
    return server && (!closed || owners.lookup(&server->charged)) ? server : closed;
}

// A server that daemonized bound its ports in a process that has ended since. The process that answers over UDP now
// takes over the place of its socket, and that of TCP at the same address and port.
static __always_inline void inherit(struct owner *sender, struct bpf_sock *socket)
{
    if (!IS_DNS(socket->src_port))
        return;
    struct place place = {};
    set_place(&place, socket, sender->netns, UDP);
    struct owner *server = servers.lookup(&place);
    if (!server || server->pid == sender->pid)
        return;
    u32 before = server->pid;
    sender->charged = server->charged;
    servers.update(&place, sender);
    place.protocol = TCP;
    server = servers.lookup(&place);
    if (!server || server->pid != before)
        return;
    sender->charged = server->charged;
    servers.update(&place, sender);
}

static __always_inline void note_target(struct bpf_sock_addr *ctx, struct owner *owner, u8 family)
{
    u32 address[4] = {};
    if (family == 4) {
        address[0] = ctx->user_ip4;
    } else {
        address[0] = ctx->user_ip6[0];
        address[1] = ctx->user_ip6[1];
        address[2] = ctx->user_ip6[2];
        address[3] = ctx->user_ip6[3];
    }
    owner->netns = bpf_get_netns_cookie(ctx);
    owner->family = family;
    __builtin_memcpy(owner->meant, address, sizeof(owner->meant));
    owner->meant_port = bpf_ntohs(ctx->user_port);
    owner->use = IS_DNS(owner->meant_port) ? ASKS : OTHER;
    note_current(owner);
}

static __always_inline int on_send(struct bpf_sock_addr *ctx, u8 family)
{
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner owner = {}, *connected = owners.lookup(&cookie);
    note_target(ctx, &owner, family);
    // A socket that is connected to an IPv4-mapped address passes here, too.
    if (owner.use == ASKS || !connected || connected->use < UNSENT)
        enter_owner(&cookie, &owner);
    struct bpf_sock *socket = ctx->sk;
    if (socket)
        inherit(&owner, socket);
    return 1;
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx, u8 family)
{
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner owner = {};
    note_target(ctx, &owner, family);
    // UDP: not DNS ports, whose packets are reported, and not port 0, by which programs only ask for the route.
    if (ctx->protocol == UDP && owner.meant_port && owner.use != ASKS)
        owner.use = UNSENT;
    enter_owner(&cookie, &owner);
    if (ctx->protocol == TCP)
        report(&owner, cookie, CONNECT, TCP);
    return 1;
}

int on_connect4(struct bpf_sock_addr *ctx) { return on_connect(ctx, 4); }
int on_connect6(struct bpf_sock_addr *ctx) { return on_connect(ctx, 6); }
int on_sendmsg4(struct bpf_sock_addr *ctx) { return on_send(ctx, 4); }
int on_sendmsg6(struct bpf_sock_addr *ctx) { return on_send(ctx, 6); }
