// Refuses what an allow list does not contain, for the sockets of one cgroup. Each hook has two programs. The guard
// stays attached while the cgroup exists. It calls the program that decides, which is there only while the launcher
// holds the program array: the kernel empties an array that no process has open. The guard alone returns `afterwards`.

#define STREAM 1 // SOCK_STREAM, SOCK_DGRAM
#define DATAGRAM 2
// Go and musl connect UDP sockets to these ports, to put the addresses of a name in order. glibc takes the wanted port.
#define SORTS_GO 9
#define SORTS_MUSL 65535

enum action { REACH, BIND, MAKE }; // an address, an own address, a socket

// An attempt that was refused. A socket has no address.
struct refusal {
    u32 words[4];
    u32 pid, action;
    u16 port, protocol, family, type;
    char comm[16];
};

// A refusal that happens for the first time: its key in `refused`, or that of a question in `unasked`, or in `waiting` if
// a person is asked. The buffer has room for all that these maps can contain.
struct first {
    u64 question, waiting;
    struct refusal refusal;
};

BPF_HASH(refused, struct refusal, u64, REFUSED);
BPF_RINGBUF_OUTPUT(firsts, FIRST_PAGES);

BPF_PROG_ARRAY(deciding_create, 1);
BPF_PROG_ARRAY(deciding_connect4, 1);
BPF_PROG_ARRAY(deciding_connect6, 1);
BPF_PROG_ARRAY(deciding_sendmsg4, 1);
BPF_PROG_ARRAY(deciding_sendmsg6, 1);
BPF_PROG_ARRAY(deciding_bind4, 1);
BPF_PROG_ARRAY(deciding_bind6, 1);

int guard_create(struct bpf_sock *ctx) { deciding_create.call(ctx, 0); return afterwards(); }
int guard_connect4(struct bpf_sock_addr *ctx) { deciding_connect4.call(ctx, 0); return afterwards(); }
int guard_connect6(struct bpf_sock_addr *ctx) { deciding_connect6.call(ctx, 0); return afterwards(); }
int guard_sendmsg4(struct bpf_sock_addr *ctx) { deciding_sendmsg4.call(ctx, 0); return afterwards(); }
int guard_sendmsg6(struct bpf_sock_addr *ctx) { deciding_sendmsg6.call(ctx, 0); return afterwards(); }
int guard_bind4(struct bpf_sock_addr *ctx) { deciding_bind4.call(ctx, 0); return afterwards(); }
int guard_bind6(struct bpf_sock_addr *ctx) { deciding_bind6.call(ctx, 0); return afterwards(); }

static __always_inline int refuse(struct refusal *refusal)
{
    u64 once = 1, *times;
    refusal->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(refusal->comm, sizeof(refusal->comm));
    if (!refused.insert(refusal, &once)) {
        struct first first = {.refusal = *refusal};
        firsts.ringbuf_output(&first, sizeof(first), 0);
        return 0;
    }
    times = refused.lookup(refusal);
    if (times)
        __sync_fetch_and_add(times, 1);
    else
        count(UNLISTED);
    return 0;
}

// Makes 0.0.0.0 and :: the loopback address that they reach: that of IPv4 from a socket whose own address is mapped.
static __always_inline void to_loopback(struct bpf_sock_addr *ctx, struct address *address)
{
    u32 *words = address->words;
    struct bpf_sock *socket = ctx->sk;
    if (words[0] || words[1] || words[2] || words[3])
        return;
    if (address->family == 6 && !(socket && socket->src_ip6[2] == bpf_htonl(0xffff))) {
        words[3] = bpf_htonl(1);
    } else {
        address->family = 4;
        words[0] = bpf_htonl(0x7f000001);
    }
}

// Returns the sets of ports to which names led. After a conflict whose addresses are not all remembered, there are none.
static __always_inline u64 sets_by_name(struct address *address)
{
    u32 which = FORGOTTEN;
    u64 *forgotten = counters.lookup(&which);
    struct place *known = given.lookup(address);
    return known && !known->contested && forgotten && !*forgotten ? known->sets : 0;
}

// Returns the sets of ports of an address.
static __always_inline u64 sets_of(struct address *address)
{
    struct network network = {.length = 160, .address = *address};
    u64 *by_list = networks.lookup(&network);
    return sets_by_name(address) | (by_list ? *by_list : 0);
}

static __always_inline int refuse_address(struct bpf_sock_addr *ctx, struct address *address, u32 action)
{
    struct refusal refusal = {.action = action, .protocol = ctx->protocol, .type = ctx->type};
    refusal.family = address->family;
    refusal.port = bpf_ntohs((u16)ctx->user_port);
    __builtin_memcpy(refusal.words, address->words, sizeof(refusal.words));
    return refuse(&refusal);
}

// Marks a socket as one that asks. Returns 0 if there is no memory.
static __always_inline int note_asker(struct bpf_sock_addr *ctx, struct resolver *resolver, u64 servers)
{
    struct asker *asker;
    if (!ctx->sk)
        return 0;
    asker = askers.sk_storage_get(ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (!asker)
        return 0;
    asker->resolver = *resolver;
    asker->begun = asker->next = asker->length = 0; // a socket that connects again has another stream
    __sync_fetch_and_or(&asker->withheld, ~servers);
    if (!asker->pid) {
        bpf_get_current_comm(asker->comm, sizeof(asker->comm));
        asker->pid = bpf_get_current_pid_tgid() >> 32;
    }
    return 1;
}

// Returns whether an address is a resolver, whose socket is marked then. A process can make a network namespace of its own,
// with a resolver that has the address of a configured one: such a resolver can be asked, and its answers do not count.
static __always_inline int is_resolver(struct bpf_sock_addr *ctx, struct address *address)
{
    struct resolver resolver = {.namespace = bpf_get_netns_cookie(ctx), .address = *address};
    struct route *route = resolvers.lookup(&resolver);
    if (!route) {
        resolver.namespace = home();
        route = resolvers.lookup(&resolver);
        resolver.namespace = 0;
    }
    return route && note_asker(ctx, &resolver, route->servers);
}

static __always_inline int decide(struct bpf_sock_addr *ctx, struct address *address)
{
    u32 port = bpf_ntohs((u16)ctx->user_port);
    unmap(address);
    if (checked())
        connect_anew(ctx);
    struct address reached = *address;
    to_loopback(ctx, &reached);
    if (port == DNS && is_resolver(ctx, &reached))
        return 1;
    u64 sets = sets_of(&reached), *of_port = ports.lookup(&port);
    if (!port && ctx->protocol == UDP)
        return sets != 0;
    u64 permitted = 1 | (of_port ? *of_port : 0);
    if (sets & permitted)
        return !checked() || await_name(ctx, &reached, permitted);
    if (sets && ctx->protocol == UDP && (port == SORTS_GO || port == SORTS_MUSL))
        return 0;
    return refuse_address(ctx, address, REACH);
}

// From port 53 of any own address, a process could send itself an answer in the name of a resolver: IP_PKTINFO chooses
// a source among all addresses of this host, and IPV6_PKTINFO with IPV6_FREEBIND among all that there are.
static __always_inline int decide_bind(struct bpf_sock_addr *ctx, struct address *address)
{
    u64 namespace = bpf_get_netns_cookie(ctx);
    unmap(address);
    if (bpf_ntohs((u16)ctx->user_port) != DNS || !homes.lookup(&namespace))
        return 1;
    return refuse_address(ctx, address, BIND);
}

static __always_inline void read_address4(struct bpf_sock_addr *ctx, struct address *address)
{
    address->family = 4;
    address->words[0] = ctx->user_ip4;
}

static __always_inline void read_address6(struct bpf_sock_addr *ctx, struct address *address)
{
    address->family = 6;
    address->words[0] = ctx->user_ip6[0];
    address->words[1] = ctx->user_ip6[1];
    address->words[2] = ctx->user_ip6[2];
    address->words[3] = ctx->user_ip6[3];
}

// The kernel takes the address of the socket or of its device for 0.0.0.0, unless this names the one that was decided on.
static __always_inline int decide4(struct bpf_sock_addr *ctx)
{
    struct address address = {};
    read_address4(ctx, &address);
    if (!address.words[0])
        ctx->user_ip4 = bpf_htonl(0x7f000001);
    return decide(ctx, &address);
}

static __always_inline int decide6(struct bpf_sock_addr *ctx)
{
    struct address address = {};
    read_address6(ctx, &address);
    if (!address.words[0] && !address.words[1] && address.words[2] == bpf_htonl(0xffff) && !address.words[3])
        ctx->user_ip6[3] = bpf_htonl(0x7f000001);
    return decide(ctx, &address);
}

// A datagram without an address has neither family nor port here: it goes where its socket was permitted to connect.
static __always_inline int has_address(struct bpf_sock_addr *ctx)
{
    return ctx->user_family || ctx->user_port;
}

int on_connect4(struct bpf_sock_addr *ctx) { return decide4(ctx); }
int on_connect6(struct bpf_sock_addr *ctx) { return decide6(ctx); }
int on_sendmsg4(struct bpf_sock_addr *ctx) { return !has_address(ctx) || decide4(ctx); }
int on_sendmsg6(struct bpf_sock_addr *ctx) { return !has_address(ctx) || decide6(ctx); }

int on_bind4(struct bpf_sock_addr *ctx)
{
    struct address address = {};
    read_address4(ctx, &address);
    return decide_bind(ctx, &address);
}

int on_bind6(struct bpf_sock_addr *ctx)
{
    struct address address = {};
    read_address6(ctx, &address);
    return decide_bind(ctx, &address);
}

// Sockets of other protocols pass by the hooks of connect and sendmsg: raw, ICMP, SCTP, MPTCP.
int on_create(struct bpf_sock *ctx)
{
    if ((ctx->type == STREAM && ctx->protocol == TCP) || (ctx->type == DATAGRAM && ctx->protocol == UDP))
        return 1;
    struct refusal refusal = {.action = MAKE, .protocol = ctx->protocol, .type = ctx->type};
    refusal.family = ctx->family == 2 ? 4 : 6;
    return refuse(&refusal);
}
