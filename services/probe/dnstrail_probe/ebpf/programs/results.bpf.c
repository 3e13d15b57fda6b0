// Results of connection attempts. The tracepoint runs in any task, so the socket's cookie identifies the owner.

#define STATE_ESTABLISHED 1 // as TCP_ESTABLISHED, TCP_SYN_SENT and TCP_CLOSE of the kernel
#define STATE_SYN_SENT 2
#define STATE_CLOSE 7

RAW_TRACEPOINT_PROBE(inet_sock_set_state)
{
    void *sock = (void *)ctx->args[0];
    int after = ctx->args[2], error = 0;
    u64 cookie = 0;
    if ((int)ctx->args[1] != STATE_SYN_SENT || (after != STATE_ESTABLISHED && after != STATE_CLOSE))
        return 0;
    READ(cookie, sock, SOCK_COOKIE);
    struct owner *owner = owners.lookup(&cookie);
    if (!owner || !owner->family)
        return 0; // its connect was not seen
    if (after == STATE_CLOSE)
        READ(error, sock, SOCK_ERROR);
    u32 kind = after == STATE_ESTABLISHED ? CONNECTED : NOT_CONNECTED;
    report_connection(owner, cookie, bpf_ktime_get_ns(), kind, TCP, error);
    return 0;
}
