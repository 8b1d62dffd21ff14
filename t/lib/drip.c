/*
 * The hardest network there is, for nginx with `use poll`: of what has come on a TCP or Unix stream a
 * read gets one byte, of what is sent a few are taken, and then neither says more than EAGAIN until
 * poll() has been asked again. A stream that has gone on so for long gets and takes more at a time.
 * Loaded by LD_PRELOAD (tools/test-poll.sh); what OpenSSL reads and writes goes past it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { FDS = 65536, READ = 1, WRITTEN = 7, LONG = 1000, MORE = 65536 };

struct side {
    unsigned last, times; /* the round of its last turn, and how many there were */
};

static unsigned round_now = 1;
static struct side reading[FDS], writing[FDS];


static int is_stream(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);

    return fd >= 0 && fd < FDS && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0
           && type == SOCK_STREAM;
}


/* How many bytes of `size` a descriptor gets in its turn of this round; none if that was had. */
static size_t turn(struct side *side, size_t size, size_t few)
{
    size_t most = side->times < LONG ? few : MORE;

    if (side->last == round_now) {
        errno = EAGAIN;
        return 0;
    }

    side->last = round_now;
    side->times++;
    return size < most ? size : most;
}


int close(int fd)
{
    static int (*real)(int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "close");
    }

    if (fd >= 0 && fd < FDS) {
        memset(&reading[fd], 0, sizeof(reading[fd]));
        memset(&writing[fd], 0, sizeof(writing[fd]));
    }

    return real(fd);
}


int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    static int (*real)(struct pollfd *, nfds_t, int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "poll");
    }

    round_now++;
    return real(fds, n, timeout);
}


ssize_t recv(int fd, void *buf, size_t size, int flags)
{
    static ssize_t (*real)(int, void *, size_t, int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "recv");
    }

    if (size == 0 || !is_stream(fd)) {
        return real(fd, buf, size, flags);
    }

    /* A look takes nothing, and what it saw may be read behind it. */
    struct side looked = reading[fd];
    struct side *side = flags & MSG_PEEK ? &looked : &reading[fd];

    size = turn(side, size, READ);
    return size > 0 ? real(fd, buf, size, flags) : -1;
}


ssize_t send(int fd, const void *buf, size_t size, int flags)
{
    static ssize_t (*real)(int, const void *, size_t, int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "send");
    }

    if (size == 0 || !is_stream(fd)) {
        return real(fd, buf, size, flags);
    }

    size = turn(&writing[fd], size, WRITTEN);
    return size > 0 ? real(fd, buf, size, flags) : -1;
}


ssize_t writev(int fd, const struct iovec *parts, int count)
{
    static ssize_t (*real)(int, const struct iovec *, int);

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "writev");
    }

    if (!is_stream(fd)) {
        return real(fd, parts, count);
    }

    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len > 0) {
            return send(fd, parts[i].iov_base, parts[i].iov_len, MSG_NOSIGNAL);
        }
    }

    return 0;
}
