// The name that a connection states: with --check-server-name, the first bytes to an address to which only a name led must be a
// ClientHello of TLS (RFC 8446) or a request of HTTP/1.1 (RFC 9112) with an allowed name that led to this address. The
// program reads into its stack; the pages of spliced memory may change afterwards.

#define HELLO 44 // bytes of a record of TLS up to the session id of a ClientHello
#define HANDSHAKE 22 // a type of records
#define CLIENT_HELLO 1 // a type of messages
#define HOST 0x74736f68 // "host"
#define PORT 6 // characters of a port behind a colon

// Where the next byte of a request is: in the method, at its target, in the rest of a line, behind a CR, at the begin of a
// line, in the name of a field, in its value, behind the CR of the last line; behind the last line, or nowhere.
enum part { METHOD, AIM, REST, RETURN, BEGIN, FIELD, VALUE, LAST, WHOLE, BROKEN };

// A connection that the launcher ends.
struct ending {
    u64 cookie, namespace;
    u32 pid, family, interface, source_port, destination_port, source4, destination4, source[4], destination[4], padding;
};

static u64 (*whole_cookie)(void *) = (void *)BPF_FUNC_get_socket_cookie; // bcc has the half of it

BPF_RINGBUF_OUTPUT(endings, ENDING_PAGES);
BPF_PROG_ARRAY(requesting, 1);
BPF_PROG_ARRAY(judging, 1);

// Reads a name in lower case and backwards. Returns 0 if no name of a list is like it.
static __always_inline int read_stated(struct __sk_buff *skb, u32 at, u32 length, struct led *led)
{
    u8 byte;
    if (length < 2 || length >= NAME || bpf_skb_load_bytes(skb, at + length - 1, &byte, 1))
        return 0;
    u64 zero = nothing(skb);
    u32 last = length - 1 - (byte == '.');
#pragma nounroll
    for (u32 i = 0; i < NAME; i++) {
        last = forget(last, zero);
        if (i > last)
            break;
        if (bpf_skb_load_bytes(skb, at + i, &byte, 1) || !byte)
            return 0;
        if (byte >= 'A' && byte <= 'Z')
            byte += 'a' - 'A';
        led->name.text[(last - i) & (TEXT - 1)] = byte;
    }
    return 1;
}

static __always_inline int end_connection(struct __sk_buff *skb, struct bpf_sock *socket, struct speaker *speaker)
{
    struct ending *ending;
    speaker->state = ENDED;
    if (socket->protocol == UDP || !(ending = endings.ringbuf_reserve(sizeof(struct ending))))
        return 0; // TCP sends again what is refused, and the connection is ended then
    __builtin_memset(ending, 0, sizeof(*ending));
    ending->cookie = whole_cookie(skb);
    ending->namespace = speaker->namespace;
    ending->pid = speaker->pid;
    ending->family = socket->family;
    ending->interface = socket->bound_dev_if;
    ending->source_port = socket->src_port;
    ending->destination_port = bpf_ntohs(socket->dst_port);
    ending->source4 = socket->src_ip4;
    ending->destination4 = socket->dst_ip4;
    ending->source[0] = socket->src_ip6[0];
    ending->source[1] = socket->src_ip6[1];
    ending->source[2] = socket->src_ip6[2];
    ending->source[3] = socket->src_ip6[3];
    ending->destination[0] = socket->dst_ip6[0];
    ending->destination[1] = socket->dst_ip6[1];
    ending->destination[2] = socket->dst_ip6[2];
    ending->destination[3] = socket->dst_ip6[3];
    endings.ringbuf_submit(ending, 0);
    return 0;
}

static __always_inline struct bpf_sock *socket_of(struct __sk_buff *skb)
{
    struct bpf_sock *socket = skb->sk;
    return socket ? bpf_sk_fullsock(socket) : 0;
}

// Lets a connection pass if it states a name that is allowed and led to its address: `cb` has its place and length.
int on_stated(struct __sk_buff *skb)
{
    struct led led = {.name.length = TEXT * 8};
    u32 reason = UNSTATED;
    struct bpf_sock *socket = socket_of(skb);
    struct speaker *speaker = socket ? speakers.sk_storage_get(socket, 0, 0) : 0;
    if (!speaker)
        return 0;
    u32 *words = speaker->address.words;
    if (read_stated(skb, skb->cb[0], skb->cb[1], &led)) {
        led.address = speaker->address;
        u64 *sets = led_to.lookup(&led);
        if (sets && *sets & speaker->permitted) {
            speaker->state = ACCEPTED;
            return 1;
        }
        reason = OTHER_NAME;
    } else {
        __builtin_memset(led.name.text, 0, TEXT);
    }
    u64 key = mix(mix(seed(), (u64)words[0] << 32 | words[1]), (u64)words[2] << 32 | words[3]);
    key = mix_name(key, &led.name);
    note_refusal(key, speaker->pid, speaker->comm, &speaker->address, &led.name, reason, speaker->port, socket->protocol);
    return end_connection(skb, socket, speaker);
}

// Finds the server name in a ClientHello, all of which must be in the packet. Returns its length; 0 if there is none.
static __always_inline u32 find_server_name(struct __sk_buff *skb, u32 at, u32 *name)
{
    u8 head[HELLO], size[2], extension[9];
    u64 zero = nothing(skb);
    u32 found = 0;
    if (bpf_skb_load_bytes(skb, at, head, HELLO) || head[0] != HANDSHAKE || head[1] != 3 || head[5] != CLIENT_HELLO)
        return 0;
    u32 record = head[3] << 8 | head[4], end = at + 5 + record;
    if (end > skb->len || head[6] || (head[7] << 8 | head[8]) + 4 != record || head[43] > 32)
        return 0;
    at += HELLO + head[43];
    if (bpf_skb_load_bytes(skb, at, size, 2))
        return 0;
    at += 2 + (size[0] << 8 | size[1]);
    if (bpf_skb_load_bytes(skb, at, size, 1))
        return 0;
    at += 1 + size[0];
    if (bpf_skb_load_bytes(skb, at, size, 2) || at + 2 + (size[0] << 8 | size[1]) != end)
        return 0;
    at += 2;
#pragma nounroll
    for (u32 i = 0; i < EXTENSIONS; i++) {
        at = forget(at, zero);
        found = forget(found, zero);
        if (at == end)
            return found;
        if (at + 4 > end || bpf_skb_load_bytes(skb, at, extension, 4))
            return 0;
        u32 length = extension[2] << 8 | extension[3];
        if (!extension[0] && !extension[1]) {
            if (found || bpf_skb_load_bytes(skb, at, extension, 9) || extension[6])
                return 0;
            found = extension[7] << 8 | extension[8];
            if (!found || length != found + 5 || (extension[4] << 8 | extension[5]) != found + 3)
                return 0;
            *name = at + 9;
        }
        at += 4 + length;
    }
    return 0;
}

// Stays attached after the end of the launcher: nothing is judged then, as with the guards.
int on_name(struct __sk_buff *skb)
{
    struct bpf_sock *socket = socket_of(skb);
    struct speaker *speaker = socket ? speakers.sk_storage_get(socket, 0, 0) : 0;
    u8 ip[7], first;
    u32 name = 0, length = 0;
    if (!speaker || speaker->state == ACCEPTED)
        return 1;
    if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
        return 0;
    u32 offset = ip[0] >> 4 == 4 ? (ip[0] & 15) * 4 : 40;
    if (socket->protocol == TCP && (ip[0] >> 4 == 4 || ip[6] == TCP)) {
        u8 tcp[14];
        if (bpf_skb_load_bytes(skb, offset, tcp, sizeof(tcp)))
            return 0;
        u32 at = offset + (tcp[12] >> 4) * 4;
        if (at >= skb->len)
            return 1;
        if (speaker->state == ENDED)
            return end_connection(skb, socket, speaker);
        if (!(tcp[13] & URGENT) && !bpf_skb_load_bytes(skb, at, &first, 1)) {
            if (first == HANDSHAKE) {
                length = find_server_name(skb, at, &name);
            } else if (first >= 'A' && first <= 'Z') {
                skb->cb[0] = at;
                skb->cb[1] = METHOD;
                requesting.call(skb, 0);
                return afterwards();
            }
        }
    }
    skb->cb[0] = name;
    skb->cb[1] = length;
    judging.call(skb, 0);
    return afterwards();
}

static __always_inline int is_host(struct __sk_buff *skb, u32 line, u32 at)
{
    u32 name;
    return at - line == 4 && !bpf_skb_load_bytes(skb, line, &name, 4) && (name | 0x20202020) == HOST;
}

// Returns the part of the next byte of a request. Servers differ in what they make of an odd one: it is BROKEN.
static __always_inline u32 part_behind(u32 part, u8 byte)
{
    int is_token = byte > ' ' && byte < 0x7f;
    if (part == METHOD)
        return byte >= 'A' && byte <= 'Z' ? METHOD : byte == ' ' ? AIM : BROKEN;
    if (part == AIM)
        return byte == '/' ? REST : BROKEN;
    if (part == RETURN || part == LAST)
        return byte != '\n' ? BROKEN : part == LAST ? WHOLE : BEGIN;
    if (part == BEGIN || part == FIELD) {
        if (part == BEGIN && byte == '\r')
            return LAST;
        return byte == ':' ? (part == FIELD ? VALUE : BROKEN) : is_token ? FIELD : BROKEN;
    }
    if (byte == '\r')
        return RETURN;
    return byte && byte != '\n' ? part : BROKEN;
}

// Returns the length of the name in the value of a Host field, and its place.
static __always_inline u32 find_host(struct __sk_buff *skb, u32 *at, u32 end)
{
    u8 byte;
    if (!*at || end <= *at || bpf_skb_load_bytes(skb, *at, &byte, 1))
        return 0;
    *at += byte == ' ';
    u32 found = end;
#pragma nounroll
    for (u32 i = 1; i <= PORT; i++) {
        if (bpf_skb_load_bytes(skb, end - i, &byte, 1))
            break;
        if (byte == ':')
            found = end - i;
        if (byte < '0' || byte > '9')
            break;
    }
    return found > *at ? found - *at : 0;
}

// Reads a request of HTTP/1.1 to the end of its fields, REQUEST_PART bytes in each call: `cb` has the place, the part of
// the next byte with the number of calls above it, the begin of the line, and the begin and end of the Host field.
int on_request(struct __sk_buff *skb)
{
    u32 at = skb->cb[0], part = skb->cb[1] & 255, calls = skb->cb[1] >> 8;
    u32 line = skb->cb[2], host = skb->cb[3], end = skb->cb[4];
    u64 zero = nothing(skb);
    u8 byte;
#pragma nounroll
    for (u32 i = 0; i < REQUEST_PART; i++) {
        if (bpf_skb_load_bytes(skb, at, &byte, 1)) {
            part = BROKEN;
            break;
        }
        u32 next = part_behind(part, byte);
        if (next == BEGIN)
            line = at + 1;
        if (next == RETURN && part == VALUE && host && !end)
            end = at;
        if (next == VALUE && part == FIELD && is_host(skb, line, at)) {
            if (host)
                next = BROKEN;
            host = at + 1;
        }
        if (next >= WHOLE) {
            part = next;
            break;
        }
        part = forget(next, zero);
        line = forget(line, zero);
        host = forget(host, zero);
        end = forget(end, zero);
        at = forget(at + 1, zero);
    }
    if (part < WHOLE && calls + 1 < REQUEST_PARTS) {
        skb->cb[0] = at;
        skb->cb[1] = part | (calls + 1) << 8;
        skb->cb[2] = line;
        skb->cb[3] = host;
        skb->cb[4] = end;
        requesting.call(skb, 0);
    }
    skb->cb[1] = part == WHOLE ? find_host(skb, &host, end) : 0;
    skb->cb[0] = host;
    judging.call(skb, 0);
    return 0;
}
