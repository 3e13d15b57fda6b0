// Reads the answers of the configured resolvers. on_ingress enters the addresses of an answer in `given` before the
// socket receives the answer: the kernel runs it on the path of the packet to the socket (sk_filter). No connection
// that follows from an answer is too early.

#define NAME 255 // bytes of a name in a message
#define FRONT 260 // the place in `struct buffer` behind the first byte of a name
#define HEADER 12

// What is being read: a name, whose bytes end before FRONT in reverse order (all behind FRONT is 0); the bytes that are
// left of its label; whether more messages follow in the packet; the place of the next byte in the packet; the records
// that are left of the answer. They are in memory, so that the verifier does not follow their values.
struct buffer {
    u8 bytes[FRONT + TEXT];
    u8 left, more;
    u32 at, records;
};

BPF_PERCPU_ARRAY(buffers, struct buffer, 1); // packets arrive one after the other on each processor
BPF_PROG_ARRAY(finding, 1); // on_ingress and on_message call each other for each message of a packet
BPF_PROG_ARRAY(reading, 1);

// Reads the name of a question. Returns its bytes in the message, and its sets of ports; 0 if it is not allowed.
static __always_inline u32 read_name(struct __sk_buff *skb, struct buffer *buffer, u32 start, u64 *sets)
{
    u32 length = 0;
    u8 byte;
    buffer->left = 0;
#pragma nounroll
    for (u32 i = 0; i < NAME; i++) {
        if (bpf_skb_load_bytes(skb, start + i, &byte, 1))
            return 0;
        if (buffer->left) {
            buffer->left--;
            if (byte == '.' || !byte) // would be taken for the end of a label or of the name
                return 0;
            if (byte >= 'A' && byte <= 'Z')
                byte += 'a' - 'A';
        } else {
            if (!byte) {
                length = i;
                break;
            }
            if (byte > 63)
                return 0;
            buffer->left = byte;
            byte = '.';
        }
        if (i)
            buffer->bytes[FRONT - i] = byte;
    }
    if (!length || length >= NAME)
        return 0;
    u8 *key = &buffer->bytes[FRONT + 1 - length - 4];
    key[0] = (TEXT * 8) & 255; // the length in bits
    key[1] = (TEXT * 8) >> 8;
    key[2] = key[3] = 0;
    u64 *allowed = names.lookup((struct suffix *)key);
    if (!allowed)
        return 0;
    *sets = *allowed;
    return length + 1;
}

static __always_inline void give(struct address *address, u64 sets)
{
    u64 none = 0;
    unmap(address);
    u64 *known = given.lookup_or_try_init(address, &none);
    if (known)
        __sync_fetch_and_or(known, sets);
    else
        count(NO_ROOM);
}

// Gives the addresses in the answer section of a message to the ports that its question has.
static __always_inline void read_message(struct __sk_buff *skb, struct buffer *buffer)
{
    u8 header[HEADER];
    u64 sets = 0;
    if (bpf_skb_load_bytes(skb, buffer->at, header, HEADER))
        return;
    if ((header[2] & 0xf8) != 0x80 || header[4] || header[5] != 1)
        return; // no response to a usual query with one question
    buffer->records = header[6] << 8 | header[7];
    u32 name = buffer->records ? read_name(skb, buffer, buffer->at + HEADER, &sets) : 0;
    if (!name)
        return;
    buffer->at += HEADER + name + 4;
#pragma nounroll
    for (u32 step = 0; step < STEPS; step++) {
        u32 at = buffer->at;
        u8 label, head[10];
        if (!buffer->records)
            return;
        if (bpf_skb_load_bytes(skb, at, &label, 1))
            break;
        if (label && label < 0xc0) {
            buffer->at = at + label + 1;
            continue;
        }
        at += label ? 2 : 1;
        if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
            break;
        at += sizeof(head);
        u32 length = head[8] << 8 | head[9];
        int in = !head[0] && !head[2] && head[3] == 1, is4 = head[1] == 1 && length == 4;
        if (in && (is4 || (head[1] == 28 && length == 16))) {
            struct address address = {.family = is4 ? 4 : 6};
            if (bpf_skb_load_bytes(skb, at, address.words, length))
                break;
            give(&address, sets);
        }
        buffer->at = at + length;
        buffer->records--;
    }
    if (buffer->records)
        count(NOT_READ);
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
    if (!asker->begun) {
        if (state->bytes_received || sequence != state->rcv_nxt)
            return 0; // out of order: the beginning was not seen
        asker->begun = 1;
        asker->next = sequence;
    }
    u32 at = asker->next - sequence;
    if (at >= size)
        return 0;
    if (!asker->length) {
        if (bpf_skb_load_bytes(skb, start + at, prefix, sizeof(prefix))) {
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
    struct address source = {};
    u8 ip[20], port[2];
    if (socket)
        socket = bpf_sk_fullsock(socket);
    if (!socket)
        return 1;
    struct asker *asker = askers.sk_storage_get(socket, 0, 0);
    if (!asker || bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
        return 1;
    source.family = ip[0] >> 4;
    u32 offset = source.family == 4 ? (ip[0] & 15) * 4 : 40;
    u8 protocol = source.family == 4 ? ip[9] : ip[6];
    if (source.family == 4)
        bpf_skb_load_bytes(skb, 12, source.words, 4);
    else
        bpf_skb_load_bytes(skb, 8, source.words, 16);
    if (!resolvers.lookup(&source) || bpf_skb_load_bytes(skb, offset, port, 2) || port[0] || port[1] != DNS)
        return 1;
    u32 none = 0;
    struct buffer *buffer = buffers.lookup(&none);
    if (!buffer)
        return 1;
    buffer->at = buffer->more = 0;
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
    read_message(skb, buffer);
    if (buffer->more) {
        finding.call(skb, 0);
        count(NOT_READ); // the kernel allows no further call
    }
    return 1;
}
