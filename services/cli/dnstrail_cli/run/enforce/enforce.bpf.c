// Refuses what an allow list does not contain, for the sockets of one cgroup. Each hook has two programs. The guard
// stays attached while the cgroup exists. It calls the program that decides, which is there only while the launcher
// holds the program array: the kernel empties an array that no process has open. The guard alone returns AFTERWARDS.
//
// on_ingress enters the addresses of an answer in `given` before the socket receives the answer: the kernel runs it on
// the path of the packet to the socket (sk_filter). No connection that follows from an answer is too early.
#include <linux/bpf.h>

#define TCP 6
#define UDP 17
#define STREAM 1 // SOCK_STREAM, SOCK_DGRAM
#define DATAGRAM 2
#define DNS 53
#define NAME 255 // bytes of a name in a message
#define TEXT 256 // bytes of the key of a name
#define FRONT 260 // the place in `struct buffer` behind the first byte of a name
#define HEADER 12
// Go and musl connect UDP sockets to these ports, to put the addresses of a name in order. glibc takes the wanted port.
#define SORTS_GO 9
#define SORTS_MUSL 65535

struct address {
    u32 family; // 4 or 6; 4 also for an IPv4-mapped address
    u32 words[4];
};

struct network {
    u32 length; // in bits, with those of the family
    struct address address;
};

struct suffix {
    u32 length; // in bits
    u8 text[TEXT]; // a name in lower case, its last byte first
};

// What is being read: a name, whose bytes end before FRONT in reverse order (all behind FRONT is 0); the bytes that are
// left of its label; whether more messages follow in the packet; the place of the next byte in the packet; the records
// that are left of the answer. They are in memory, so that the verifier does not follow their values.
struct buffer {
    u8 bytes[FRONT + TEXT];
    u8 left, more;
    u32 at, records;
};

// A socket that asks a configured resolver. Over TCP, `next` is the sequence number of the next message, or, if its
// length has been read, of its bytes.
struct asker {
    u32 begun, next, length;
};

enum action { REACH, BIND, MAKE }; // an address, an own address, a socket

// An attempt that was refused. A socket has no address.
struct refusal {
    u32 words[4];
    u32 pid, action;
    u16 port, protocol, family, type;
    char comm[16];
};

enum counter { NO_ROOM, NOT_READ, UNLISTED, COUNTERS }; // addresses; answers; refusals

// A set of ports is a bit of the masks; bit 0 is the set of all ports.
BPF_HASH(resolvers, struct address, u64, RESOLVERS);
BPF_LPM_TRIE(networks, struct network, u64, ENTRIES);
BPF_LPM_TRIE(names, struct suffix, u64, ENTRIES);
BPF_ARRAY(ports, u64, 65536);
BPF_HASH(given, struct address, u64, GIVEN);
BPF_HASH(refused, struct refusal, u64, REFUSED);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_SK_STORAGE(askers, struct asker);
BPF_PERCPU_ARRAY(buffers, struct buffer, 1); // packets arrive one after the other on each processor

BPF_PROG_ARRAY(finding, 1); // on_ingress and on_message call each other for each message of a packet
BPF_PROG_ARRAY(reading, 1);
BPF_PROG_ARRAY(deciding_create, 1);
BPF_PROG_ARRAY(deciding_connect4, 1);
BPF_PROG_ARRAY(deciding_connect6, 1);
BPF_PROG_ARRAY(deciding_sendmsg4, 1);
BPF_PROG_ARRAY(deciding_sendmsg6, 1);
BPF_PROG_ARRAY(deciding_bind4, 1);
BPF_PROG_ARRAY(deciding_bind6, 1);

int guard_create(struct bpf_sock *ctx) { deciding_create.call(ctx, 0); return AFTERWARDS; }
int guard_connect4(struct bpf_sock_addr *ctx) { deciding_connect4.call(ctx, 0); return AFTERWARDS; }
int guard_connect6(struct bpf_sock_addr *ctx) { deciding_connect6.call(ctx, 0); return AFTERWARDS; }
int guard_sendmsg4(struct bpf_sock_addr *ctx) { deciding_sendmsg4.call(ctx, 0); return AFTERWARDS; }
int guard_sendmsg6(struct bpf_sock_addr *ctx) { deciding_sendmsg6.call(ctx, 0); return AFTERWARDS; }
int guard_bind4(struct bpf_sock_addr *ctx) { deciding_bind4.call(ctx, 0); return AFTERWARDS; }
int guard_bind6(struct bpf_sock_addr *ctx) { deciding_bind6.call(ctx, 0); return AFTERWARDS; }

static __always_inline void count(u32 which)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, 1);
}

static __always_inline int refuse(struct refusal *refusal)
{
    u64 none = 0, *times;
    refusal->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(refusal->comm, sizeof(refusal->comm));
    times = refused.lookup_or_try_init(refusal, &none);
    if (times)
        __sync_fetch_and_add(times, 1);
    else
        count(UNLISTED);
    return 0;
}

// An IPv4-mapped address reaches an IPv4 host.
static __always_inline void unmap(struct address *address)
{
    u32 *words = address->words;
    if (address->family == 6 && !words[0] && !words[1] && words[2] == bpf_htonl(0xffff)) {
        address->family = 4;
        words[0] = words[3];
        words[2] = words[3] = 0;
    }
}

static __always_inline int is_any(struct address *address)
{
    return !address->words[0] && !address->words[1] && !address->words[2] && !address->words[3];
}

// Returns the sets of ports of an address.
static __always_inline u64 sets_of(struct address *address)
{
    struct network network = {.length = 160, .address = *address};
    if (is_any(address)) { // reaches this host
        network.address.words[0] = address->family == 4 ? bpf_htonl(0x7f000001) : 0;
        network.address.words[3] = address->family == 4 ? 0 : bpf_htonl(1);
    }
    u64 *by_name = given.lookup(address), *by_list = networks.lookup(&network);
    return (by_name ? *by_name : 0) | (by_list ? *by_list : 0);
}

static __always_inline int refuse_address(struct bpf_sock_addr *ctx, struct address *address, u32 action)
{
    struct refusal refusal = {.action = action, .protocol = ctx->protocol, .type = ctx->type};
    refusal.family = address->family;
    refusal.port = bpf_ntohs((u16)ctx->user_port);
    __builtin_memcpy(refusal.words, address->words, sizeof(refusal.words));
    return refuse(&refusal);
}

// A process can make a network namespace of its own, with a resolver that has the address of a configured one.
static __always_inline int is_at_home(struct bpf_sock_addr *ctx) { return bpf_get_netns_cookie(ctx) == NETNS; }

static __always_inline void note_asker(struct bpf_sock_addr *ctx)
{
    struct asker none = {}, *asker;
    if (!ctx->sk || !is_at_home(ctx))
        return;
    asker = askers.sk_storage_get(ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
    if (asker)
        *asker = none; // a socket that connects again has another stream
}

static __always_inline int decide(struct bpf_sock_addr *ctx, struct address *address)
{
    u32 port = bpf_ntohs((u16)ctx->user_port);
    unmap(address);
    if (port == DNS && resolvers.lookup(address)) {
        note_asker(ctx);
        return 1;
    }
    u64 sets = sets_of(address), *of_port = ports.lookup(&port);
    if (!port)
        return sets != 0;
    if (sets & (1 | (of_port ? *of_port : 0)))
        return 1;
    if (sets && ctx->protocol == UDP && (port == SORTS_GO || port == SORTS_MUSL))
        return 0;
    return refuse_address(ctx, address, REACH);
}

// Where processes without privileges may bind port 53, one could send answers in the name of a resolver.
static __always_inline int decide_bind(struct bpf_sock_addr *ctx, struct address *address)
{
    unmap(address);
    if (bpf_ntohs((u16)ctx->user_port) != DNS || !is_at_home(ctx) || (!is_any(address) && !resolvers.lookup(address)))
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

static __always_inline int decide4(struct bpf_sock_addr *ctx)
{
    struct address address = {};
    read_address4(ctx, &address);
    return decide(ctx, &address);
}

static __always_inline int decide6(struct bpf_sock_addr *ctx)
{
    struct address address = {};
    read_address6(ctx, &address);
    return decide(ctx, &address);
}

int on_connect4(struct bpf_sock_addr *ctx) { return decide4(ctx); }
int on_connect6(struct bpf_sock_addr *ctx) { return decide6(ctx); }
int on_sendmsg4(struct bpf_sock_addr *ctx) { return decide4(ctx); }
int on_sendmsg6(struct bpf_sock_addr *ctx) { return decide6(ctx); }

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

// Reads the name of a question. Returns its bytes in the message, and its sets of ports; 0 if it is not allowed.
static __always_inline u32 read_name(struct __sk_buff *skb, struct buffer *buffer, u32 start, u64 *sets)
{
    u32 length = 0;
    u8 byte;
    buffer->left = 0;
#pragma nounroll
    for (u32 i = 0; i < NAME; i++) {
        if (bpf_skb_load_bytes(skb, start + i, &byte, 1))
            return 0;
        if (buffer->left) {
            buffer->left--;
            if (byte == '.' || !byte) // would be taken for the end of a label or of the name
                return 0;
            if (byte >= 'A' && byte <= 'Z')
                byte += 'a' - 'A';
        } else {
            if (!byte) {
                length = i;
                break;
            }
            if (byte > 63)
                return 0;
            buffer->left = byte;
            byte = '.';
        }
        if (i)
            buffer->bytes[FRONT - i] = byte;
    }
    if (!length || length >= NAME)
        return 0;
    u8 *key = &buffer->bytes[FRONT + 1 - length - 4];
    key[0] = (TEXT * 8) & 255; // the length in bits
    key[1] = (TEXT * 8) >> 8;
    key[2] = key[3] = 0;
    u64 *allowed = names.lookup((struct suffix *)key);
    if (!allowed)
        return 0;
    *sets = *allowed;
    return length + 1;
}

static __always_inline void give(struct address *address, u64 sets)
{
    u64 none = 0;
    unmap(address);
    u64 *known = given.lookup_or_try_init(address, &none);
    if (known)
        __sync_fetch_and_or(known, sets);
    else
        count(NO_ROOM);
}

// Gives the addresses in the answer section of a message to the ports that its question has.
static __always_inline void read_message(struct __sk_buff *skb, struct buffer *buffer)
{
    u8 header[HEADER];
    u64 sets = 0;
    if (bpf_skb_load_bytes(skb, buffer->at, header, HEADER))
        return;
    if ((header[2] & 0xf8) != 0x80 || header[4] || header[5] != 1)
        return; // no response to a usual query with one question
    buffer->records = header[6] << 8 | header[7];
    u32 name = buffer->records ? read_name(skb, buffer, buffer->at + HEADER, &sets) : 0;
    if (!name)
        return;
    buffer->at += HEADER + name + 4;
#pragma nounroll
    for (u32 step = 0; step < STEPS; step++) {
        u32 at = buffer->at;
        u8 label, head[10];
        if (!buffer->records)
            return;
        if (bpf_skb_load_bytes(skb, at, &label, 1))
            break;
        if (label && label < 0xc0) {
            buffer->at = at + label + 1;
            continue;
        }
        at += label ? 2 : 1;
        if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
            break;
        at += sizeof(head);
        u32 length = head[8] << 8 | head[9];
        int in = !head[0] && !head[2] && head[3] == 1, is4 = head[1] == 1 && length == 4;
        if (in && (is4 || (head[1] == 28 && length == 16))) {
            struct address address = {.family = is4 ? 4 : 6};
            if (bpf_skb_load_bytes(skb, at, address.words, length))
                break;
            give(&address, sets);
        }
        buffer->at = at + length;
        buffer->records--;
    }
    if (buffer->records)
        count(NOT_READ);
}

// Finds the next message in a TCP segment; returns its place, or 0. The bounds of messages come from the beginning of
// the stream alone: what looks like a message elsewhere can be the data of a record, which a stranger has chosen.
static __always_inline u32 next_message(struct __sk_buff *skb, u32 offset, struct bpf_sock *socket, struct asker *asker,
                                        struct buffer *buffer)
{
    u8 tcp[14], prefix[2];
    struct bpf_tcp_sock *state = bpf_tcp_sock(socket);
    if (!state || bpf_skb_load_bytes(skb, offset, tcp, sizeof(tcp)))
        return 0;
    u32 sequence = tcp[4] << 24 | tcp[5] << 16 | tcp[6] << 8 | tcp[7];
    u32 start = offset + (tcp[12] >> 4) * 4;
    if (skb->len <= start)
        return 0;
    u32 size = skb->len - start;
    if (!asker->begun) {
        if (state->bytes_received || sequence != state->rcv_nxt)
            return 0; // out of order: the beginning was not seen
        asker->begun = 1;
        asker->next = sequence;
    }
    u32 at = asker->next - sequence;
    if (at >= size)
        return 0;
    if (!asker->length) {
        if (bpf_skb_load_bytes(skb, start + at, prefix, sizeof(prefix))) {
            count(NOT_READ);
            return 0;
        }
        asker->length = prefix[0] << 8 | prefix[1];
        asker->next += 2;
        at += 2;
    }
    if (at >= size)
        return 0; // the message is in the next segment
    asker->next += asker->length;
    asker->length = 0;
    buffer->more = asker->next - sequence < size;
    return start + at;
}

int on_ingress(struct __sk_buff *skb)
{
    struct bpf_sock *socket = skb->sk;
    struct address source = {};
    u8 ip[20], port[2];
    if (socket)
        socket = bpf_sk_fullsock(socket);
    if (!socket)
        return 1;
    struct asker *asker = askers.sk_storage_get(socket, 0, 0);
    if (!asker || bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
        return 1;
    source.family = ip[0] >> 4;
    u32 offset = source.family == 4 ? (ip[0] & 15) * 4 : 40;
    u8 protocol = source.family == 4 ? ip[9] : ip[6];
    if (source.family == 4)
        bpf_skb_load_bytes(skb, 12, source.words, 4);
    else
        bpf_skb_load_bytes(skb, 8, source.words, 16);
    if (!resolvers.lookup(&source) || bpf_skb_load_bytes(skb, offset, port, 2) || port[0] || port[1] != DNS)
        return 1;
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    if (!buffer)
        return 1;
    buffer->at = buffer->more = 0;
    if (protocol == UDP)
        buffer->at = offset + 8;
    else if (protocol == TCP)
        buffer->at = next_message(skb, offset, socket, asker, buffer);
    if (buffer->at)
        reading.call(skb, 0);
    return 1;
}

int on_message(struct __sk_buff *skb)
{
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    if (!buffer)
        return 1;
    read_message(skb, buffer);
    if (buffer->more) {
        finding.call(skb, 0);
        count(NOT_READ); // the kernel allows no further call
    }
    return 1;
}
