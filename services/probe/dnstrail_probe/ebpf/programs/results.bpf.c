// Results of connection attempts, and the end of connections. The tracepoint runs in any task, so the socket's cookie
// identifies the owner.

#define STATE_ESTABLISHED 1 // as TCP_ESTABLISHED, TCP_SYN_SENT and TCP_CLOSE of the kernel
#define STATE_SYN_SENT 2
#define STATE_CLOSE 7
#define FLAG_DONE 1 // of sk_flags, as in the kernel: the FIN of the peer has come

struct change {
    struct packet packet;
    u64 sent, received; // the payload of an end
};

// Reads the bytes of a connection that ends. A retransmission counts as sent twice, and the FIN of the peer as a byte.
static __always_inline void read_bytes(struct change *change, void *sock)
{
#ifdef TCP_BYTES_SENT
    u16 protocol = 0;
    u64 sent = 0, again = 0, received = 0;
    unsigned long flags = 0;
    READ(protocol, sock, TCP_SK_PROTOCOL);
    if (protocol != TCP)
        return; // MPTCP: the struct is another one
    READ(sent, sock, TCP_BYTES_SENT);
    READ(again, sock, TCP_BYTES_RETRANS);
    READ(received, sock, TCP_BYTES_RECEIVED);
    READ(flags, sock, TCP_SK_FLAGS);
    change->sent = sent > again ? sent - again : 0;
    change->received = received - (received && flags >> FLAG_DONE & 1);
    change->packet.captured = sizeof(change->sent) + sizeof(change->received);
#endif
}

// Reports the outcome of an attempt, or the end of a connection, with the source that the kernel chose.
static __always_inline void report_change(void *sock, u64 cookie, u32 kind)
{
    int error = 0;
    struct owner *owner = owners.lookup(&cookie);
    if (!owner || !owner->family)
        return; // its connect was not seen
    u32 size = sizeof(struct change);
    struct change *change = has_room(owner->cgroup, size) ? events.ringbuf_reserve(sizeof(struct change)) : 0;
    if (!change) {
        lose(LOST, owner->cgroup);
        return;
    }
    struct packet *event = &change->packet;
    fill_connection(event, owner, cookie, bpf_ktime_get_ns(), kind, TCP);
    if (kind == NOT_CONNECTED)
        READ(error, sock, SOCK_ERROR);
    if (kind == CLOSED)
        read_bytes(change, sock);
    event->error = error;
    READ(event->sport, sock, SOCK_SPORT);
    event->sport = bpf_ntohs(event->sport);
    if (event->family == 4)
        bpf_probe_read_kernel(event->saddr, 4, (char *)sock + SOCK_SADDR);
    else
        bpf_probe_read_kernel(event->saddr, 16, (char *)sock + SOCK_SADDR6);
    events.ringbuf_submit(change, WAKE_IF_WAITING);
}

ON_TRACEPOINT(inet_sock_set_state)
{
    void *sock = (void *)ctx->args[0];
    int before = ctx->args[1], after = ctx->args[2];
    u64 cookie = 0;
    if (after != STATE_CLOSE && (after != STATE_ESTABLISHED || before != STATE_SYN_SENT))
        return 0;
    READ(cookie, sock, SOCK_COOKIE);
    if (after == STATE_ESTABLISHED)
        report_change(sock, cookie, CONNECTED);
    else
        report_change(sock, cookie, before == STATE_SYN_SENT ? NOT_CONNECTED : CLOSED);
    if (after == STATE_CLOSE)
        remove_owner(&cookie);
    return 0;
}
