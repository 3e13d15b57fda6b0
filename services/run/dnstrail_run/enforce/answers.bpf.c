// Reads the answers of the configured resolvers. on_ingress enters the addresses of an answer in `given` before the
// socket receives the answer: the kernel runs it on the path of the packet to the socket (sk_filter). No connection
// that follows from an answer is too early. Over UDP, each time that a question was asked admits one answer to it. A
// further answer with other addresses is a conflict: either can be the false one.

// Labels and records that on_message reads, and on_answer in each of its runs; addresses of a conflict in one run. The
// verifier follows each turn of a loop, and the kernel allows 33 calls for a packet. STEPS - FIRST is a multiple of PART.
#define FIRST 4
#define PART 18
#define CONTESTED 32
#define ESTABLISHED 1 // states of TCP
#define FIN_WAIT1 4
#define FIN_WAIT2 5

// An address of an answer to a question, by its place among the addresses of all answers to it. `surplus` marks an answer
// that nobody asked for.
struct step {
    u64 question;
    u32 place, none;
};
struct target {
    struct address address;
    u32 surplus;
};

// What is being read: a name; whether more messages follow in the packet, and whether it is a datagram; the place of the
// next byte in the packet; the records that are left of the answer, and the runs to read them; the number of addresses that
// answers to its question had before, and have with it; the key and number of this question; the sum of the addresses of
// the answer, in any order; the sets of ports of the name; the sets of resolvers that contain its sender, and of ports where
// connections need not state the name; one address; the name with it. They are in memory, so that the verifier does not
// follow their values.
struct buffer {
    struct suffix name;
    u8 more, datagram;
    u32 at, records, rounds, known, addresses;
    u64 question, number, sum, sets, servers, unchecked;
    struct target target;
    struct led led;
};

// A conflict as it is reported: the name as in `struct buffer`, and the addresses of the believed answers and of others.
struct conflict {
    u8 name[TEXT];
    u32 counts[2];
    struct address addresses[2 * SHOWN];
};

BPF_PERCPU_ARRAY(buffers, struct buffer, 1); // packets arrive one after the other on each processor
BPF_PROG_ARRAY(finding, 1); // on_ingress and on_message call each other for each message of a packet
BPF_PROG_ARRAY(reading, 1);
BPF_PROG_ARRAY(answering, 1); // on_answer calls itself
BPF_PROG_ARRAY(contesting, 1);
BPF_TABLE("lru_hash", struct step, struct target, targets, TARGETS);
BPF_HASH(conflicts, u64, struct conflict, CONFLICTS);
BPF_ARRAY(no_conflict, struct conflict, 1); // what a conflict begins with: it is too large for the stack

static __always_inline void give(struct buffer *buffer, u64 sets)
{
    struct address *address = &buffer->target.address;
    struct place none = {}, *known = given.lookup_or_try_init(address, &none);
    if (!known || (checked() && !note_led(&buffer->led, address, sets))) {
        count(NO_ROOM);
        return;
    }
    __sync_fetch_and_or(&known->sets, sets);
    __sync_fetch_and_or(&known->unchecked, buffer->unchecked);
    if (buffer->number)
        known->question = buffer->number;
}

// Remembers that an answer to a question has an address. Returns 0 if there is no room.
static __always_inline int note_target(struct buffer *buffer)
{
    struct place *known = given.lookup(&buffer->target.address);
    if (known && known->question == buffer->number)
        return 1;
    struct step step = {.question = buffer->number, .place = buffer->addresses};
    if (step.place >= ADDRESSES || targets.insert(&step, &buffer->target)) // another processor may have taken the place
        return 0;
    buffer->addresses++;
    return 1;
}

static __always_inline void take(struct buffer *buffer)
{
    struct address *address = &buffer->target.address;
    unmap(address);
    buffer->sum += mix(mix(address->family, (u64)address->words[0] << 32 | address->words[1]),
                       (u64)address->words[2] << 32 | address->words[3]);
    if (buffer->datagram && !note_target(buffer))
        count(NO_ROOM);
    else if (!buffer->target.surplus)
        give(buffer, buffer->sets);
}

// Takes addresses in the answer section of a message, in so many steps at most.
static __always_inline void read_records(struct __sk_buff *skb, struct buffer *buffer, u64 steps)
{
    struct address *address = &buffer->target.address;
    u64 zero = nothing(skb);
#pragma nounroll
    for (u64 step = 0; step < steps; step++) {
        u32 at = buffer->at;
        u8 label, head[10];
        if (!buffer->records)
            return;
        if (bpf_skb_load_bytes(skb, at, &label, 1))
            break;
        if (label && label < 0xc0) {
            buffer->at = forget(at + label + 1, zero);
            continue;
        }
        at += label ? 2 : 1;
        if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
            break;
        at += sizeof(head);
        u32 length = head[8] << 8 | head[9];
        int in = !head[0] && !head[2] && head[3] == 1, is4 = head[1] == 1 && length == 4;
        if (in && (is4 || (head[1] == 28 && length == 16))) {
            address->family = is4 ? 4 : 6;
            address->words[1] = address->words[2] = address->words[3] = 0;
            if (bpf_skb_load_bytes(skb, at, address->words, is4 ? 4 : 16))
                break;
            take(buffer);
        }
        buffer->at = forget(at + length, zero);
        buffer->records--;
    }
}

// Returns whether an answer is one more than was asked for. Of two answers at one time, both may be.
static __always_inline u32 is_surplus(struct question *question)
{
    __sync_fetch_and_add(&question->answered, 1);
    if (question->answered <= question->asked)
        return 0;
    __sync_fetch_and_add(&question->answered, -1);
    return 1;
}

// Returns whether a surplus answer has other addresses than each answer that was believed.
static __always_inline int contradicts(struct question *question, u64 sum)
{
#pragma unroll
    for (u32 i = 0; i < ANSWERS; i++)
        if (question->answers[i] == sum)
            return 0;
    return 1;
}

// Finds the question of an answer over UDP. Returns 0 if there is none.
static __always_inline int find_question(struct buffer *buffer)
{
    struct question *question = questions.lookup(&buffer->question);
    if (!question) {
        count(NOT_ASKED);
        return 0;
    }
    buffer->target.surplus = is_surplus(question);
    buffer->addresses = buffer->known = question->addresses;
    buffer->number = question->number;
    return 1;
}

// Adds an answer to its question. Returns whether it contradicts the others.
static __always_inline int enter_answer(struct buffer *buffer)
{
    struct question *question = questions.lookup(&buffer->question);
    if (!question)
        return 0;
    __sync_fetch_and_add(&question->addresses, buffer->addresses - buffer->known);
    if (buffer->target.surplus)
        return contradicts(question, buffer->sum);
    question->answers[(question->answered - 1) % ANSWERS] = buffer->sum;
    return 0;
}

// Reads a message up to its answer section. Returns whether the answer counts.
static __always_inline int read_message(struct __sk_buff *skb, struct buffer *buffer)
{
    u8 header[HEADER];
    u32 at = buffer->at;
    if (bpf_skb_load_bytes(skb, at, header, HEADER))
        return 0;
    if ((header[2] & 0xf8) != 0x80 || header[4] || header[5] != 1)
        return 0; // no response to a usual query with one question
    buffer->records = header[6] << 8 | header[7];
    if (!buffer->records && !buffer->datagram)
        return 0;
    u32 name = read_suffix(skb, at + HEADER, &buffer->name);
    if (!name)
        return 0;
    buffer->name.length = TEXT * 8;
    struct rule *allowed = names.lookup(&buffer->name);
    if (!allowed || !(allowed->servers & buffer->servers))
        return 0;
    buffer->unchecked = allowed->unchecked;
    if (checked())
        buffer->led.name = buffer->name;
    buffer->at = at + HEADER + name + 4;
    buffer->sum = 1; // 0 is no sum
    buffer->number = buffer->target.surplus = 0;
    if (buffer->datagram) {
        u64 hash = mix_name(seed(), &buffer->name);
        buffer->question = question_key(skb, at, header[0] << 8 | header[1], hash, name);
        if (!find_question(buffer))
            return 0;
    }
    buffer->sets = allowed->sets;
    buffer->rounds = 1 + (STEPS - FIRST) / PART;
    return 1;
}

// Continues with the next message of a packet.
static __always_inline int read_next(struct __sk_buff *skb, struct buffer *buffer)
{
    if (buffer->more) {
        finding.call(skb, 0);
        count(NOT_READ); // the kernel allows no further call
    }
    return 1;
}

// Gives the addresses in the answer section to the ports that the question has, and continues with the next message.
static __always_inline int read_answer(struct __sk_buff *skb, struct buffer *buffer, u64 steps)
{
    u32 before = buffer->at;
    read_records(skb, buffer, steps);
    if (buffer->records && buffer->at != before && --buffer->rounds)
        answering.call(skb, 0);
    if (buffer->records)
        count(NOT_READ);
    if (buffer->datagram && enter_answer(buffer)) {
        buffer->at = 0;
        contesting.call(skb, 0);
    }
    return read_next(skb, buffer);
}

// Returns whether a segment acknowledges what its socket has sent. The kernel discards others later on, and who does not
// read the connection cannot make one: before the answer to its SYN, a socket expects the sequence number 0.
static __always_inline int is_of_connection(struct bpf_sock *socket, struct bpf_tcp_sock *state, u32 acknowledged)
{
    int open = socket->state == ESTABLISHED || socket->state == FIN_WAIT1 || socket->state == FIN_WAIT2;
    return open && acknowledged - state->snd_una <= state->snd_nxt - state->snd_una;
}

// Finds the next message in a TCP segment; returns its place, or 0. The bounds of messages come from the beginning of
// the stream alone: what looks like a message elsewhere can be the data of a record, which a stranger has chosen.
static __always_inline u32 next_message(struct __sk_buff *skb, u32 offset, struct bpf_sock *socket, struct asker *asker,
                                        struct buffer *buffer)
{
    u8 tcp[14], prefix[2];
    struct bpf_tcp_sock *state = bpf_tcp_sock(socket);
    if (!state || bpf_skb_load_bytes(skb, offset, tcp, sizeof(tcp)))
        return 0;
    u32 sequence = tcp[4] << 24 | tcp[5] << 16 | tcp[6] << 8 | tcp[7];
    u32 start = offset + (tcp[12] >> 4) * 4;
    if (skb->len <= start)
        return 0;
    u32 size = skb->len - start;
    if (!is_of_connection(socket, state, tcp[8] << 24 | tcp[9] << 16 | tcp[10] << 8 | tcp[11])) {
        count(NOT_ASKED);
        return 0;
    }
    if (asker->begun == LOST)
        return 0;
    if (asker->begun == UNSEEN) {
        if (state->bytes_received || sequence != state->rcv_nxt) {
            count(NOT_READ); // out of order: the beginning was not seen
            return 0;
        }
        asker->begun = FOLLOWED;
        asker->next = sequence;
    }
    u32 at = asker->next - sequence;
    if (at >= size) {
        if (at >> 31)
            count(NOT_READ); // out of order: the beginning of a message may be in it
        return 0;
    }
    if (!asker->length) {
        if (bpf_skb_load_bytes(skb, start + at, prefix, sizeof(prefix))) {
            asker->begun = LOST;
            count(NOT_READ);
            return 0;
        }
        asker->length = prefix[0] << 8 | prefix[1];
        asker->next += 2;
        at += 2;
    }
    if (at >= size)
        return 0; // the message is in the next segment
    asker->next += asker->length;
    asker->length = 0;
    buffer->more = asker->next - sequence < size;
    return start + at;
}

int on_ingress(struct __sk_buff *skb)
{
    struct bpf_sock *socket = skb->sk;
    struct resolver source = {};
    u8 ip[20], port[2];
    if (socket)
        socket = bpf_sk_fullsock(socket);
    if (!socket)
        return 1;
    struct asker *asker = askers.sk_storage_get(socket, 0, 0);
    if (!asker || asker->guides || bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
        return 1;
    source.namespace = asker->resolver.namespace;
    source.address.family = ip[0] >> 4;
    int is4 = source.address.family == 4;
    u32 offset = is4 ? (ip[0] & 15) * 4 : 40;
    u8 protocol = is4 ? ip[9] : ip[6];
    if (is4)
        bpf_skb_load_bytes(skb, 12, source.address.words, 4);
    else
        bpf_skb_load_bytes(skb, 8, source.address.words, 16);
    struct route *route = resolvers.lookup(&source);
    if (!route || bpf_skb_load_bytes(skb, offset, port, 2) || port[0] || port[1] != DNS)
        return 1;
    if (route->interface != skb->ifindex) {
        count(ELSEWHERE);
        return 1;
    }
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    if (!buffer)
        return 1;
    buffer->at = buffer->more = 0;
    buffer->servers = route->servers;
    buffer->datagram = protocol == UDP;
    if (protocol == UDP)
        buffer->at = offset + 8;
    else if (protocol == TCP)
        buffer->at = next_message(skb, offset, socket, asker, buffer);
    if (buffer->at)
        reading.call(skb, 0);
    return 1;
}

int on_message(struct __sk_buff *skb)
{
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    if (!buffer)
        return 1;
    return read_message(skb, buffer) ? read_answer(skb, buffer, FIRST) : read_next(skb, buffer);
}

int on_answer(struct __sk_buff *skb)
{
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    return buffer ? read_answer(skb, buffer, PART) : 1;
}

static __always_inline void contest(struct address *address)
{
    struct place none = {}, *known = given.lookup_or_try_init(address, &none);
    if (known)
        known->contested = 1; // without room, no name leads there either
}

static __always_inline void begin_conflict(struct buffer *buffer, struct question *question)
{
    u32 none = 0;
    struct conflict *empty = no_conflict.lookup(&none), *found;
    if (!empty)
        return;
    found = conflicts.lookup_or_try_init(&question->number, empty);
    if (!found) {
        count(UNNAMED);
        return;
    }
    __builtin_memcpy(found->name, buffer->name.text, TEXT);
    if (!buffer->at)
        found->counts[0] = found->counts[1] = 0;
}

// Refuses the addresses of all answers to a question from now on, and notes the first of them: CONTESTED of them in each run.
int on_conflict(struct __sk_buff *skb)
{
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    struct question *question = buffer ? questions.lookup(&buffer->question) : 0;
    if (!question)
        return 1;
    begin_conflict(buffer, question);
    struct step step = {.question = question->number, .place = buffer->at};
#pragma nounroll
    for (u32 i = 0; i < CONTESTED; i++, step.place++) {
        if (step.place >= question->addresses)
            return 1;
        struct target *target = targets.lookup(&step);
        if (!target) {
            count(FORGOTTEN);
            continue;
        }
        contest(&target->address);
        struct conflict *conflict = conflicts.lookup(&step.question); // each time: the verifier follows one way
        if (!conflict)
            continue;
        u32 side = target->surplus & 1, shown = conflict->counts[side]++;
        if (shown < SHOWN)
            conflict->addresses[side * SHOWN + shown] = target->address;
    }
    buffer->at = step.place;
    contesting.call(skb, 0);
    return 1;
}
