// Results of connection attempts, and the end of connections. The tracepoint runs in any task, so the socket's cookie
// identifies the owner.

#define STATE_ESTABLISHED 1 // as TCP_ESTABLISHED, TCP_SYN_SENT and TCP_CLOSE of the kernel
#define STATE_SYN_SENT 2
#define STATE_CLOSE 7

static __always_inline void report_result(void *sock, u64 cookie, int after)
{
    int error = 0;
    struct owner *owner = owners.lookup(&cookie);
    if (!owner || !owner->family)
        return; // its connect was not seen
    if (after == STATE_CLOSE)
        READ(error, sock, SOCK_ERROR);
    u32 kind = after == STATE_ESTABLISHED ? CONNECTED : NOT_CONNECTED;
    report_connection(owner, cookie, bpf_ktime_get_ns(), kind, TCP, error);
}

RAW_TRACEPOINT_PROBE(inet_sock_set_state)
{
    void *sock = (void *)ctx->args[0];
    int before = ctx->args[1], after = ctx->args[2];
    u64 cookie = 0;
    if (after != STATE_CLOSE && (after != STATE_ESTABLISHED || before != STATE_SYN_SENT))
        return 0;
    READ(cookie, sock, SOCK_COOKIE);
    if (before == STATE_SYN_SENT)
        report_result(sock, cookie, after);
    if (after == STATE_CLOSE)
        remove_owner(&cookie);
    return 0;
}
