// The rules for one cgroup, the addresses that its processes were given, and the functions that both other parts use.
#include <linux/bpf.h>

#define TCP 6
#define UDP 17
#define DNS 53
#define TEXT 256 // bytes of the key of a name

struct address {
    u32 family; // 4 or 6; 4 also for an IPv4-mapped address
    u32 words[4];
};

struct network {
    u32 length; // in bits, with those of the family
    struct address address;
};

struct suffix {
    u32 length; // in bits
    u8 text[TEXT]; // a name in lower case, its last byte first
};

// A resolver in a network namespace, which is known by its cookie.
struct resolver {
    u64 namespace;
    struct address address;
    u32 padding;
};

// The route to a resolver, by its interface, and the sets of resolvers that contain it.
struct route {
    u64 interface, servers;
};

#define TYPES 64 // of questions, as bits of a mask
#define ANSWERED 1 // in place of a type: no question is allowed, and the answers to one that passed once lead somewhere
#define ANY_SERVER 1

// What an allowed name permits: sets of ports, types of questions (bit N is type N), sets of resolvers; sets of ports where
// connections need not state the name.
struct rule {
    u64 sets, types, servers, unchecked;
};

// A socket that asks a configured resolver, the resolver that it asked last, and the process that asked first. Over TCP,
// `begun` is one of `enum stream`, and `next` is the sequence number of the next message, or, if its length has been read,
// of its bytes. `guides` marks a socket of the launcher. `withheld` are the sets of resolvers that lack one that it asked.
enum stream { UNSEEN, FOLLOWED, LOST };
struct asker {
    struct resolver resolver;
    u32 guides, begun, next, length;
    u64 withheld;
    u32 pid, none;
    char comm[16];
};

// An address to which an allowed name led, on these sets of ports; those where connections need not state the name; the
// last question that led there; whether answers that contradict each other did.
struct place {
    u64 sets, unchecked, question, contested;
};

// Addresses; answers; refusals; answers without a question; packets from another interface; addresses of conflicts that
// are forgotten; conflicts; packets with a source route; questions for which the queue of a person had no room.
enum counter { NO_ROOM, NOT_READ, UNLISTED, NOT_ASKED, ELSEWHERE, FORGOTTEN, UNNAMED, ROUTED, QUEUE_FULL, COUNTERS };

// What differs between two starts: the network namespace of the launcher, a number that no command knows, whether
// connections after the end of the launcher and questions about all names are allowed, whether a person is asked, and
// whether stated names are checked.
struct start {
    u64 home, seed;
    u32 afterwards, any_question, asks, checked;
};

// A set of ports is a bit of the masks; bit 0 is the set of all ports. The same holds for sets of resolvers.
BPF_HASH(resolvers, struct resolver, struct route, RESOLVERS);
BPF_HASH(homes, u64, u64, NAMESPACES); // the namespaces with resolvers
BPF_LPM_TRIE(networks, struct network, u64, ENTRIES);
BPF_LPM_TRIE(names, struct suffix, struct rule, ENTRIES);
BPF_ARRAY(ports, u64, 65536);
BPF_HASH(given, struct address, struct place, GIVEN);
BPF_ARRAY(counters, u64, COUNTERS);
BPF_SK_STORAGE(askers, struct asker);
BPF_ARRAY(starts, struct start, 1);

static __always_inline struct start *start(void)
{
    u32 none = 0;
    return starts.lookup(&none);
}

static __always_inline u64 home(void) { struct start *found = start(); return found ? found->home : 0; }
static __always_inline u64 seed(void) { struct start *found = start(); return found ? found->seed : 0; }
static __always_inline int afterwards(void) { struct start *found = start(); return found && found->afterwards; }
static __always_inline int any_question(void) { struct start *found = start(); return found && found->any_question; }
static __always_inline int asks(void) { struct start *found = start(); return found && found->asks; }
static __always_inline int checked(void) { struct start *found = start(); return found && found->checked; }

static __always_inline void count(u32 which)
{
    u64 *value = counters.lookup(&which);
    if (value)
        __sync_fetch_and_add(value, 1);
}

// An IPv4-mapped address reaches an IPv4 host.
static __always_inline void unmap(struct address *address)
{
    u32 *words = address->words;
    if (address->family == 6 && !words[0] && !words[1] && words[2] == bpf_htonl(0xffff)) {
        address->family = 4;
        words[0] = words[3];
        words[2] = words[3] = 0;
    }
}
