/* Resolves names with getaddrinfo, one for each line of input: getaddrinfo NAME... Prints one line for each result. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
    char line[16], text[64];
    for (int i = 1; i < argc && fgets(line, sizeof line, stdin); i++) {
        struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = 0;
        int error = getaddrinfo(argv[i], 0, &hints, &found);
        printf("%d", error);
        for (struct addrinfo *at = error ? 0 : found; at; at = at->ai_next) {
            void *address = at->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)at->ai_addr)->sin_addr
                                                     : (void *)&((struct sockaddr_in6 *)at->ai_addr)->sin6_addr;
            printf(" %s", inet_ntop(at->ai_family, address, text, sizeof text));
        }
        puts("");
        fflush(stdout);
    }
    return 0;
}
