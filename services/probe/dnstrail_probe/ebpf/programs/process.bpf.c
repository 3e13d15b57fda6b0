// Reports fork, exec (with the absolute path of the program) and exit of processes, and creation and removal of cgroups.
// Raw tracepoints need neither tracefs nor permission to read it. btf.py defines the offsets, from the kernel's BTF.

#define PARTS 20 // components of a path; deeper paths are reported as unknown
#define PART 64  // bytes of a component
#define CGROUP_PATH 1024

#define READ(to, from, offset) bpf_probe_read_kernel(&(to), sizeof(to), (char *)(from) + (offset))

struct process {
    u64 ts;
    u32 kind, pid;
    u64 cgroup, started; // started: boot time, in ns
    u32 parent, uid, status, parts;
    u32 mount_namespace, pid_namespace, processor, pad;
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

// Inode numbers, as in /proc/PID/ns: of the mount namespace, and of the innermost pid namespace that has the process.
static __always_inline void note_namespaces(struct process *event, void *task)
{
    void *proxy = 0, *namespace = 0, *pid = 0;
    u32 level = 0;
    event->mount_namespace = 0;
    event->pid_namespace = 0;
    READ(proxy, task, TASK_NSPROXY);
    READ(namespace, proxy, NSPROXY_MNT);
    READ(event->mount_namespace, namespace, MNT_NAMESPACE_INUM);
    READ(pid, task, TASK_THREAD_PID);
    READ(level, pid, PID_LEVEL);
    READ(namespace, (char *)pid + level * UPID_SIZE, PID_NUMBERS + UPID_NS);
    READ(event->pid_namespace, namespace, PID_NAMESPACE_INUM);
}

// A process has the name and the start of its first thread, the leader.
static __always_inline void note(struct process *event, u32 kind, void *task)
{
    void *parent = 0, *leader = 0;
    event->ts = bpf_ktime_get_ns();
    event->cgroup = bpf_get_current_cgroup_id();
    event->kind = kind;
    event->uid = (u32)bpf_get_current_uid_gid();
    event->pid = 0;
    event->parent = 0;
    event->status = 0;
    event->parts = 0;
    event->started = 0;
    event->processor = bpf_get_smp_processor_id();
    event->pad = 0;
    READ(event->pid, task, TASK_TGID);
    READ(parent, task, TASK_REAL_PARENT);
    READ(event->parent, parent, TASK_TGID);
    READ(leader, task, TASK_LEADER);
    READ(event->comm, leader, TASK_COMM);
    READ(event->started, leader, TASK_START);
    note_namespaces(event, task);
}

ON_TRACEPOINT(sched_process_fork)
{
    void *child = (void *)ctx->args[1];
    u32 pid = 0, tgid = 0;
    READ(pid, child, TASK_PID);
    READ(tgid, child, TASK_TGID);
    if (pid != tgid)
        return 0; // a thread
    u64 cgroup = bpf_get_current_cgroup_id();
    struct process *event = has_room(cgroup, sizeof(*event)) ? events.ringbuf_reserve(sizeof(struct process)) : 0;
    if (!event) {
        lose(LOST, cgroup);
        return 0;
    }
    note(event, FORK, child);
    u64 id = bpf_get_current_pid_tgid(); // the process that forked; with CLONE_PARENT it is not the parent
    event->parent = id >> 32;
    event->status = (u32)id; // the thread that forked
    events.ringbuf_submit(event, WAKE_IF_WAITING);
    return 0;
}

ON_TRACEPOINT(sched_process_exec)
{
    u64 cgroup = bpf_get_current_cgroup_id();
    struct exec *event = has_room(cgroup, sizeof(*event)) ? events.ringbuf_reserve(sizeof(struct exec)) : 0;
    if (!event) {
        lose(LOST, cgroup);
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
    // From the file upwards; at the root of a mount the walk continues at its mount point.
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
        event->head.parts = PARTS + 1; // too deep
    events.ringbuf_submit(event, WAKE_IF_WAITING);
    return 0;
}

ON_TRACEPOINT(sched_process_exit)
{
    void *task = (void *)ctx->args[0], *signal = 0;
    int live = 0;
    READ(signal, task, TASK_SIGNAL);
    READ(live, signal, SIGNAL_LIVE);
    if (live)
        return 0; // other threads of the process still run
    u64 cgroup = bpf_get_current_cgroup_id();
    struct process *event = has_room(cgroup, sizeof(*event)) ? events.ringbuf_reserve(sizeof(struct process)) : 0;
    if (!event) {
        lose(LOST, cgroup);
        return 0;
    }
    note(event, EXIT, task);
    READ(event->status, task, TASK_EXIT_CODE);
    events.ringbuf_submit(event, WAKE_IF_WAITING);
    return 0;
}

static __always_inline int note_cgroup(struct bpf_raw_tracepoint_args *ctx, u32 kind)
{
    void *cgroup = (void *)ctx->args[0], *root = 0, *node = 0;
    u32 hierarchy = 1;
    READ(root, cgroup, CGROUP_ROOT);
    READ(hierarchy, root, ROOT_HIERARCHY);
    if (hierarchy)
        return 0; // a cgroup v1 hierarchy
    u64 changer = bpf_get_current_cgroup_id();
    struct cgroup_event *event = 0;
    if (has_room(changer, sizeof(struct cgroup_event)))
        event = events.ringbuf_reserve(sizeof(struct cgroup_event));
    if (!event) {
        lose(LOST, changer);
        return 0;
    }
    event->ts = bpf_ktime_get_ns();
    event->kind = kind;
    event->id = 0;
    event->path[0] = 0;
    READ(node, cgroup, CGROUP_NODE);
    READ(event->id, node, NODE_ID);
    bpf_probe_read_kernel_str(event->path, CGROUP_PATH, (void *)ctx->args[1]);
    events.ringbuf_submit(event, WAKE_IF_WAITING);
    if (kind == CGROUP_MADE) {
        u64 *made = cgroups_made.ringbuf_reserve(sizeof(u64));
        if (made) { // else enough wait
            *made = 0;
            cgroups_made.ringbuf_submit(made, WAKE_IF_WAITING);
        }
    }
    return 0;
}

ON_TRACEPOINT(cgroup_mkdir) { return note_cgroup(ctx, CGROUP_MADE); }
ON_TRACEPOINT(cgroup_rmdir) { return note_cgroup(ctx, CGROUP_REMOVED); }
