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
};
enum counter { LOST = 0, UNREADABLE = 1, CALLS_UNREADABLE = 2, CALLS_OVER_BUDGET = 3, TOO_MANY_EXTENSIONS = 4 };

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_ARRAY(counters, u64, 5);

static __always_inline void count(u32 which)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, 1);
}
