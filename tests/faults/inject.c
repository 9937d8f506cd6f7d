/* Loaded before the C library (LD_PRELOAD): system calls of the project's extensions fail when they are told to.
 *
 * It stands before the functions of the C library through which they are made. Nothing of the product is built in another
 * way for it. A call counts where its caller is in an extension of the project: those of the interpreter and of other
 * modules go through. faults_arm sets what the n-th call from now on gives.
 *
 * FAULTS="ERROR FIRST EVERY TIMES FILE" in the environment makes enters fail in a process that does not call faults_arm,
 * and in its children: TIMES of them from FIRST, FIRST + EVERY and so on, each process counts its own, and the number at
 * the beginning of FILE says how many failed. With SHORT only enters of more than one entry are counted. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SHORT = -1 };

enum kind {
    SETUP, ENTER, REGISTER, MMAP, MADVISE, CLOSE,            /* a ring and its memory */
    PREADV2, OPENAT2, HANDLE, STATMOUNT, FSTAT,              /* reads and stats that are answered at once */
    RECV, RECVFROM, SEND, ACCEPT, IOCTL, GETSOCKOPT, FCNTL,  /* attempted calls of sockets */
    KINDS
};

static const char *const names[KINDS] = {
    [SETUP] = "io_uring_setup", [ENTER] = "io_uring_enter", [REGISTER] = "io_uring_register",
    [MMAP] = "mmap", [MADVISE] = "madvise", [CLOSE] = "close",
    [PREADV2] = "preadv2", [OPENAT2] = "openat2", [HANDLE] = "name_to_handle_at", [STATMOUNT] = "statmount",
    [FSTAT] = "fstat", [RECV] = "recv", [RECVFROM] = "recvfrom", [SEND] = "send", [ACCEPT] = "accept4",
    [IOCTL] = "ioctl", [GETSOCKOPT] = "getsockopt", [FCNTL] = "fcntl",
};

static const struct { long number; enum kind kind; } by_number[] = {
    { 425, SETUP }, { 426, ENTER }, { 427, REGISTER }, { SYS_preadv2, PREADV2 }, { 437, OPENAT2 },
    { SYS_name_to_handle_at, HANDLE }, { 457, STATMOUNT }, { SYS_fstat, FSTAT },
};

static struct { long calls, first, last; int error; } faults[KINDS];
static struct { long calls, first, every, times; int error; long *failed; } again;

__attribute__((constructor)) static void read_environment(void)
{
    char name[4096];
    const char *told = getenv("FAULTS");
    if (!told ||
        sscanf(told, "%d %ld %ld %ld %4095s", &again.error, &again.first, &again.every, &again.times, name) != 5)
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

const char *faults_name(int kind) { return kind < KINDS ? names[kind] : NULL; }

/* Whether this enter is one of FAULTS. */
static int comes_again(uint32_t entries)
{
    if (!again.failed || (again.error == SHORT && entries < 2))
        return 0;
    long call = __atomic_add_fetch(&again.calls, 1, __ATOMIC_SEQ_CST) - again.first;
    if (call < 0 || call % again.every >= again.times)
        return 0;
    __atomic_add_fetch(again.failed, 1, __ATOMIC_SEQ_CST);
    return 1;
}

static int is_ours(void *caller)
{
    Dl_info info;
    return dladdr(caller, &info) && info.dli_fname &&
           (strstr(info.dli_fname, "/uring/_") || strstr(info.dli_fname, "/uring_trio/seams/_"));
}

/* Counts a call: the error that it is to have, or 0. */
static int failure(enum kind kind, void *caller)
{
    if (!is_ours(caller))
        return 0;
    long call = __atomic_add_fetch(&faults[kind].calls, 1, __ATOMIC_SEQ_CST);
    return faults[kind].first && call >= faults[kind].first && call <= faults[kind].last ? faults[kind].error : 0;
}

/* The function of this name that comes after this library. */
#define AFTER(name) (*(name##_type *)after(&name##_found, #name))

static void *after(void **found, const char *name)
{
    if (!*found)
        *found = dlsym(RTLD_NEXT, name);
    return *found;
}

#define FAILS(kind)                                            \
    int error = failure(kind, __builtin_return_address(0));    \
    if (error) {                                               \
        errno = error;                                         \
        return -1;                                             \
    }

struct sockaddr;
typedef long syscall_type(long, ...);
typedef void *mmap64_type(void *, size_t, int, int, int, off64_t);
typedef int madvise_type(void *, size_t, int);
typedef int close_type(int);
typedef ssize_t recv_type(int, void *, size_t, int);
typedef ssize_t recvfrom_type(int, void *, size_t, int, struct sockaddr *, unsigned *);
typedef ssize_t send_type(int, const void *, size_t, int);
typedef int accept4_type(int, struct sockaddr *, unsigned *, int);
typedef int ioctl_type(int, unsigned long, ...);
typedef int getsockopt_type(int, int, int, void *, unsigned *);
typedef int fcntl64_type(int, int, ...);

static void *syscall_found, *mmap64_found, *madvise_found, *close_found, *recv_found, *recvfrom_found, *send_found,
    *accept4_found, *ioctl_found, *getsockopt_found, *fcntl64_found;

long syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long), d = va_arg(list, long),
         e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    for (size_t i = 0; i < sizeof by_number / sizeof *by_number; i++) {
        if (by_number[i].number != number)
            continue;
        int error = failure(by_number[i].kind, __builtin_return_address(0));
        if (!error && by_number[i].kind == ENTER && comes_again((uint32_t)b))
            error = again.error;
        if (error && error != SHORT) {
            errno = error;
            return -1;
        }
        if (error && (uint32_t)b > 1) {
            b = 1;
            c = 0; /* a short submission does not wait */
        }
    }
    return AFTER(syscall)(number, a, b, c, d, e, f);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    int error = failure(MMAP, __builtin_return_address(0));
    if (error) {
        errno = error;
        return MAP_FAILED;
    }
    return AFTER(mmap64)(at, size, protection, flags, fd, offset);
}

int madvise(void *at, size_t size, int advice)
{
    FAILS(MADVISE)
    return AFTER(madvise)(at, size, advice);
}

/* As on Linux, a close that fails has closed. */
int close(int fd)
{
    int error = failure(CLOSE, __builtin_return_address(0)), ret = AFTER(close)(fd);
    if (error) {
        errno = error;
        return -1;
    }
    return ret;
}

ssize_t recv(int fd, void *to, size_t size, int flags)
{
    FAILS(RECV)
    return AFTER(recv)(fd, to, size, flags);
}

ssize_t recvfrom(int fd, void *to, size_t size, int flags, struct sockaddr *source, unsigned *length)
{
    FAILS(RECVFROM)
    return AFTER(recvfrom)(fd, to, size, flags, source, length);
}

ssize_t send(int fd, const void *from, size_t size, int flags)
{
    FAILS(SEND)
    return AFTER(send)(fd, from, size, flags);
}

int accept4(int fd, struct sockaddr *source, unsigned *length, int flags)
{
    FAILS(ACCEPT)
    return AFTER(accept4)(fd, source, length, flags);
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    FAILS(IOCTL)
    return AFTER(ioctl)(fd, request, argument);
}

int getsockopt(int fd, int level, int name, void *value, unsigned *length)
{
    FAILS(GETSOCKOPT)
    return AFTER(getsockopt)(fd, level, name, value, length);
}

int fcntl64(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    FAILS(FCNTL)
    return AFTER(fcntl64)(fd, command, argument);
}
