// Processes that start and end, with the absolute path of what they run, and cgroups that come and go.
// Raw tracepoints: they need neither tracefs nor the right to read it. Offsets come from the kernel's own BTF.

#define PARTS 20  // of a path, deeper ones are cut
#define PART 64   // bytes of a part
#define CGROUP_PATH 1024

#define READ(to, from, offset) bpf_probe_read_kernel(&(to), sizeof(to), (char *)(from) + (offset))

struct process {
    u64 ts;
    u32 kind, pid;
    u64 cgroup;
    u32 parent, uid, status, parts;
    char comm[16];
};

struct exec {
    struct process head;
    char path[PARTS][PART];
};

struct cgroup_event {
    u64 ts;
    u32 kind, pad;
    u64 id;
    char path[CGROUP_PATH];
};

static __always_inline void note(struct process *event, u32 kind, void *task)
{
    void *parent = 0, *leader = 0; // a process bears the name of its first thread
    event->ts = bpf_ktime_get_ns();
    event->cgroup = bpf_get_current_cgroup_id();
    event->kind = kind;
    event->uid = (u32)bpf_get_current_uid_gid();
    event->pid = 0;
    event->parent = 0;
    event->status = 0;
    event->parts = 0;
    READ(event->pid, task, TASK_TGID);
    READ(parent, task, TASK_REAL_PARENT);
    READ(event->parent, parent, TASK_TGID);
    READ(leader, task, TASK_LEADER);
    READ(event->comm, leader, TASK_COMM);
}

RAW_TRACEPOINT_PROBE(sched_process_fork)
{
    void *child = (void *)ctx->args[1];
    u32 pid = 0, tgid = 0;
    READ(pid, child, TASK_PID);
    READ(tgid, child, TASK_TGID);
    if (pid != tgid)
        return 0; // a thread
    struct process *event = events.ringbuf_reserve(sizeof(struct process));
    if (!event) {
        count(LOST);
        return 0;
    }
    note(event, FORK, child);
    u64 id = bpf_get_current_pid_tgid(); // with CLONE_PARENT another is told as parent than whose copy it is
    event->parent = id >> 32;
    event->status = (u32)id; // the thread that forked
    events.ringbuf_submit(event, NO_WAKEUP);
    return 0;
}

RAW_TRACEPOINT_PROBE(sched_process_exec)
{
    struct exec *event = events.ringbuf_reserve(sizeof(struct exec));
    if (!event) {
        count(LOST);
        return 0;
    }
    void *task = (void *)ctx->args[0];
    note(&event->head, EXEC, task);
    void *mm = 0, *file = 0, *dentry = 0, *vfsmount = 0, *root = 0, *parent = 0;
    char *name = 0;
    READ(mm, task, TASK_MM);
    READ(file, mm, MM_EXE_FILE);
    READ(dentry, file, FILE_PATH + PATH_DENTRY);
    READ(vfsmount, file, FILE_PATH + PATH_MNT);
    READ(root, vfsmount, VFSMOUNT_ROOT);
    void *mount = (char *)vfsmount - MOUNT_MNT;
    // From the file up; at the root of a mount on to where that is mounted.
#pragma unroll
    for (int i = 0; i < PARTS; i++) {
        event->path[i][0] = 0;
        if (dentry == root) {
            READ(parent, mount, MOUNT_PARENT);
            if (parent == mount) {
                dentry = 0;
            } else {
                READ(dentry, mount, MOUNT_POINT);
                mount = parent;
                READ(root, mount, MOUNT_MNT + VFSMOUNT_ROOT);
            }
        } else {
            READ(name, dentry, DENTRY_NAME);
            bpf_probe_read_kernel_str(event->path[i], PART, name);
            READ(dentry, dentry, DENTRY_PARENT);
        }
        event->head.parts = i + 1;
        if (!dentry)
            break;
    }
    if (dentry)
        event->head.parts = PARTS + 1; // deeper than we look
    events.ringbuf_submit(event, NO_WAKEUP);
    return 0;
}

RAW_TRACEPOINT_PROBE(sched_process_exit)
{
    void *task = (void *)ctx->args[0], *signal = 0;
    int live = 0;
    READ(signal, task, TASK_SIGNAL);
    READ(live, signal, SIGNAL_LIVE);
    if (live)
        return 0; // a thread, and others of its process go on
    struct process *event = events.ringbuf_reserve(sizeof(struct process));
    if (!event) {
        count(LOST);
        return 0;
    }
    note(event, EXIT, task);
    READ(event->status, task, TASK_EXIT_CODE);
    events.ringbuf_submit(event, NO_WAKEUP);
    return 0;
}

static __always_inline int note_cgroup(struct bpf_raw_tracepoint_args *ctx, u32 kind)
{
    void *cgroup = (void *)ctx->args[0], *root = 0, *node = 0;
    u32 hierarchy = 1;
    READ(root, cgroup, CGROUP_ROOT);
    READ(hierarchy, root, ROOT_HIERARCHY);
    if (hierarchy)
        return 0; // of cgroup v1
    struct cgroup_event *event = events.ringbuf_reserve(sizeof(struct cgroup_event));
    if (!event) {
        count(LOST);
        return 0;
    }
    event->ts = bpf_ktime_get_ns();
    event->kind = kind;
    event->id = 0;
    event->path[0] = 0;
    READ(node, cgroup, CGROUP_NODE);
    READ(event->id, node, NODE_ID);
    bpf_probe_read_kernel_str(event->path, CGROUP_PATH, (void *)ctx->args[1]);
    events.ringbuf_submit(event, NO_WAKEUP);
    return 0;
}

RAW_TRACEPOINT_PROBE(cgroup_mkdir) { return note_cgroup(ctx, CGROUP_MADE); }
RAW_TRACEPOINT_PROBE(cgroup_rmdir) { return note_cgroup(ctx, CGROUP_REMOVED); }
