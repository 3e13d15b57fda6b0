// Reports calls of getaddrinfo(3) and their results, also where DNS is encrypted or no packet is sent at all.
// The programs run at entry and return, in the calling task. They read memory at the return: the pages are mapped then.
#include <uapi/linux/ptrace.h>

#define NAME 256
#define ANSWERS 64 //: entries of a result of getaddrinfo -> the first ones are reported: `getaddrinfo_cut_short`
#define BUDGET 2000 //: calls of getaddrinfo of one process in a second -> not reported: `getaddrinfo_over_budget`
#define SECOND 1000000000

#if defined(__x86_64__)
#define RETURN_ADDRESS 8 // on the stack while the function runs
#else
#define RETURN_ADDRESS 0
#endif

// Calls nest, and longjmp can leave one. The stack pointer identifies the call that returns.
struct place_of_call {
    u64 thread, stack;
};

struct call {
    u64 began, name, hints, list;
};

struct spent {
    u64 since, calls;
};

// As in netdb.h of glibc and musl, for 64-bit programs.
struct addrinfo {
    s32 flags, family, socktype, protocol;
    u32 length, pad;
    u64 address, canonname, next;
};

struct answer {
    u32 family;
    u8 address[16];
};

struct resolved {
    u64 ts;
    u32 kind, pid;
    u64 cgroup, began;
    u32 tid, uid;
    s32 error, flags, family; // the value returned; flags and family in the hints
    u32 more, processor, pad; // more: the list was longer
    char comm[16];
    char name[NAME];
    struct answer answers[ANSWERS]; // unused where the family is 0
};

BPF_TABLE("lru_hash", struct place_of_call, struct call, calls, 16384);
BPF_TABLE("lru_hash", u32, struct spent, budgets, 4096); // by process

static __always_inline int is_within_budget(u32 pid, u64 now)
{
    struct spent *spent = budgets.lookup(&pid), anew = {.since = now, .calls = 1};
    if (!spent || now - spent->since > SECOND) {
        budgets.update(&pid, &anew);
        return 1;
    }
    return ++spent->calls <= BUDGET;
}

int on_getaddrinfo(struct pt_regs *ctx)
{
    struct place_of_call place = {.thread = bpf_get_current_pid_tgid(), .stack = PT_REGS_SP(ctx)};
    struct call call = {.began = bpf_ktime_get_ns(), .name = PT_REGS_PARM1(ctx)};
    call.hints = PT_REGS_PARM3(ctx);
    call.list = PT_REGS_PARM4(ctx);
    if (call.name && is_within_budget(place.thread >> 32, call.began)) {
        calls.update(&place, &call);
        return 0;
    }
    calls.delete(&place); // a call that a longjmp left
    if (call.name) // without a name the call is about a service
        count(CALLS_OVER_BUDGET);
    return 0;
}

static __always_inline void read_address(struct answer *answer, struct addrinfo *info)
{
    int failed = 1;
    if (info->family == 2)
        failed = bpf_probe_read_user(answer->address, 4, (void *)info->address + 4);
    else if (info->family == 10)
        failed = bpf_probe_read_user(answer->address, 16, (void *)info->address + 8);
    answer->family = failed ? 0 : info->family;
}

int on_getaddrinfo_return(struct pt_regs *ctx)
{
    u64 id = bpf_get_current_pid_tgid(), at = 0;
    struct place_of_call place = {.thread = id, .stack = PT_REGS_SP(ctx) - RETURN_ADDRESS};
    struct call *noted = calls.lookup(&place);
    if (!noted)
        return 0; // began before the probe, or was reported: a file can have probes under two names
    struct call call = *noted;
    calls.delete(&place);
    u64 cgroup = bpf_get_current_cgroup_id();
    struct resolved *event = has_room(cgroup, sizeof(*event)) ? events.ringbuf_reserve(sizeof(struct resolved)) : 0;
    if (!event) {
        lose(LOST, cgroup);
        return 0;
    }
    event->ts = bpf_ktime_get_ns();
    event->began = call.began;
    event->kind = RESOLVED;
    event->pid = id >> 32;
    event->tid = (u32)id;
    event->uid = (u32)bpf_get_current_uid_gid();
    event->cgroup = cgroup;
    event->error = PT_REGS_RC(ctx);
    event->flags = event->family = 0;
    bpf_get_current_comm(event->comm, sizeof(event->comm));
    if (bpf_probe_read_user_str(event->name, NAME, (void *)call.name) < 0) {
        events.ringbuf_discard(event, WAKE_IF_WAITING);
        count(CALLS_UNREADABLE);
        return 0;
    }
    if (call.hints) {
        bpf_probe_read_user(&event->flags, sizeof(event->flags), (void *)call.hints);
        bpf_probe_read_user(&event->family, sizeof(event->family), (void *)call.hints + 4);
    }
    if (!event->error)
        bpf_probe_read_user(&at, sizeof(at), (void *)call.list);
#pragma unroll
    for (int i = 0; i < ANSWERS; i++) {
        struct addrinfo info = {};
        event->answers[i].family = 0;
        if (at) {
            bpf_probe_read_user(&info, sizeof(info), (void *)at);
            read_address(&event->answers[i], &info);
        }
        at = info.next;
    }
    event->more = at != 0;
    event->processor = bpf_get_smp_processor_id();
    events.ringbuf_submit(event, WAKE_IF_WAITING);
    return 0;
}
