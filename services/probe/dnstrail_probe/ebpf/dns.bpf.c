// DNS packets on every socket of the host, with the process that owns the socket. Never in the way: all return 1.

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define TCP 6
#define UDP 17
#define EXTENSIONS 4 // IPv6 extension headers that are followed

// Who made or last used a socket, and where it meant to send, before any NAT.
struct owner {
    u64 netns, cgroup;
    u32 pid, uid;
    u8 meant[16];
    u16 meant_port;
    u8 family, dns;
    char comm[16];
};

struct packet {
    u64 ts, cookie, netns, cgroup;
    u32 kind, captured, pid, uid, length, seq;
    u16 sport, dport, meant_port;
    u8 family, protocol, egress, known, pad[6];
    u8 saddr[16], daddr[16], meant[16];
    char comm[16];
};

BPF_TABLE("lru_hash", u64, struct owner, owners, 65536);
BPF_HASH(ports, u16, u8, 64);

static __always_inline int is_dns(u16 port)
{
    return ports.lookup(&port) != 0;
}

static __always_inline void note_owner(struct owner *owner)
{
    owner->pid = bpf_get_current_pid_tgid() >> 32;
    owner->uid = (u32)bpf_get_current_uid_gid();
    owner->cgroup = bpf_get_current_cgroup_id();
    bpf_get_current_comm(owner->comm, sizeof(owner->comm));
}

int on_create(struct bpf_sock *ctx)
{
    if (ctx->family != 2 && ctx->family != 10)
        return 1;
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner owner = {.netns = bpf_get_netns_cookie(ctx)};
    note_owner(&owner);
    owners.update(&cookie, &owner);
    return 1;
}

static __always_inline int note_target(struct bpf_sock_addr *ctx, u8 family)
{
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner owner = {.netns = bpf_get_netns_cookie(ctx), .family = family};
    u32 address[4] = {};
    if (family == 4) {
        address[0] = ctx->user_ip4;
    } else {
        address[0] = ctx->user_ip6[0];
        address[1] = ctx->user_ip6[1];
        address[2] = ctx->user_ip6[2];
        address[3] = ctx->user_ip6[3];
    }
    __builtin_memcpy(owner.meant, address, sizeof(owner.meant));
    owner.meant_port = bpf_ntohs(ctx->user_port);
    owner.dns = is_dns(owner.meant_port);
    note_owner(&owner);
    owners.update(&cookie, &owner);
    return 1;
}

int on_connect4(struct bpf_sock_addr *ctx) { return note_target(ctx, 4); }
int on_connect6(struct bpf_sock_addr *ctx) { return note_target(ctx, 6); }
int on_sendmsg4(struct bpf_sock_addr *ctx) { return note_target(ctx, 4); }
int on_sendmsg6(struct bpf_sock_addr *ctx) { return note_target(ctx, 6); }

// One reserve for each size, written out by the loader: the verifier wants constants, bcc no macros around map calls.
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
        events.ringbuf_discard(event, NO_WAKEUP);
        return UNREADABLE;
    }
    events.ringbuf_submit(event, NO_WAKEUP);
    return -1;
}
// END TIER

static __always_inline int send(struct __sk_buff *skb, struct packet *head, u32 offset, u32 length)
{
    int failed;
    if (length <= 128)
        failed = send_128(skb, head, offset, length);
    else if (length <= 512)
        failed = send_512(skb, head, offset, length);
    else if (length <= 4096)
        failed = send_4096(skb, head, offset, length);
    else
        failed = send_65536(skb, head, offset, length > 65536 ? 65536 : length);
    if (failed >= 0)
        count(failed);
    return 1;
}

static __always_inline void note_process(struct packet *head, struct owner *owner)
{
    if (owner) {
        head->known = 1;
        head->netns = owner->netns;
        head->cgroup = owner->cgroup;
        head->pid = owner->pid;
        head->uid = owner->uid;
        head->meant_port = owner->meant_port;
        __builtin_memcpy(head->meant, owner->meant, sizeof(head->meant));
        __builtin_memcpy(head->comm, owner->comm, sizeof(head->comm));
    }
#ifdef CURRENT
    // The sender of a UDP packet is the current task, also where the socket came by a fork; of all else it is not.
    if (head->egress && head->protocol == UDP) {
        head->pid = bpf_get_current_pid_tgid() >> 32;
        head->uid = (u32)bpf_get_current_uid_gid();
        bpf_get_current_comm(head->comm, sizeof(head->comm));
    }
#endif
}

static __always_inline int capture(struct __sk_buff *skb, u8 egress)
{
    struct packet head = {.kind = PACKET, .egress = egress};
    u32 offset;
    if (skb->protocol == bpf_htons(ETH_P_IP)) {
        u8 ip[20];
        if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
            return 1;
        head.family = 4;
        head.protocol = ip[9];
        offset = (ip[0] & 15) * 4;
        __builtin_memcpy(head.saddr, ip + 12, 4);
        __builtin_memcpy(head.daddr, ip + 16, 4);
    } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
        u8 ip[40];
        if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
            return 1;
        head.family = 6;
        head.protocol = ip[6];
        offset = 40;
        __builtin_memcpy(head.saddr, ip + 8, 16);
        __builtin_memcpy(head.daddr, ip + 24, 16);
#pragma unroll
        for (int i = 0; i < EXTENSIONS; i++) {
            u8 next = head.protocol, extension[2];
            if (next == 0 || next == 43 || next == 44 || next == 60) {
                if (bpf_skb_load_bytes(skb, offset, extension, sizeof(extension)))
                    return 1;
                offset += next == 44 ? 8 : (extension[1] + 1) * 8;
                head.protocol = extension[0];
            }
        }
    } else {
        return 1;
    }
    if (head.protocol != UDP && head.protocol != TCP)
        return 1;
    u16 port[2];
    if (bpf_skb_load_bytes(skb, offset, port, sizeof(port)))
        return 1;
    head.sport = bpf_ntohs(port[0]);
    head.dport = bpf_ntohs(port[1]);
    head.cookie = bpf_get_socket_cookie(skb);
    struct owner *owner = owners.lookup(&head.cookie);
    if (!is_dns(head.sport) && !is_dns(head.dport) && !(owner && owner->dns))
        return 1;
    if (head.protocol == UDP) {
        offset += 8;
    } else {
        u8 words;
        u32 seq;
        if (bpf_skb_load_bytes(skb, offset + 12, &words, 1) || bpf_skb_load_bytes(skb, offset + 4, &seq, 4))
            return 1;
        head.seq = bpf_ntohl(seq);
        offset += (words >> 4) * 4;
    }
    if (skb->len <= offset)
        return 1;
    head.length = skb->len - offset;
    head.ts = bpf_ktime_get_ns();
    note_process(&head, owner);
    return send(skb, &head, offset, head.length);
}

int on_ingress(struct __sk_buff *skb) { return capture(skb, 0); }
int on_egress(struct __sk_buff *skb) { return capture(skb, 1); }
