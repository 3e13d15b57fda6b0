// Shared by all programs. One ring buffer carries every kind of event, so that their order is kept.
#include <linux/bpf.h>

#define NO_WAKEUP 1 // BPF_RB_NO_WAKEUP: user space polls every few milliseconds

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
    OWNERS_HELD, OWNERS_FOUND, OWNERS_EVICTED, COUNTERS // found: the sockets that are older than the probe
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
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
