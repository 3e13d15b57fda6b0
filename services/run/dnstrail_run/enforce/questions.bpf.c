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
    u64 same = anything * 0x9e3779b97f4a7c15ULL, mixed = number ^ same; // the product has no bound
    asm volatile("" : "+r"(same));
    return mixed ^ same;
}

// Returns the bytes of the name in a question, with those of the root; 0 if it is no name.
static __always_inline u32 name_length(struct __sk_buff *skb, u32 name)
{
    u32 length = 0, any = skb->len;
    u8 label;
#pragma nounroll
    for (u32 i = 0; i < LABELS; i++) {
        if (bpf_skb_load_bytes(skb, name + length, &label, 1) || label > 63)
            return 0;
        length = forget(length + label + 1, any);
        if (!label)
            return length <= NAME ? length : 0;
    }
    return 0;
}

// Returns how many of eight bytes are this one.
static __always_inline u32 count_byte(u64 bytes, u8 wanted)
{
    u64 each = 0x0101010101010101ULL, other = bytes ^ wanted * each;
    u64 found = ~((other & 0x7f * each) + 0x7f * each | other) & 0x80 * each;
    return (found >> 7) * each >> 56;
}

// Puts a dot in place of the length of each label but the first. Returns how many of these lengths look like a dot.
static __always_inline u32 put_dots(struct __sk_buff *skb, u32 start, u32 last, struct suffix *name)
{
    u32 at = 0, alike = 0, any = skb->len;
    u8 label;
#pragma nounroll
    for (u32 i = 0; i < LABELS; i++) {
        if (bpf_skb_load_bytes(skb, start + at, &label, 1))
            break;
        alike = forget(alike + ((i > 0) & ((label ^ '.') - 1U) >> 31), any);
        at = forget(at + label + 1, any);
        if (at > last)
            break;
        name->text[(last - at) & (TEXT - 1)] = '.';
    }
    return alike;
}

// Reads a name backwards, and in lower case. Returns its bytes in the message; 0 if it cannot be in a list: it is that of
// the root, or a label contains what would be taken for the end of a label or of the name.
static __always_inline u32 read_suffix(struct __sk_buff *skb, u32 start, struct suffix *name)
{
    u32 any = skb->len, whole = forget(name_length(skb, start), any), dots = 0, zeros = 0;
    u32 *text = (u32 *)name->text;
    if (whole < 2)
        return 0;
    u32 last = forget(whole, any) - 2;
#pragma nounroll
    for (u32 i = 0; i < TEXT; i += 8) { // without a branch, so that the verifier follows each turn once
        u32 left = forget(last, any) - i;
        left = forget(left < TEXT ? left : 0, any) & (TEXT - 1);
        u64 bytes, past = (left + TEXT - 8) / TEXT; // whether eight bytes are left
        if (bpf_skb_load_bytes(skb, start + left - 7, &bytes, sizeof(bytes))) // before a name is a header
            return 0;
        bytes = __builtin_bswap64(lower(bytes)) & (((1ULL << (left & 7) * 8) - 1) | (0 - past));
        dots = forget(dots + count_byte(bytes, '.'), any);
        zeros = forget(zeros + count_byte(bytes, 0), any);
        text[i / 4] = bytes;
        text[i / 4 + 1] = bytes >> 32;
    }
    return zeros == TEXT - last && dots == put_dots(skb, start, last, name) ? whole : 0;
}

static __always_inline u64 mix_name(u64 key, struct suffix *name)
{
    u32 *text = (u32 *)name->text;
#pragma nounroll
    for (u32 i = 0; i < TEXT / 4; i += 2)
        key = mix(key, (u64)text[i] << 32 | text[i + 1]);
    return key;
}

// Returns the key of the question in a message of a socket, whose name has this many bytes; 0 if it is no question.
static __always_inline u64 question_key(struct __sk_buff *skb, u32 message, u32 id, struct suffix *name, u32 bytes)
{
    u32 kind;
    if (bpf_skb_load_bytes(skb, message + HEADER + bytes, &kind, sizeof(kind)))
        return 0;
    return mix(mix_name(mix(mix(seed(), bpf_get_socket_cookie(skb)), id), name), kind);
}

// Remembers the question in a datagram, each time that it is sent.
static __always_inline void note_question(struct __sk_buff *skb, u32 message)
{
    u8 header[HEADER];
    struct suffix name;
    if (bpf_skb_load_bytes(skb, message, header, HEADER) || header[2] & 0xf8 || header[4] || header[5] != 1)
        return; // no usual query with one question
    u32 bytes = read_suffix(skb, message + HEADER, &name);
    u64 key = bytes ? question_key(skb, message, header[0] << 8 | header[1], &name, bytes) : 0;
    if (!key)
        return;
    struct question new = {.number = key ^ bpf_ktime_get_ns()};
    struct question *question = questions.lookup_or_try_init(&key, &new);
    if (question)
        __sync_fetch_and_add(&question->asked, 1);
}
