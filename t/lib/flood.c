/*
 * A peer that sends faster than anybody reads: once a stream has brought a request with "flood" in its
 * first bytes, whatever else is read from it is pings, without end and without a wait. Loaded by
 * LD_PRELOAD (t/operations/flood.t).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { FDS = 65536 };

static char floods[FDS];
static unsigned char place[FDS]; /* within a ping */


int close(int fd)
{
    static int (*real)(int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "close");
    }

    if (fd >= 0 && fd < FDS) {
        floods[fd] = place[fd] = 0;
    }

    return real(fd);
}


/* nginx asks how much there is. */
int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, ...);
    va_list list;
    void *argument;

    va_start(list, request);
    argument = va_arg(list, void *);
    va_end(list);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "ioctl");
    }

    if (request == FIONREAD && fd >= 0 && fd < FDS && floods[fd]) {
        *(int *) argument = 1 << 30;
        return 0;
    }

    return real(fd, request, argument);
}


ssize_t recv(int fd, void *buf, size_t size, int flags)
{
    static const char ping[] = "\x89\x80\0\0\0";    /* masked with zeros, of no payload */
    static ssize_t (*real)(int, void *, size_t, int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "recv");
    }

    if (fd >= 0 && fd < FDS && floods[fd]) {
        for (size_t i = 0; i < size; i++) {
            ((char *) buf)[i] = ping[place[fd]];
            place[fd] = (place[fd] + 1) % sizeof(ping);
        }

        return size;
    }

    ssize_t n = real(fd, buf, size, flags);

    if (n > 0 && fd < FDS && memmem(buf, n < 20 ? n : 20, "flood", 5) != NULL) {
        floods[fd] = 1;
    }

    return n;
}
