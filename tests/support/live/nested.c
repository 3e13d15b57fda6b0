/* An nss module that finds no name, and calls getaddrinfo for another name meanwhile. */
#include <netdb.h>
#include <nss.h>
#include <stddef.h>

enum nss_status _nss_nested_gethostbyname4_r(const char *name, void **tuples, char *buffer, size_t length, int *error,
                                             int *host_error, int *ttl)
{
    struct addrinfo *found = 0;
    getaddrinfo("hidden.test", 0, 0, &found);
    *host_error = HOST_NOT_FOUND;
    return NSS_STATUS_NOTFOUND;
}
