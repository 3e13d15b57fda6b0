// Refuses packets with a source route: they go first to a host that the command names in them, whatever their address.

#define OPTIONS 40 // bytes in an IPv4 header
#define END 0 // options of IPv4
#define NOTHING 1
#define LOOSE 131
#define STRICT 137
#define HOP_BY_HOP 0 // extension headers of IPv6
#define ROUTING 43
#define DESTINATION 60

static __always_inline int has_route_option(struct __sk_buff *skb, u64 end)
{
    u8 option[2];
    u64 at = 20, zero = nothing(skb);
#pragma nounroll
    for (u64 i = 0; i < OPTIONS && at < end; i++) {
        if (bpf_skb_load_bytes(skb, at, option, sizeof(option)) || option[0] == END)
            return 0;
        if (option[0] == LOOSE || option[0] == STRICT)
            return 1;
        if (option[0] != NOTHING && option[1] < 2)
            return 0;
        at = forget(at + (option[0] == NOTHING ? 1 : option[1]), zero);
    }
    return 0;
}

// In IPv6, the headers that can come before a routing header count as one: only root can add them.
static __always_inline int has_source_route(struct __sk_buff *skb, u8 ip)
{
    u8 next;
    if (ip >> 4 == 4)
        return (ip & 15) > 5 && has_route_option(skb, (ip & 15) * 4);
    if (bpf_skb_load_bytes(skb, 6, &next, 1))
        return 0;
    return next == HOP_BY_HOP || next == ROUTING || next == DESTINATION;
}

int on_route(struct __sk_buff *skb)
{
    u8 ip;
    if (bpf_skb_load_bytes(skb, 0, &ip, 1) || !has_source_route(skb, ip))
        return 1;
    count(ROUTED);
    return 0;
}
