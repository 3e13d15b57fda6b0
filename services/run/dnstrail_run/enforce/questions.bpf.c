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

// Returns 0, of which neither the verifier nor the compiler knows anything.
static __always_inline u64 nothing(struct __sk_buff *skb)
{
    u64 any = skb->len * 0x9e3779b97f4a7c15ULL, same = any; // the product has no bound
    asm volatile("" : "+r"(same));
    return any ^ same;
}

// Returns a number as one of which the verifier knows nothing, so that it follows what comes next once and not for each
// number. `zero` is `nothing`. Numbers of loops have 64 bits: for others, the compiler adds instructions.
static __always_inline u64 forget(u64 number, u64 zero)
{
    return number + zero;
}

// Returns the bytes of the name in a question, with those of the root; 0 if it is no name.
static __always_inline u64 name_length(struct __sk_buff *skb, u64 name, u64 zero)
{
    u64 length = 0;
    u8 label;
#pragma nounroll
    for (u64 i = 0; i < LABELS; i++) {
        if (bpf_skb_load_bytes(skb, name + length, &label, 1) || label > 63)
            return 0;
        length = forget(length + label + 1, zero);
        if (!label)
            return length <= NAME ? length : 0;
    }
    return 0;
}

// Returns how many of eight bytes are this one.
static __always_inline u64 count_byte(u64 bytes, u8 wanted)
{
    u64 each = 0x0101010101010101ULL, other = bytes ^ wanted * each;
    u64 found = ~((other & 0x7f * each) + 0x7f * each | other) & 0x80 * each;
    return (found >> 7) * each >> 56;
}

// Puts a dot in place of the length of each label but the first. Returns how many of these lengths look like a dot.
static __always_inline u64 put_dots(struct __sk_buff *skb, u64 start, u64 last, struct suffix *name, u64 zero)
{
    u64 at = 0, alike = 0;
    u8 label;
    if (bpf_skb_load_bytes(skb, start, &label, 1))
        return 0;
#pragma nounroll
    for (u64 i = 0; i < LABELS; i++) {
        at = forget(at + label + 1, zero);
        if (at > last || bpf_skb_load_bytes(skb, start + at, &label, 1))
            break;
        alike = forget(alike + ((forget(label, zero) ^ '.') - 1 >> 63), zero);
        name->text[(last - at) & (TEXT - 1)] = '.';
    }
    return alike;
}

// Reads a name backwards, and in lower case. Returns its bytes in the message; 0 if it cannot be in a list: it is that of
// the root, or a label contains what would be taken for the end of a label or of the name.
static __always_inline u64 read_suffix(struct __sk_buff *skb, u64 start, struct suffix *name)
{
    u64 zero = nothing(skb), whole = forget(name_length(skb, start, zero), zero), dots = 0, zeros = 0, cut = 0;
    u32 *text = (u32 *)name->text;
    if (whole < 2)
        return 0;
    u64 last = forget(whole, zero) - 2;
#pragma nounroll
    for (u32 i = 0; i < TEXT; i += 8) { // without a branch, so that the verifier follows each turn once
        u64 left = last - i, bytes;
        left &= forget(left >> 63, zero) - 1; // 0 behind the begin of the name
        left &= TEXT - 1;
        u64 past = (left + TEXT - 8) / TEXT; // whether eight bytes are left
        cut = forget(cut | bpf_skb_load_bytes(skb, start + left - 7, &bytes, sizeof(bytes)), zero); // before it is a header
        bytes = __builtin_bswap64(lower(bytes)) & (((1ULL << (left & 7) * 8) - 1) | (0 - past));
        dots = forget(dots + count_byte(bytes, '.'), zero);
        zeros = forget(zeros + count_byte(bytes, 0), zero);
        text[i / 4] = bytes;
        text[i / 4 + 1] = bytes >> 32;
    }
    return !cut && zeros == TEXT - last && dots == put_dots(skb, start, last, name, zero) ? whole : 0;
}

static __always_inline u64 mix_name(u64 key, struct suffix *name)
{
    u32 *text = (u32 *)name->text;
#pragma nounroll
    for (u32 i = 0; i < TEXT / 4; i += 2)
        key = mix(key, (u64)text[i] << 32 | text[i + 1]);
    return key;
}

// Returns the key of the question in a message of a socket, by the hash of its name, and the bytes of it; 0 if it cannot
// be read.
static __always_inline u64 question_key(struct __sk_buff *skb, u32 message, u32 id, u64 hash, u32 bytes)
{
    u32 kind;
    if (bpf_skb_load_bytes(skb, message + HEADER + bytes, &kind, sizeof(kind)))
        return 0;
    return mix(mix(mix(hash, bpf_get_socket_cookie(skb)), id), kind);
}

// Remembers a question, each time that it is sent.
static __always_inline void note_question(u64 key)
{
    struct question new = {.number = key ^ bpf_ktime_get_ns()};
    struct question *question = questions.lookup_or_try_init(&key, &new);
    if (question)
        __sync_fetch_and_add(&question->asked, 1);
}
