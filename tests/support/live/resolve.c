/* Sends one query to a server and waits for the response, without a resolver library:
   resolve ADDRESS PORT udp|tcp NAME [CGROUP]. With a cgroup, it makes this one, and moves there before.
   Built static, as programs in Go or Rust often are. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static int enter(const char *cgroup)
{
    char file[256];
    snprintf(file, sizeof file, "%s/cgroup.procs", cgroup);
    mkdir(cgroup, 0755);
    int fd = open(file, O_WRONLY);
    return fd >= 0 && write(fd, "0", 1) == 1;
}

static int question(unsigned char *out, const char *name)
{
    unsigned char *at = out + 12;
    memcpy(out, "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
    while (*name) {
        int length = strcspn(name, ".");
        *at++ = length;
        memcpy(at, name, length);
        at += length;
        name += length + (name[length] == '.');
    }
    memcpy(at, "\x00\x00\x01\x00\x01", 5);
    return at + 5 - out;
}

int main(int argc, char **argv)
{
    unsigned char message[600], answer[600];
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = 60};
    if (argc != 5 && argc != 6)
        return 2;
    if (argc == 6 && !enter(argv[5]))
        return 3;
    int is_six = strchr(argv[1], ':') != 0, tcp = !strcmp(argv[3], "tcp");
    six.sin6_port = four.sin_port = htons(atoi(argv[2]));
    inet_pton(is_six ? AF_INET6 : AF_INET, argv[1], is_six ? (void *)&six.sin6_addr : (void *)&four.sin_addr);
    struct sockaddr *to = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    socklen_t size = is_six ? sizeof six : sizeof four;
    int length = question(message + 2, argv[4]);
    message[0] = length >> 8;
    message[1] = length;
    int fd = socket(to->sa_family, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (tcp) {
        if (connect(fd, to, size) || send(fd, message, length + 2, 0) < 0)
            return 1;
    } else if (sendto(fd, message + 2, length, 0, to, size) < 0) {
        return 1;
    }
    int received;
    do /* a socket with a timeout is not waited for again after a stop: signal(7) */
        received = recv(fd, answer, sizeof answer, 0);
    while (received < 0 && errno == EINTR);
    return received > 0 ? 0 : 1;
}
