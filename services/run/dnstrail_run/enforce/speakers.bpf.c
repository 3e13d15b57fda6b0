// With --check-server-name: the sockets that must state an allowed name, since only a name led to their peer; and the addresses of each
// allowed name.

enum speaking { AWAITED, ACCEPTED, ENDED };

// A socket that must state a name: the address, port and namespace that it connected to, the sets that contain this port,
// and the process.
struct speaker {
    struct address address;
    u32 state;
    u64 permitted, namespace;
    u32 port, pid;
    char comm[16];
};

// A name, and an address to which it led.
struct led {
    struct suffix name;
    struct address address;
};

BPF_SK_STORAGE(speakers, struct speaker);
BPF_F_TABLE("hash", struct led, u64, led_to, GIVEN, BPF_F_NO_PREALLOC); // -> sets of ports

// Marks a socket that must state a name before it sends anything else. A UDP socket keeps its mark: it may still hold a
// datagram for the address. Returns 0 if there is no memory.
static __always_inline int await_name(struct bpf_sock_addr *ctx, struct address *address, u64 permitted)
{
    struct network network = {.length = 160, .address = *address};
    u64 *by_list = networks.lookup(&network);
    struct place *known = given.lookup(address);
    if ((by_list && *by_list & permitted) || (known && known->unchecked & permitted))
        return 1;
    struct speaker *speaker = ctx->sk ? speakers.sk_storage_get(ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE) : 0;
    if (!speaker)
        return 0;
    speaker->state = AWAITED;
    speaker->address = *address;
    speaker->permitted = permitted;
    speaker->namespace = bpf_get_netns_cookie(ctx);
    speaker->port = bpf_ntohs((u16)ctx->user_port);
    speaker->pid = bpf_get_current_pid_tgid() >> 32;
    bpf_get_current_comm(speaker->comm, sizeof(speaker->comm));
    return 1;
}

// Forgets what a socket had to state to its last peer.
static __always_inline void connect_anew(struct bpf_sock_addr *ctx)
{
    struct speaker *speaker = ctx->sk && ctx->protocol == TCP ? speakers.sk_storage_get(ctx->sk, 0, 0) : 0;
    if (speaker)
        speaker->state = ACCEPTED;
}

// Remembers that a name led to an address, on these sets of ports. Returns 0 if there is no room.
static __always_inline int note_led(struct led *led, struct address *address, u64 sets)
{
    led->address = *address;
    u64 none = 0, *known = led_to.lookup_or_try_init(led, &none);
    if (known)
        __sync_fetch_and_or(known, sets);
    return known != 0;
}
