// Remembers the questions that the command asks over UDP, when they leave its sockets. The socket, the id and the name,
// type and class of a question make its key: a hash, whose seed no command knows.

#define HEADER 12
#define NAME 255 // bytes of a name in a message
#define LABELS 128
#define ANSWERS 8 // of one question; the oldest is overwritten

// A question: its number, the times that it was asked and answered, the addresses of its answers, and their sums.
struct question {
    u64 number;
    u32 asked, answered, addresses;
    u64 answers[ANSWERS];
};

BPF_TABLE("lru_hash", u64, struct question, questions, QUESTIONS);

static __always_inline u64 mix(u64 hash, u64 value)
{
    hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 32;
}

// Returns eight bytes in lower case. The length of a label is no letter.
static __always_inline u64 lower(u64 bytes)
{
    u64 each = 0x0101010101010101ULL, low = bytes & 0x7f * each;
    u64 letters = ((low + (0x80 - 'A') * each) ^ (low + (0x7f - 'Z') * each)) & ~bytes & 0x80 * each;
    return bytes | letters >> 2;
}

// Returns a number of which the verifier knows nothing, so that it follows what comes next once and not for each number.
static __always_inline u32 forget(u32 number, u64 anything)
{
    u32 same = anything, mixed = number ^ same;
    asm volatile("" : "+r"(same));
    return mixed ^ same;
}

// Returns the bytes of the name in a question, with those of the root; 0 if it is no name.
static __always_inline u32 name_length(struct __sk_buff *skb, u32 name)
{
    u32 length = 0, ends = 0;
    u8 label;
#pragma nounroll
    for (u32 i = 0; i < LABELS && !ends; i++) {
        if (length >= NAME || bpf_skb_load_bytes(skb, name + length, &label, 1) || label > 63)
            return 0;
        length += label + 1;
        ends = !label;
    }
    return ends && length <= NAME ? length : 0;
}

// Returns the key of the question in a message of a socket; 0 if it is no question.
static __always_inline u64 question_key(struct __sk_buff *skb, u32 message, u32 id)
{
    u32 name = message + HEADER, length = name_length(skb, name), kind;
    u64 key = mix(mix(seed(), bpf_get_socket_cookie(skb)), id);
    length = forget(length, key);
    if (!length || length > NAME || bpf_skb_load_bytes(skb, name + length, &kind, sizeof(kind)))
        return 0;
#pragma nounroll
    for (u32 at = 0; at < NAME + 1; at += 8) { // beyond a name is the type, so that eight bytes are there but at its end
        u64 bytes = 0;
        if (at >= length)
            break;
        if (length - at >= 4) {
            if (bpf_skb_load_bytes(skb, name + at, &bytes, 8))
                return 0;
        } else if (bpf_skb_load_bytes(skb, name + at, &bytes, 4)) {
            return 0;
        }
        if (length - at < 8)
            bytes &= (1ULL << (length - at) * 8) - 1;
        key = mix(key, lower(bytes));
    }
    return mix(key, kind);
}

// Remembers the question in a datagram, each time that it is sent.
static __always_inline void note_question(struct __sk_buff *skb, u32 message)
{
    u8 header[HEADER];
    if (bpf_skb_load_bytes(skb, message, header, HEADER) || header[2] & 0xf8 || header[4] || header[5] != 1)
        return; // no usual query with one question
    u64 key = question_key(skb, message, header[0] << 8 | header[1]);
    if (!key)
        return;
    struct question new = {.number = key ^ bpf_ktime_get_ns()};
    struct question *question = questions.lookup_or_try_init(&key, &new);
    if (question)
        __sync_fetch_and_add(&question->asked, 1);
}
