// Sends the bytes of stdin as one datagram by io_uring. Arguments: an IPv4 address, and a port. Prints the result.
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &end.sin_addr);
    int made = socket(AF_INET, SOCK_DGRAM, 0);
    if (argc < 3 || connect(made, (struct sockaddr *)&end, sizeof(end)))
        return 1;
    static char bytes[4096];
    long size = read(0, bytes, sizeof(bytes));
    struct io_uring_params params = {0};
    int ring = syscall(__NR_io_uring_setup, 4, &params);
    if (ring < 0)
        return 2;
    char *submitted = mmap(0, params.sq_off.array + 4 * sizeof(unsigned), 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
    char *completed = mmap(0, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe), 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_CQ_RING);
    struct io_uring_sqe *entries = mmap(0, params.sq_entries * sizeof(*entries), 3, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);
    entries[0] = (struct io_uring_sqe){.opcode = IORING_OP_SEND, .fd = made, .addr = (unsigned long)bytes, .len = size};
    ((unsigned *)(submitted + params.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(submitted + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(__NR_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1)
        return 3;
    int result = ((struct io_uring_cqe *)(completed + params.cq_off.cqes))[0].res;
    printf("%s\n", result < 0 ? strerror(-result) : "ok");
    return 0;
}
