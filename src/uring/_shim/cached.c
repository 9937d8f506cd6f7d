/* What can be answered at once: reads out of the page cache, names out of the cache of directory entries.
 *
 * Invariants
 *  - Nothing here waits. A read has RWF_NOWAIT; a lookup has RESOLVE_CACHED, with which the kernel gives up where it
 *    would ask the file system; fstat is left to the caller for file systems only that answer it from memory.
 *  - No state but the answers about mounts, each of them one word that is written whole.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "cached.h"

enum {
    NR_OPENAT2 = 437, NR_STATMOUNT = 457,
    NO_SYMLINKS = 0x04, CACHED = 0x20, /* RESOLVE_ */
    HANDLE_MNT_ID_UNIQUE = 1, SB_BASIC = 1,
    MOUNTS = 64,
};

struct how { uint64_t flags, mode, resolve; };
struct handle { uint32_t bytes; int32_t type; };
struct mount_request { uint32_t size, ns_fd; uint64_t mnt_id, param, ns_id; };
struct mount { uint32_t size, opts; uint64_t mask; uint32_t dev_major, dev_minor; uint64_t magic, rest[60]; };
_Static_assert(sizeof(struct mount_request) == 32, "mnt_id_req layout");
_Static_assert(offsetof(struct mount, magic) == 24 && sizeof(struct mount) == 512, "statmount layout");

int ur_read_cached(int fd, uint64_t off, uint64_t addr, uint32_t len)
{
    uint32_t done = 0;
    do {
        struct iovec rest = { (char *)(uintptr_t)addr + done, len - done };
        /* A call that got less may have met the end of the file or a page that is not there: the next one tells. */
        ssize_t n = preadv2(fd, &rest, 1, off == UINT64_MAX ? -1 : (off_t)(off + done), RWF_NOWAIT);
        if (n < 0)
            return done ? -UR_PART - (int)done : -errno;
        if (!n)
            break;
        done += (uint32_t)n;
    } while (done < len);
    return (int)done;
}

int ur_read_cached_many(int fd, uint32_t n, uint64_t *offs, uint64_t *lens, uint64_t addr)
{
    uint32_t i;
    for (i = 0; i < n && offs[i] <= INT64_MAX; i++) { /* -1 would be the file's own position */
        struct iovec piece = { (char *)(uintptr_t)addr, lens[i] };
        if (preadv2(fd, &piece, 1, (off_t)offs[i], RWF_NOWAIT) != (ssize_t)lens[i])
            break;
        addr += lens[i];
    }
    return (int)i;
}

/* Those whose getattr reads fields of the inode in memory and asks nobody. */
static int answers_from_memory(uint64_t magic)
{
    return magic == 0xef53 /* ext2 to ext4 */ || magic == 0x58465342 /* xfs */ || magic == 0x9123683e /* btrfs */ ||
           magic == 0x01021994 /* tmpfs */;
}

int ur_stat_is_local(int fd)
{
    /* Ids of mounts are never used again. Here shifted by one, with the answer in bit 0. */
    static uint64_t known[MOUNTS];
    /* The way to a mount's id on which no file system is asked for attributes: one that has to ask a server may do
     * so in statx, whatever the flags. No room for the handle is what we want: the id comes all the same. */
    struct handle handle = { 0, 0 };
    uint64_t id;
    if (syscall(SYS_name_to_handle_at, fd, "", &handle, &id, AT_EMPTY_PATH | HANDLE_MNT_ID_UNIQUE) < 0 &&
        errno != EOVERFLOW)
        return 0;
    uint64_t *place = &known[id % MOUNTS], entry = __atomic_load_n(place, __ATOMIC_RELAXED);
    if (entry >> 1 == id)
        return (int)(entry & 1);
    struct mount_request req = { .size = sizeof req, .mnt_id = id, .param = SB_BASIC };
    struct mount mount;
    if (syscall(NR_STATMOUNT, &req, &mount, sizeof mount, 0) < 0)
        return 0;
    int local = (mount.mask & SB_BASIC) && answers_from_memory(mount.magic);
    __atomic_store_n(place, id << 1 | (uint64_t)local, __ATOMIC_RELAXED);
    return local;
}

int ur_find_cached(const char *path, int follow)
{
    struct how how = { .flags = O_PATH | O_CLOEXEC, .resolve = CACHED | (follow ? 0 : NO_SYMLINKS) };
    int fd = result(syscall(NR_OPENAT2, AT_FDCWD, path, &how, sizeof how));
    if (fd >= 0 && !ur_stat_is_local(fd)) {
        close(fd);
        return -EAGAIN;
    }
    return fd;
}
