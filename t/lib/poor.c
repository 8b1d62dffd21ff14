/*
 * No memory for anything of 16 KiB and more, while the first byte of the file that STATE names is not 0;
 * the byte behind it says whether a request has failed since. Other processes map that file too. Loaded
 * by LD_PRELOAD (t/operations/no-memory.t).
 */
#define _GNU_SOURCE
#include <errno.h>

#include "state.h"

enum { TOO_MUCH = 16384 };

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);


static int fails(size_t size)
{
    if (state == NULL || state[0] == 0 || size < TOO_MUCH) {
        return 0;
    }

    state[1] = 1;
    errno = ENOMEM;
    return 1;
}


void *malloc(size_t size)
{
    return fails(size) ? NULL : __libc_malloc(size);
}


void *calloc(size_t n, size_t size)
{
    return fails(n * size) ? NULL : __libc_calloc(n, size);
}


void *realloc(void *block, size_t size)
{
    return fails(size) ? NULL : __libc_realloc(block, size);
}


void *memalign(size_t alignment, size_t size)
{
    return fails(size) ? NULL : __libc_memalign(alignment, size);
}


void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}


int posix_memalign(void **block, size_t alignment, size_t size)
{
    *block = memalign(alignment, size);
    return *block ? 0 : ENOMEM;
}
