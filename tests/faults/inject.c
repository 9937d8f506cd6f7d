/* Loaded before the C library (LD_PRELOAD): the three calls on a ring fail when they are told to.
 *
 * The shim makes them through syscall(2) of the C library, which this stands before. Nothing of the product is
 * built in another way for it. faults_arm sets what the n-th call from now on gives.
 *
 * FAULTS="ERROR FIRST EVERY FILE" in the environment does that in a process that does not call faults_arm, and in its
 * children: the enters FIRST, FIRST + EVERY and so on fail, each process counts its own, and the number at the beginning
 * of FILE says how many failed. With SHORT only enters of more than one entry are counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SETUP = 425, KINDS = 3, ENTER = 1, SHORT = -1 };

static struct { long calls, first, last; int error; } faults[KINDS];
static struct { long calls, first, every; int error; long *failed; } again;
static long (*real)(long, ...);

__attribute__((constructor)) static void read_environment(void)
{
    char name[4096];
    const char *told = getenv("FAULTS");
    if (!told || sscanf(told, "%d %ld %ld %4095s", &again.error, &again.first, &again.every, name) != 4)
        return;
    int fd = open(name, O_RDWR | O_CLOEXEC);
    void *shared = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (shared != MAP_FAILED)
        again.failed = shared;
}

/* error: an errno, or -1 for a submission of one entry; the calls first to last (counted from 1) have it. */
void faults_arm(int kind, long first, long last, int error)
{
    faults[kind].calls = 0;
    faults[kind].first = first;
    faults[kind].last = last;
    faults[kind].error = error;
}

long faults_calls(int kind) { return faults[kind].calls; }

/* Whether this enter is one of FAULTS. */
static int comes_again(uint32_t entries)
{
    if (!again.failed || (again.error == SHORT && entries < 2))
        return 0;
    long call = __atomic_add_fetch(&again.calls, 1, __ATOMIC_SEQ_CST) - again.first;
    if (call < 0 || call % again.every)
        return 0;
    __atomic_add_fetch(again.failed, 1, __ATOMIC_SEQ_CST);
    return 1;
}

long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long), d = va_arg(list, long),
         e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long kind = number - SETUP;
    if (kind >= 0 && kind < KINDS) {
        long call = __atomic_add_fetch(&faults[kind].calls, 1, __ATOMIC_SEQ_CST);
        int error = 0;
        if (faults[kind].first && call >= faults[kind].first && call <= faults[kind].last)
            error = faults[kind].error;
        else if (kind == ENTER && comes_again((uint32_t)b))
            error = again.error;
        if (error) {
            if (error != SHORT) {
                errno = error;
                return -1;
            }
            if (kind == ENTER && (uint32_t)b > 1) {
                b = 1;
                c = 0; /* a short submission does not wait */
            }
        }
    }
    return real(number, a, b, c, d, e, f);
}
