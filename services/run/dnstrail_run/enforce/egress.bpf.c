// What leaves the sockets that ask a resolver: questions that the list contains, unless every question is allowed. The
// program reads into its stack; over TCP the pages may change afterwards.

#define URGENT 0x20 // a flag of TCP: the receiver reads the byte that it marks apart from the others
#define OPT 41
#define COOKIE 10 // RFC 7873
#define PASS 1 // what a program returns; LOSE drops a packet without an error, as a full queue does: TCP repeats it
#define LOSE 2
#define LEVEL_IP 0 // SOL_IP, IP_RECVERR, and those of IPv6
#define RECVERR 11
#define LEVEL_IPV6 41
#define RECVERR6 25

// Why a question is refused, or the name that a connection states.
enum reason { LISTED, UNREADABLE, NAME_UNLISTED, TYPE_UNLISTED, OTHER_RESOLVER, UNSTATED, OTHER_NAME };

// A refused question or connection, its name as in `struct suffix`, its type or port, its resolver or peer, and the process
// that gave its socket this peer.
struct unasked {
    u8 name[TEXT];
    u64 times;
    u32 pid, reason, kind, protocol;
    struct address peer;
    char comm[16];
};

// A question that waits for the verdict of a person, and its key in `unasked` if it is refused.
struct waiting {
    u64 refusal;
    struct unasked question;
};

BPF_HASH(unasked, u64, struct unasked, REFUSED);
BPF_ARRAY(nothing_unasked, struct unasked, 1); // what a refused question begins with: it is too large for the stack
BPF_HASH(waiting, u64, struct waiting, WAITING);
BPF_ARRAY(nothing_waiting, struct waiting, 1);
BPF_HASH(once, u64, u64, ONCE); // questions that may pass one time
BPF_TABLE("lru_hash", u64, u64, denied, DENIED); // names that the person refused
BPF_PROG_ARRAY(deciding_egress, 1);
BPF_PROG_ARRAY(noting, 1); // the stack has no room for a question beside its name

// A socket of the launcher shows the way: C could bind its own to any interface.
static __always_inline void note_interface(struct __sk_buff *skb, struct asker *asker)
{
    struct route *route = resolvers.lookup(&asker->resolver);
    if (route)
        route->interface = skb->ifindex;
}

// Returns the bytes of an OPT record with nothing but a cookie; 0 if there is more.
static __always_inline u32 cookie_length(struct __sk_buff *skb, u32 at)
{
    u8 head[11], option[4];
    if (bpf_skb_load_bytes(skb, at, head, sizeof(head)) || head[0] || head[1] || head[2] != OPT)
        return 0;
    if (head[5] || head[6] || head[7] & 0x7f || head[8] || head[9])
        return 0; // an extended code, another version, flags beside DO
    if (!head[10])
        return sizeof(head);
    if (bpf_skb_load_bytes(skb, at + sizeof(head), option, sizeof(option)) || option[0] || option[1] != COOKIE)
        return 0;
    if (option[2] || option[3] < 8 || option[3] > 40 || option[3] + 4 != head[10])
        return 0;
    return sizeof(head) + head[10];
}

static __always_inline int is_usual(u32 kind)
{
    return kind == 1 || kind == 5 || kind == 28 || kind == 64 || kind == 65; // A, CNAME, AAAA, SVCB, HTTPS
}

// Returns why a message is refused, or LISTED. A message has one question, whose name has this many bytes, and a cookie, and
// nothing behind them. `may_wait` is set if a line of the list could allow it.
static __always_inline u32 examine(struct __sk_buff *skb, struct asker *asker, u32 at, u32 end, struct suffix *name,
                                   u32 name_bytes, u32 *kind, u64 *may_wait)
{
    u8 header[HEADER], fixed[4];
    if (bpf_skb_load_bytes(skb, at, header, HEADER) || header[2] & 0xfe || header[3] & 0xcf)
        return UNREADABLE; // only RD, AD and CD
    if (header[4] || header[5] != 1 || header[6] || header[7] || header[8] || header[9] || header[10] || header[11] > 1)
        return UNREADABLE;
    at += HEADER + name_bytes;
    if (bpf_skb_load_bytes(skb, at, fixed, sizeof(fixed)) || fixed[2] || fixed[3] != 1)
        return UNREADABLE;
    *kind = fixed[0] << 8 | fixed[1];
    at += sizeof(fixed);
    u32 cookie = header[11] ? cookie_length(skb, at) : 0;
    if (at + cookie != end || (header[11] && !cookie))
        return UNREADABLE;
    struct rule *rule = names.lookup(name);
    u64 servers = (rule ? rule->servers : ANY_SERVER) & ~asker->withheld;
    int is_known = is_usual(*kind) || *kind < TYPES;
    *may_wait = is_known ? servers : 0;
    if (!rule || rule->types & ANSWERED)
        return NAME_UNLISTED;
    if (!is_usual(*kind) && (!is_known || !(rule->types >> *kind & 1)))
        return TYPE_UNLISTED;
    return servers ? LISTED : OTHER_RESOLVER;
}

static __always_inline u64 refusal_key(u64 name, u32 pid, u32 reason, u32 kind, u32 protocol)
{
    return mix(mix(name, (u64)pid << 32 | reason << 16 | kind), protocol);
}

static __always_inline void describe(struct unasked *found, u32 pid, char *comm, struct address *peer, struct suffix *name,
                                     u32 reason, u32 kind, u32 protocol)
{
    __builtin_memcpy(found->name, name->text, TEXT);
    __builtin_memcpy(found->comm, comm, sizeof(found->comm));
    found->pid = pid;
    found->reason = reason;
    found->kind = kind;
    found->protocol = protocol;
    found->peer = *peer;
    found->times = 1;
}

// Reports a question by its key in `unasked` or in `waiting`. Returns whether there was room.
static __always_inline int report_first(u64 question, u64 waiting)
{
    struct first *first = firsts.ringbuf_reserve(sizeof(struct first));
    if (!first)
        return 0;
    __builtin_memset(first, 0, sizeof(*first));
    first->question = question;
    first->waiting = waiting;
    firsts.ringbuf_submit(first, 0);
    return 1;
}

// Counts a refusal of a name with this hash.
static __always_inline int note_refusal(u64 hash, u32 pid, char *comm, struct address *peer, struct suffix *name, u32 reason,
                                        u32 kind, u32 protocol)
{
    u32 none = 0;
    u64 key = refusal_key(hash, pid, reason, kind, protocol);
    struct unasked *empty = nothing_unasked.lookup(&none), *found;
    if (!empty)
        return 0;
    if (!unasked.insert(&key, empty) && (found = unasked.lookup(&key))) {
        describe(found, pid, comm, peer, name, reason, kind, protocol);
        report_first(key, 0);
        return 0;
    }
    found = unasked.lookup(&key);
    if (found)
        __sync_fetch_and_add(&found->times, 1);
    else
        count(UNLISTED);
    return 0;
}

// Lets a question wait for the verdict of a person. All usual types of a name wait as one. Returns PASS if it may pass
// once, LOSE while it waits, and 0 if it is refused: by the person, or since too many others wait.
static __always_inline int ask(struct asker *asker, struct suffix *name, u64 hash, u32 reason, u32 kind, u32 protocol)
{
    u32 none = 0;
    u64 key = mix(hash, is_usual(kind) ? 0 : kind), pass = key ^ kind;
    struct waiting *empty = nothing_waiting.lookup(&none), *found;
    if (!empty || denied.lookup(&key))
        return 0;
    if (!once.delete(&pass))
        return PASS;
    found = waiting.lookup(&key);
    if (found) {
        __sync_fetch_and_add(&found->question.times, 1);
        return LOSE;
    }
    if (!waiting.insert(&key, empty) && (found = waiting.lookup(&key))) {
        found->refusal = refusal_key(hash, asker->pid, reason, kind, protocol);
        describe(&found->question, asker->pid, asker->comm, &asker->resolver.address, name, reason, kind, protocol);
        if (report_first(0, key))
            return LOSE;
        waiting.delete(&key);
    }
    count(QUEUE_FULL);
    return 0;
}

// Returns the place of the first byte that a packet carries; 0 if the packet cannot be read. A datagram that is sent in
// segments, or from memory that the command can still change, may have changed when it arrives.
static __always_inline u32 payload_of(struct __sk_buff *skb, u32 offset, u32 protocol)
{
    u8 tcp[14];
    if (protocol == UDP) {
        void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
        u32 bytes = skb->len;
        return !skb->gso_size && bytes <= 0xffff && data + (bytes & 0xffff) <= data_end ? offset + 8 : 0;
    }
    if (bpf_skb_load_bytes(skb, offset, tcp, sizeof(tcp)))
        return 0;
    u32 start = offset + (tcp[12] >> 4) * 4;
    return tcp[13] & URGENT && start < skb->len ? 0 : start;
}

// Reads the length before a message over TCP. Returns its place, and its end.
static __always_inline u32 next_end(struct __sk_buff *skb, u32 at, u32 *end)
{
    u8 prefix[2];
    if (bpf_skb_load_bytes(skb, at, prefix, sizeof(prefix)))
        return 0;
    *end = at + 2 + (prefix[0] << 8 | prefix[1]);
    return at + 2;
}

// Lets the question in a datagram be remembered, if it is a usual query with one question.
static __always_inline void pass_on(struct __sk_buff *skb, u32 at, u64 hash, u32 bytes)
{
    u8 header[HEADER];
    if (bpf_skb_load_bytes(skb, at, header, HEADER) || header[2] & 0xf8 || header[4] || header[5] != 1)
        return;
    u64 key = question_key(skb, at, header[0] << 8 | header[1], hash, bytes);
    skb->cb[0] = key;
    skb->cb[1] = key >> 32;
    if (key)
        noting.call(skb, 0);
}

int on_egress(struct __sk_buff *skb)
{
    struct bpf_sock *socket = skb->sk;
    struct suffix name = {.length = TEXT * 8};
    u32 reason = UNREADABLE, kind = 0;
    u64 may_wait = 0;
    u8 ip;
    if (socket)
        socket = bpf_sk_fullsock(socket);
    if (!socket)
        return 1;
    struct asker *asker = askers.sk_storage_get(socket, 0, 0);
    if (!asker)
        return 1;
    u32 protocol = socket->protocol;
    if (bpf_skb_load_bytes(skb, 0, &ip, 1))
        return any_question();
    if (asker->guides) {
        note_interface(skb, asker);
        return 1;
    }
    u32 at = ip >> 4 == 4 ? (ip & 15) * 4 : 40, end = skb->len;
    if (any_question()) {
        if (protocol != UDP)
            return 1;
        at += 8;
    } else {
        at = skb->cb[0] ? skb->cb[0] : payload_of(skb, at, protocol);
        if (protocol == TCP && at == end)
            return 1;
        if (at && protocol == TCP)
            at = next_end(skb, at, &end);
    }
    u64 zero = nothing(skb);
    at = forget(at, zero);
    end = forget(end, zero);
    protocol = forget(protocol, zero);
    u32 bytes = at && end <= skb->len ? forget(read_suffix(skb, at + HEADER, &name), zero) : 0;
    u64 hash = mix_name(seed(), &name);
    if (!any_question()) {
        if (bytes)
            reason = examine(skb, asker, at, end, &name, bytes, &kind, &may_wait);
        int verdict = !reason;
        if (reason && may_wait && asks())
            verdict = ask(asker, &name, hash, reason, kind, protocol);
        if (verdict == PASS && end < skb->len) { // of several messages in a segment, each call reads one
            skb->cb[0] = end;
            deciding_egress.call(skb, 0);
            verdict = 0;
            reason = UNREADABLE;
        }
        if (!verdict)
            return note_refusal(hash, asker->pid, asker->comm, &asker->resolver.address, &name, reason, kind, protocol);
        if (verdict == LOSE)
            return LOSE;
    }
    if (protocol == UDP && bytes)
        pass_on(skb, at, hash, bytes);
    return 1;
}

int on_question(struct __sk_buff *skb)
{
    note_question((u64)skb->cb[1] << 32 | skb->cb[0]);
    return 1;
}

// The C library asks for the errors of its UDP sockets. The kernel would then report a question that waits (ENOBUFS).
int on_setsockopt(struct bpf_sockopt *ctx)
{
    struct bpf_sock *socket = ctx->sk;
    int is4 = ctx->level == LEVEL_IP && ctx->optname == RECVERR, is6 = ctx->level == LEVEL_IPV6 && ctx->optname == RECVERR6;
    if (socket && socket->type == DATAGRAM && (is4 || is6))
        ctx->optlen = -1; // the call succeeds, and the kernel ignores it
    return 1;
}

// Stays attached after the end of the launcher: an open socket to a resolver carries names, too.
int guard_egress(struct __sk_buff *skb)
{
    deciding_egress.call(skb, 0);
    struct bpf_sock *socket = skb->sk;
    if (socket)
        socket = bpf_sk_fullsock(socket);
    return socket && askers.sk_storage_get(socket, 0, 0) ? afterwards() : 1;
}
