/* Loaded before the C library (LD_PRELOAD): the three calls on a ring fail when they are told to.
 *
 * The shim makes them through syscall(2) of the C library, which this stands before. Nothing of the product is
 * built in another way for it. faults_arm sets what the n-th call from now on gives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>

enum { SETUP = 425, KINDS = 3, ENTER = 1, SHORT = -1 };

static struct { long calls, first, last; int error; } faults[KINDS];
static long (*real)(long, ...);

/* error: an errno, or -1 for a submission of one entry; the calls first to last (counted from 1) have it. */
void faults_arm(int kind, long first, long last, int error)
{
    faults[kind].calls = 0;
    faults[kind].first = first;
    faults[kind].last = last;
    faults[kind].error = error;
}

long faults_calls(int kind) { return faults[kind].calls; }

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
        if (faults[kind].first && call >= faults[kind].first && call <= faults[kind].last) {
            if (faults[kind].error != SHORT) {
                errno = faults[kind].error;
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
