// Processes that start and end, with the absolute path of what they run. Offsets come from the kernel's own BTF.

#define PARTS 20  // of a path, deeper ones are cut
#define PART 64   // bytes of a part

#define READ(to, from, offset) bpf_probe_read_kernel(&(to), sizeof(to), (char *)(from) + (offset))

struct process {
    u64 ts, cgroup;
    u32 kind, pid, parent, uid, status, parts;
    char comm[16];
};

struct exec {
    struct process head;
    char path[PARTS][PART];
};

static __always_inline void note(struct process *event, u32 kind, void *task)
{
    void *parent = 0;
    event->ts = bpf_ktime_get_ns();
    event->cgroup = bpf_get_current_cgroup_id();
    event->kind = kind;
    event->pid = bpf_get_current_pid_tgid() >> 32;
    event->uid = (u32)bpf_get_current_uid_gid();
    event->parent = 0;
    event->status = 0;
    event->parts = 0;
    READ(parent, task, TASK_REAL_PARENT);
    READ(event->parent, parent, TASK_TGID);
    bpf_get_current_comm(event->comm, sizeof(event->comm));
}

TRACEPOINT_PROBE(sched, sched_process_exec)
{
    struct exec *event = events.ringbuf_reserve(sizeof(struct exec));
    if (!event) {
        count(LOST);
        return 0;
    }
    void *task = (void *)bpf_get_current_task();
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

TRACEPOINT_PROBE(sched, sched_process_exit)
{
    u64 id = bpf_get_current_pid_tgid();
    if ((u32)id != id >> 32)
        return 0; // a thread
    struct process *event = events.ringbuf_reserve(sizeof(struct process));
    if (!event) {
        count(LOST);
        return 0;
    }
    void *task = (void *)bpf_get_current_task();
    note(event, EXIT, task);
    READ(event->status, task, TASK_EXIT_CODE);
    events.ringbuf_submit(event, NO_WAKEUP);
    return 0;
}
