// Results of connection attempts, and the end of connections. The tracepoint runs in any task, so the socket's cookie
// identifies the owner.

#define STATE_ESTABLISHED 1 // as TCP_ESTABLISHED, TCP_SYN_SENT and TCP_CLOSE of the kernel
#define STATE_SYN_SENT 2
#define STATE_CLOSE 7

// Reports the outcome of an attempt, or the end of a connection, with the source that the kernel chose.
static __always_inline void report_change(void *sock, u64 cookie, u32 kind)
{
    int error = 0;
    struct owner *owner = owners.lookup(&cookie);
    if (!owner || !owner->family)
        return; // its connect was not seen
    struct packet *event = note_connection(owner, cookie, bpf_ktime_get_ns(), kind, TCP);
    if (!event)
        return;
    if (kind == NOT_CONNECTED)
        READ(error, sock, SOCK_ERROR);
    event->error = error;
    READ(event->sport, sock, SOCK_SPORT);
    event->sport = bpf_ntohs(event->sport);
    if (event->family == 4)
        bpf_probe_read_kernel(event->saddr, 4, (char *)sock + SOCK_SADDR);
    else
        bpf_probe_read_kernel(event->saddr, 16, (char *)sock + SOCK_SADDR6);
    events.ringbuf_submit(event, NO_WAKEUP);
}

RAW_TRACEPOINT_PROBE(inet_sock_set_state)
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
