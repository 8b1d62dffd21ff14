/*
 * TLS whose reads wait for the kernel to take something, as they do where a peer has asked for an answer
 * to its handshake and reads nothing. In the file that STATE names: after so many reads that go well,
 * so many answer SSL_ERROR_WANT_WRITE, and how many have. Other processes map that file too. Loaded by
 * LD_PRELOAD (t/server/tls-waits.t).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WELL, WANTING, WANTED, BYTES, ERROR_WANT_WRITE = 3 };

static volatile unsigned char *state;
static const void *waits;


__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("STATE");
    int fd = path ? open(path, O_RDWR) : -1;

    if (fd >= 0) {
        void *map = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        state = map == MAP_FAILED ? NULL : map;
        close(fd);
    }
}


int SSL_read(void *ssl, void *buf, int size)
{
    static int (*real)(void *, void *, int);
    int n;

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "SSL_read");
    }

    if (state != NULL && state[WELL] == 0 && state[WANTING] > 0) {
        state[WANTING]--;
        state[WANTED]++;
        waits = ssl;
        return -1;
    }

    waits = NULL;
    n = real(ssl, buf, size);

    if (state != NULL && n > 0 && state[WELL] > 0) {
        state[WELL]--;
    }

    return n;
}


int SSL_get_error(const void *ssl, int n)
{
    static int (*real)(const void *, int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "SSL_get_error");
    }

    return n < 0 && waits == ssl ? ERROR_WANT_WRITE : real(ssl, n);
}
