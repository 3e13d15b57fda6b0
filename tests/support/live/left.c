/* Leaves a call of getaddrinfo by longjmp from an alarm. Then resolves a service without a name, from the same place on
   the stack, and a second name: left FIRST SECOND. */
#include <netdb.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

static sigjmp_buf before;

static void leave(int signal)
{
    siglongjmp(before, signal);
}

static int call(const char *name, const char *service)
{
    struct addrinfo *found = 0;
    return getaddrinfo(name, service, 0, &found);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    signal(SIGALRM, leave);
    if (!sigsetjmp(before, 1)) {
        ualarm(200000, 0);
        call(argv[1], 0);
    }
    return call(0, "80") || call(argv[2], 0);
}
