// Shared by all programs. One ring buffer carries every kind of event, so that their order is kept.
#include <linux/bpf.h>

// Not bcc's own names, whose functions it attaches in the process that compiles.
#define ON_TRACEPOINT(event) int on_##event(struct bpf_raw_tracepoint_args *ctx)
#define WAKE_IF_WAITING 0 // user space is woken by the first event after those that it has read

enum kind {
    PACKET = 1,
    EXEC = 2,
    EXIT = 3,
    FORK = 4,
    CONNECT = 5,
    CGROUP_MADE = 6,
    CGROUP_REMOVED = 7,
    CONNECTED = 8,
    NOT_CONNECTED = 9,
    RESOLVED = 10,
    CLOSED = 11,
    DNS_CLOSED = 12,
};
enum counter {
    LOST, UNREADABLE, CALLS_UNREADABLE, CALLS_OVER_BUDGET, TOO_MANY_EXTENSIONS,
    OWNERS_HELD, OWNERS_FOUND, OWNERS_REFUSED, COUNTERS // found: the sockets that are older than the probe
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_RINGBUF_OUTPUT(cgroups_made, 1); // an empty record for those that wait in `events`: it wakes user space at once
BPF_ARRAY(counters, u64, COUNTERS);
BPF_HASH(losses, u64, u64, LOSING_CGROUPS); // by cgroup

static __always_inline void add(u32 which, s64 change)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, change);
}

static __always_inline void count(u32 which) { add(which, 1); }

// Count a lost event, and for which cgroup. User space counts a loss under cgroup 0 if its cgroup finds no room here. The
// total is the last to grow, so that it never exceeds the sum that user space reads after it.
static __always_inline void lose(u32 which, u64 cgroup)
{
    u64 none = 0, *lost = losses.lookup_or_try_init(&cgroup, &none);
    if (lost)
        __sync_fetch_and_add(lost, 1);
    count(which);
}

// The ring buffer and the map of sockets are divided among the owners of cgroups: beyond the share of its owner, a
// cgroup loses its own events, and not those of others. User space enters the owner of each cgroup that it has looked
// at; all other cgroups have one share.
struct share {
    u64 read, waiting; // of the ring buffer as of `held`: the position of its reader, and the bytes that waited
    u64 held;          // bytes of the owner that wait in the second half
    u64 sockets;       // entries of the owner in the map of sockets
};

BPF_TABLE("lru_hash", u64, u64, cgroup_owners, CGROUPS); // cgroup -> owner
BPF_TABLE("lru_hash", u64, struct share, shares, SHARES); // by owner

static __always_inline u64 owner_of(u64 cgroup)
{
    u64 *owner = cgroup_owners.lookup(&cgroup);
    return owner ? *owner : 0;
}

static __always_inline struct share *share_of(u64 owner)
{
    struct share none = {};
    return shares.lookup_or_try_init(&owner, &none);
}

// bcc 0.26 (Debian 12) has no ringbuf_query. It names the ring buffer for ringbuf_output, which no program uses.
#define bpf_ringbuf_output(ring, unused, what, zero) bpf_ringbuf_query((void *)(ring), what)

// True if the ring buffer has room for an event of this cgroup. While half of it waits for the reader, an owner adds no
// more than is free: one flood leaves a quarter to others, and n floods leave them a part of n + 1 of the half. The
// bytes that were read count as read from all owners alike.
static __always_inline int has_room(u64 cgroup, u32 size)
{
    u64 waiting = events.ringbuf_output(&cgroup, BPF_RB_AVAIL_DATA, 0);
    if (waiting < RING_BYTES / 2)
        return 1;
    struct share *share = share_of(owner_of(cgroup));
    if (!share)
        return 1;
    u64 read = events.ringbuf_output(&cgroup, BPF_RB_CONS_POS, 0), passed = read - share->read;
    if (passed >= share->waiting)
        share->held = 0;
    else
        share->held -= share->held * passed / share->waiting;
    share->read = read;
    share->waiting = waiting;
    if (share->held + size + waiting > RING_BYTES)
        return 0;
    share->held += size;
    return 1;
}
