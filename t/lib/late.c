/*
 * A machine that has run for some days more than it has: as many as the first byte of the file that STATE
 * names says. Other processes map that file too. The time of day stays. Loaded by LD_PRELOAD
 * (t/proxy/weeks.t).
 */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

enum { DAY = 24 * 60 * 60 };


int clock_gettime(clockid_t id, struct timespec *now)
{
    int rc = syscall(SYS_clock_gettime, id, now);

    if (rc == 0 && state != NULL && (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_COARSE)) {
        now->tv_sec += (time_t) state[0] * DAY;
    }

    return rc;
}
