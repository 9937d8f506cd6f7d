/* The shim: three syscalls, the mappings, entry writing, and "submit, wait, drain" as one call.
 *
 * Invariants
 *  - Only the thread that owns the ring calls the submission and cycle functions (a ring with several
 *    issuers is locked above, in Python).
 *  - sq_tail is ours; the kernel sees it through a store-release after the entry is complete.
 *  - An entry stays in the queue until the kernel's head has passed it: a failed enter loses nothing.
 *  - Structures and numbers are ours, not the installed kernel header's; the assertions below hold them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>
#include <stddef.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ring.h"

_Static_assert(sizeof(struct ur_sqe) == 64, "SQE is 64 bytes");
_Static_assert(offsetof(struct ur_sqe, ioprio) == 2, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, fd) == 4, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, off) == 8, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, addr) == 16, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, len) == 24, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, op_flags) == 28, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, user_data) == 32, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, buf_index) == 40, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, personality) == 42, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, file_index) == 44, "SQE layout");
_Static_assert(offsetof(struct ur_sqe, addr3) == 48, "SQE layout");
_Static_assert(sizeof(struct ur_cqe) == 16, "CQE is 16 bytes");
_Static_assert(sizeof(struct ur_cqe32) == 32, "big CQE is 32 bytes");
_Static_assert(sizeof(struct ur_params) == 120, "io_uring_params is 120 bytes");
_Static_assert(offsetof(struct ur_params, sq_off) == 40, "io_uring_params layout");
_Static_assert(offsetof(struct ur_params, cq_off) == 80, "io_uring_params layout");
_Static_assert(offsetof(struct ur_op, tail) == offsetof(struct ur_op, sqe) + 64, "128-byte entry is contiguous");

enum {
    NR_SETUP = 425, NR_ENTER = 426, NR_REGISTER = 427,

    SETUP_SQPOLL = 1u << 1, SETUP_SQE128 = 1u << 10, SETUP_CQE32 = 1u << 11, SETUP_NO_MMAP = 1u << 14,
    SETUP_REGISTERED_FD_ONLY = 1u << 15, SETUP_NO_SQARRAY = 1u << 16, SETUP_CQE_MIXED = 1u << 18,

    ENTER_GETEVENTS = 1u << 0, ENTER_SQ_WAKEUP = 1u << 1, ENTER_EXT_ARG = 1u << 3, ENTER_REGISTERED_RING = 1u << 4,

    SQ_NEED_WAKEUP = 1u << 0, SQ_CQ_OVERFLOW = 1u << 1, SQ_TASKRUN = 1u << 2,

    CQE_F_MORE = 1u << 1, CQE_F_SKIP = 1u << 5, CQE_F_32 = 1u << 15,

    SQE_IO_LINK = 1u << 2, SQE_IO_HARDLINK = 1u << 3,

    OP_NOP = 0, NOP_INJECT_RESULT = 1,
    REGISTER_PBUF_RING = 22, UNREGISTER_PBUF_RING = 23, REGISTER_PBUF_STATUS = 26, PBUF_RING_MMAP = 1,

    USE_REGISTERED_RING = 1u << 31,

    OFF_SQ_RING = 0, OFF_SQES = 0x10000000,
    /* Volleys in flight at once, and members of one: user_data has ten and twenty bits for them. */
    VOLLEY_SLOTS = 1024, VOLLEY_MEMBERS = 1 << 20,
    /* Bounds the re-entering of one cycle, so that a flood of deferred work cannot starve the caller. */
    DRAIN_ROUNDS = 64,
};

struct getevents_arg { uint64_t sigmask; uint32_t sigmask_sz, min_wait_usec; uint64_t ts; };
struct timespec64 { int64_t sec, nsec; };
struct buf_status { uint32_t group, head, resv[8]; };
struct buf_reg { uint64_t ring_addr; uint32_t ring_entries; uint16_t bgid, flags; uint32_t min_left, resv[5]; };
_Static_assert(sizeof(struct getevents_arg) == 24, "io_uring_getevents_arg is 24 bytes");
_Static_assert(sizeof(struct buf_reg) == 40, "io_uring_buf_reg is 40 bytes");

#define load_acquire(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define store_release(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static int result(long ret) { return ret < 0 ? -errno : (int)ret; }

int ur_register(int fd, uint32_t opcode, void *arg, uint32_t nr_args)
{
    return result(syscall(NR_REGISTER, fd, opcode, arg, nr_args));
}

int ur_enter(struct ur_ring *ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags, void *arg, uint64_t argsz)
{
    __atomic_fetch_add(&ring->enters, 1, __ATOMIC_RELAXED); /* several threads may wait at once */
    int ret = result(syscall(NR_ENTER, ring->enter_fd, to_submit, min_complete, flags | ring->enter_flags, arg, argsz));
    if (ret > 0 && to_submit)
        ring->submitted += (uint32_t)ret;
    return ret;
}

/* On a ring that has no descriptor of its own, fd is an index into the registered ones. */
static int ring_register(struct ur_ring *r, uint32_t opcode, void *arg, uint32_t nr_args)
{
    return ur_register(r->fd, opcode | (r->setup_flags & SETUP_REGISTERED_FD_ONLY ? USE_REGISTERED_RING : 0), arg, nr_args);
}

/* user_data of a volley's member: its number in bits 0 to 19, the volley's place in 20 to 29, a generation in 30
 * to 59, and 1 in bits 60 to 63, which no other user_data has while there are volleys. */
enum { PLACE_SHIFT = 20, GENERATION_SHIFT = 30, MEMBER_SHIFT = 60 };

static inline int is_member(uint64_t user_data) { return user_data >> MEMBER_SHIFT == 1; }

/* ---- counting by user_data ------------------------------------------------------------------- */

/* A completion that another ring sent, or of an entry that completes on failure only: never counted. */
static inline int unowned(uint64_t user_data) { return user_data >> 62 == 3; }

static inline uint32_t ident_home(struct ur_ring *r, uint64_t user_data)
{
    return (uint32_t)((user_data * 0x9e3779b97f4a7c15ull) >> (64 - r->ident_bits));
}

/* The place of user_data, or the free one where it would go: linear probing, at most half full. */
static inline struct ur_ident *ident_find(struct ur_ring *r, uint64_t user_data)
{
    uint32_t mask = (1u << r->ident_bits) - 1, i = ident_home(r, user_data);
    while (r->idents[i].count && r->idents[i].user_data != user_data)
        i = (i + 1) & mask;
    return &r->idents[i];
}

static int ident_grow(struct ur_ring *r)
{
    struct ur_ident *old = r->idents, *grown = calloc(2ull << r->ident_bits, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    uint32_t n = 1u << r->ident_bits;
    r->idents = grown;
    r->ident_bits++;
    for (uint32_t i = 0; i < n; i++)
        if (old[i].count)
            *ident_find(r, old[i].user_data) = old[i];
    free(old);
    return 0;
}

static void ident_remove(struct ur_ring *r, struct ur_ident *gone)
{
    uint32_t mask = (1u << r->ident_bits) - 1, i = (uint32_t)(gone - r->idents);
    r->idents[i].count = 0;
    r->ident_used--;
    r->lookalikes -= is_member(gone->user_data);
    /* Whoever was pushed past the place that is free now moves into it. */
    for (uint32_t j = (i + 1) & mask; r->idents[j].count; j = (j + 1) & mask) {
        if (((j - ident_home(r, r->idents[j].user_data)) & mask) >= ((j - i) & mask)) {
            r->idents[i] = r->idents[j];
            r->idents[j].count = 0;
            i = j;
        }
    }
}

/* Before an entry is written: 0, or -ENOMEM or -EEXIST with nothing changed. */
static inline int note(struct ur_ring *r, uint64_t user_data)
{
    if (!r->idents || unowned(user_data))
        return 0;
    if (is_member(user_data) && r->volleys_live)
        return -EEXIST;
    if (2 * (r->ident_used + 1) > 1u << r->ident_bits) {
        int err = ident_grow(r);
        if (err)
            return err;
    }
    struct ur_ident *ident = ident_find(r, user_data);
    if (!ident->count) {
        ident->user_data = user_data;
        r->ident_used++;
        r->lookalikes += is_member(user_data);
        ident->total = 0;
    }
    ident->count++;
    ident->total++;
    return 0;
}

int ur_track(struct ur_ring *r)
{
    r->ident_bits = 8;
    r->idents = calloc(1u << r->ident_bits, sizeof *r->idents);
    r->ended = calloc(r->out_cap, sizeof *r->ended);
    if (r->idents && r->ended)
        return 0;
    free(r->idents);
    free(r->ended);
    r->idents = NULL;
    r->ended = NULL;
    return -ENOMEM;
}

int ur_count(struct ur_ring *r, uint64_t user_data)
{
    return r->fd < 0 ? -EBADF : r->idents ? (int)ident_find(r, user_data)->count : 0;
}

/* An operation that was counted under this value has ended under another one, which a poll's can be changed to:
 * 1 if it was the last under the value. */
int ur_settle(struct ur_ring *r, uint64_t user_data)
{
    if (r->fd < 0)
        return -EBADF;
    struct ur_ident *ident = r->idents ? ident_find(r, user_data) : NULL;
    if (!ident || !ident->count)
        return 0;
    r->inflight--;
    if (--ident->count)
        return 0;
    ident_remove(r, ident);
    return 1;
}

int ur_total(struct ur_ring *r, uint64_t user_data)
{
    if (r->fd < 0)
        return -EBADF;
    struct ur_ident *ident = r->idents ? ident_find(r, user_data) : NULL;
    return ident && ident->count ? (int)ident->total : 0;
}

int ur_any(struct ur_ring *r, uint32_t n, const uint64_t *pairs)
{
    if (r->fd < 0)
        return -EBADF;
    for (uint32_t i = 0; r->idents && i < n; i++)
        if (ident_find(r, pairs[2 * i + 1])->count)
            return 1;
    return 0;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

static void wire(struct ur_ring *r, const struct ur_params *p)
{
    uint8_t *base = r->ring_map;
    r->sq_head = (uint32_t *)(base + p->sq_off.head);
    r->sq_ktail = (uint32_t *)(base + p->sq_off.tail);
    r->sq_flags = (uint32_t *)(base + p->sq_off.flags);
    r->sq_dropped = (uint32_t *)(base + p->sq_off.dropped);
    r->cq_head = (uint32_t *)(base + p->cq_off.head);
    r->cq_tail = (uint32_t *)(base + p->cq_off.tail);
    r->cq_flags = (uint32_t *)(base + p->cq_off.flags);
    r->cq_overflow = (uint32_t *)(base + p->cq_off.overflow);
    r->cqes = base + p->cq_off.cqes;
    r->sqes = r->sqe_map;
    r->sq_entries = p->sq_entries;
    r->sq_mask = p->sq_entries - 1;
    r->cq_entries = p->cq_entries;
    r->cq_mask = p->cq_entries - 1;
    r->sq_tail = *r->sq_ktail;
    if (!(r->setup_flags & SETUP_NO_SQARRAY)) {
        /* After a resize the kernel leaves sq_off.array empty: it follows the completions, aligned to 64. */
        uint64_t after = ((uint64_t)p->cq_off.cqes + (uint64_t)p->cq_entries * r->cqe_size + 63) & ~63ull;
        uint32_t *array = (uint32_t *)(base + (p->sq_off.array ? p->sq_off.array : after));
        for (uint32_t i = 0; i < p->sq_entries; i++)
            array[i] = i;
    }
}

static int map_queues(struct ur_ring *r, const struct ur_params *p)
{
    uint64_t cq_end = p->cq_off.cqes + (uint64_t)p->cq_entries * r->cqe_size;
    uint64_t array_end = 0;
    if (!(r->setup_flags & SETUP_NO_SQARRAY))
        array_end = (p->sq_off.array ? p->sq_off.array : ((cq_end + 63) & ~63ull)) + 4ull * p->sq_entries;
    r->ring_len = array_end > cq_end ? array_end : cq_end;
    r->sqe_len = (uint64_t)p->sq_entries * r->sqe_size;
    r->ring_map = mmap(NULL, r->ring_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, OFF_SQ_RING);
    if (r->ring_map == MAP_FAILED) {
        r->ring_map = NULL;
        return -errno;
    }
    r->sqe_map = mmap(NULL, r->sqe_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd, OFF_SQES);
    if (r->sqe_map == MAP_FAILED) {
        int err = errno;
        munmap(r->ring_map, r->ring_len);
        r->ring_map = r->sqe_map = NULL;
        return -err;
    }
    r->maps_owned = 1;
    madvise(r->ring_map, r->ring_len, MADV_DONTFORK);
    madvise(r->sqe_map, r->sqe_len, MADV_DONTFORK);
    return 0;
}

/* Memory for NO_MMAP: the kernel wants page-aligned addresses and at most what the entries need. */
static int give_memory(struct ur_ring *r, uint32_t entries, struct ur_params *p)
{
    uint64_t sq = 1, cq;
    while (sq < entries)
        sq <<= 1;
    cq = 2 * sq;
    if (p->cq_entries > cq)
        for (cq = sq; cq < p->cq_entries;)
            cq <<= 1;
    r->sqe_len = (sq * r->sqe_size + 4095) & ~4095ull;
    r->ring_len = (4096 + cq * r->cqe_size + 4 * sq + 4095) & ~4095ull;
    r->sqe_map = mmap(NULL, r->sqe_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    r->ring_map = mmap(NULL, r->ring_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (r->sqe_map == MAP_FAILED || r->ring_map == MAP_FAILED)
        return -ENOMEM;
    r->maps_owned = 1;
    madvise(r->ring_map, r->ring_len, MADV_DONTFORK);
    madvise(r->sqe_map, r->sqe_len, MADV_DONTFORK);
    p->sq_off.user_addr = (uintptr_t)r->sqe_map;
    p->cq_off.user_addr = (uintptr_t)r->ring_map;
    return 0;
}

static void unmap(struct ur_ring *r)
{
    if (r->maps_owned && r->ring_map && r->ring_map != MAP_FAILED)
        munmap(r->ring_map, r->ring_len);
    if (r->maps_owned && r->sqe_map && r->sqe_map != MAP_FAILED)
        munmap(r->sqe_map, r->sqe_len);
    r->ring_map = r->sqe_map = NULL;
}

int ur_open(struct ur_ring *r, uint32_t entries, struct ur_params *p, uint32_t out_cap)
{
    memset(r, 0, sizeof *r);
    r->fd = r->enter_fd = -1;
    r->setup_flags = p->flags;
    r->sqe_size = p->flags & SETUP_SQE128 ? 128 : 64;
    r->cqe_size = p->flags & SETUP_CQE32 ? 32 : 16;
    r->out_size = p->flags & (SETUP_CQE32 | SETUP_CQE_MIXED) ? 32 : 16;
    int err = 0;
    if (p->flags & SETUP_NO_MMAP)
        err = give_memory(r, entries, p);
    if (!err) {
        r->fd = r->enter_fd = result(syscall(NR_SETUP, entries, p));
        if (r->fd < 0)
            err = r->fd;
    }
    if (!err) {
        if (p->flags & SETUP_REGISTERED_FD_ONLY)
            r->enter_flags = ENTER_REGISTERED_RING;
        if (!(p->flags & SETUP_NO_MMAP))
            err = map_queues(r, p);
    }
    if (!err) {
        r->features = p->features;
        wire(r, p);
        r->out_cap = out_cap ? out_cap : r->cq_entries;
        r->out = malloc((size_t)r->out_cap * r->out_size);
        if (!r->out)
            err = -ENOMEM;
    }
    if (err) {
        unmap(r);
        if (r->fd >= 0 && !(p->flags & SETUP_REGISTERED_FD_ONLY))
            close(r->fd);
        r->fd = r->enter_fd = -1;
    }
    return err;
}

int ur_show(struct ur_ring *r)
{
    if (r->fd < 0)
        return -EBADF;
    store_release(r->sq_ktail, r->sq_tail);
    return 0;
}

/* After REGISTER_RESIZE_RINGS: the old mapping is stale memory, map the new one. */
int ur_remap(struct ur_ring *r, struct ur_params *p)
{
    unmap(r);
    int err = map_queues(r, p);
    if (err)
        return err;
    wire(r, p);
    if (r->out_cap < r->cq_entries) {
        uint8_t *out = realloc(r->out, (size_t)r->cq_entries * r->out_size);
        if (!out)
            return -ENOMEM;
        r->out = out;
        if (r->ended) {
            uint64_t *ended = realloc(r->ended, (size_t)r->cq_entries * sizeof *ended);
            if (!ended)
                return -ENOMEM;
            r->ended = ended;
        }
        r->out_cap = r->cq_entries;
    }
    return 0;
}

int ur_close(struct ur_ring *r)
{
    if (r->fd < 0)
        return 0;
    int fd = r->fd, ret = 0;
    r->fd = r->enter_fd = -1;
    unmap(r);
    if (r->setup_flags & SETUP_REGISTERED_FD_ONLY) {
        struct { uint32_t offset, resv; uint64_t data; } slot = { (uint32_t)fd, 0, 0 };
        ret = ur_register(fd, 21u | USE_REGISTERED_RING, &slot, 1);
    } else if (close(fd) < 0) {
        ret = -errno;
    }
    free(r->out);
    free(r->idents);
    free(r->ended);
    r->out = NULL;
    r->idents = NULL;
    r->ended = NULL;
    free(r->volleys);
    r->volleys = NULL;
    r->volley_slots = 0;
    return ret < 0 ? ret : 0;
}

/* In a forked child: the mappings are not there (MADV_DONTFORK) and the ring is the parent's. */
int ur_forked(struct ur_ring *r)
{
    if (r->fd >= 0 && !(r->setup_flags & SETUP_REGISTERED_FD_ONLY))
        close(r->fd);
    r->fd = r->enter_fd = -1;
    r->ring_map = r->sqe_map = NULL;
    return 0;
}

/* ---- submission ------------------------------------------------------------------------------ */

static inline uint32_t unsubmitted(struct ur_ring *r) { return r->sq_tail - load_acquire(r->sq_head); }

int ur_ready(struct ur_ring *r) { return r->fd < 0 ? -EBADF : (int)(load_acquire(r->cq_tail) - *r->cq_head); }

int ur_pending(struct ur_ring *r) { return r->fd < 0 ? -EBADF : (int)unsubmitted(r); }

int ur_space(struct ur_ring *r) { return r->fd < 0 ? -EBADF : (int)(r->sq_entries - unsubmitted(r)); }

/* Hands everything queued to the kernel without waiting. run_work also runs deferred completions, which
 * is what makes the kernel drop the file of a cancelled operation. */
int ur_flush(struct ur_ring *r, int run_work)
{
    if (r->fd < 0)
        return -EBADF;
    uint32_t n = unsubmitted(r), flags = run_work ? ENTER_GETEVENTS : 0;
    store_release(r->sq_ktail, r->sq_tail);
    if (r->setup_flags & SETUP_SQPOLL) {
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (load_acquire(r->sq_flags) & SQ_NEED_WAKEUP)
            flags |= ENTER_SQ_WAKEUP;
        return flags ? ur_enter(r, n, 0, flags, NULL, 0) : 0;
    }
    if (!n && !run_work)
        return 0;
    int ret = ur_enter(r, n, 0, flags, NULL, 0);
    for (int rounds = 0; run_work && rounds < DRAIN_ROUNDS && (load_acquire(r->sq_flags) & SQ_TASKRUN); rounds++)
        if (ur_enter(r, 0, 0, ENTER_GETEVENTS, NULL, 0) < 0)
            break;
    return ret;
}

/* Makes room for n entries: 0, or -EBUSY with nothing changed but what the kernel took. */
static int reserve(struct ur_ring *r, uint32_t n)
{
    if (r->fd < 0)
        return -EBADF;
    if (unsubmitted(r) + n <= r->sq_entries)
        return 0;
    if (n > r->sq_entries)
        return -EBUSY;
    ur_flush(r, 0);
    return unsubmitted(r) + n <= r->sq_entries ? 0 : -EBUSY;
}

static inline uint8_t *slot(struct ur_ring *r, uint32_t index)
{
    return r->sqes + (size_t)(index & r->sq_mask) * r->sqe_size;
}

/* A chain is shown to the kernel when its last entry is written, or with whatever flushes it: the thread of
 * SQPOLL would take it apart. */
static inline int publish(struct ur_ring *r, uint32_t n, uint32_t counted)
{
    r->sq_tail += n;
    r->inflight += counted;
    if (((struct ur_sqe *)slot(r, r->sq_tail - 1))->flags & (SQE_IO_LINK | SQE_IO_HARDLINK))
        return 0;
    store_release(r->sq_ktail, r->sq_tail);
    if (r->eager)
        ur_flush(r, 0);
    return 0;
}

int ur_queue(struct ur_op *op)
{
    struct ur_ring *r = op->ring;
    int err = reserve(r, 1);
    if (!err)
        err = note(r, op->sqe.user_data);
    if (err)
        return err;
    memcpy(slot(r, r->sq_tail), &op->sqe, r->sqe_size);
    return publish(r, 1, !unowned(op->sqe.user_data));
}

/* Queues a read or write that differs from the last one queued with this template in these fields alone. */
int ur_queue_at(struct ur_op *op, int opcode, int fd, uint64_t off, uint64_t addr, uint32_t len)
{
    op->sqe.opcode = (uint8_t)opcode;
    op->sqe.fd = fd;
    op->sqe.off = off;
    op->sqe.addr = addr;
    op->sqe.len = len;
    return ur_queue(op);
}

int ur_queue_pair(struct ur_op *first, struct ur_op *second)
{
    struct ur_ring *r = first->ring;
    int err = reserve(r, 2);
    if (!err)
        err = note(r, first->sqe.user_data);
    if (!err)
        err = note(r, second->sqe.user_data);
    if (err)
        return err;
    uint8_t *at = slot(r, r->sq_tail);
    memcpy(at, &first->sqe, r->sqe_size);
    ((struct ur_sqe *)at)->flags |= SQE_IO_LINK;
    memcpy(slot(r, r->sq_tail + 1), &second->sqe, r->sqe_size);
    return publish(r, 2, 2 - unowned(first->sqe.user_data) - unowned(second->sqe.user_data));
}

static inline struct ur_sqe make_sqe(uint64_t user_data, int opcode, int64_t flags, int fd, uint64_t off,
                                     uint64_t addr, uint32_t len, uint32_t op_flags, int buf_index, int file_index,
                                     uint64_t addr3)
{
    return (struct ur_sqe){
        .opcode = (uint8_t)opcode, .flags = (uint8_t)flags, .ioprio = (uint16_t)(flags >> 8), .fd = fd, .off = off,
        .addr = addr, .len = len, .op_flags = op_flags, .user_data = user_data, .buf_index = (uint16_t)buf_index,
        .personality = (uint16_t)(flags >> 24), .file_index = file_index, .addr3 = addr3,
    };
}

int ur_put(struct ur_ring *r, uint64_t user_data, int opcode, int64_t flags, int fd, uint64_t off, uint64_t addr,
           uint32_t len, uint32_t op_flags, int buf_index, int file_index, uint64_t addr3)
{
    int err = reserve(r, 1);
    if (!err)
        err = note(r, user_data);
    if (err)
        return err;
    uint8_t *at = slot(r, r->sq_tail);
    if (r->sqe_size == 128)
        memset(at + 64, 0, 64);
    *(struct ur_sqe *)at =
        make_sqe(user_data, opcode, flags, fd, off, addr, len, op_flags, buf_index, file_index, addr3);
    return publish(r, 1, !unowned(user_data));
}

/* An entry written before, at the address of 128 bytes. */
int ur_put_packed(struct ur_ring *r, uint64_t user_data, uint64_t entry)
{
    int err = reserve(r, 1);
    if (!err)
        err = note(r, user_data);
    if (err)
        return err;
    uint8_t *at = slot(r, r->sq_tail);
    memcpy(at, (const void *)(uintptr_t)entry, r->sqe_size);
    ((struct ur_sqe *)at)->user_data = user_data;
    return publish(r, 1, !unowned(user_data));
}

/* n pairs of an entry's address and a value: how many were queued. The queue is flushed as it fills up. */
int ur_put_many(struct ur_ring *r, uint32_t n, const uint64_t *pairs)
{
    for (uint32_t i = 0; i < n; i++)
        if (ur_put_packed(r, pairs[2 * i + 1], pairs[2 * i]) < 0)
            return (int)i;
    return (int)n;
}

int ur_prepare(struct ur_op *op, struct ur_ring *r, uint64_t user_data, int opcode, int64_t flags, int fd,
               uint64_t off, uint64_t addr, uint32_t len, uint32_t op_flags, int buf_index, int file_index,
               uint64_t addr3)
{
    op->ring = r;
    op->sqe = make_sqe(user_data, opcode, flags, fd, off, addr, len, op_flags, buf_index, file_index, addr3);
    return 0;
}

static inline void make_cancelled(struct ur_sqe *sqe)
{
    *sqe = (struct ur_sqe){ .opcode = OP_NOP, .len = (uint32_t)-ECANCELED, .op_flags = NOP_INJECT_RESULT,
                            .user_data = sqe->user_data };
}

/* Turns an entry that the kernel has not seen into a NOP that completes with -ECANCELED; a timeout linked
 * to it goes the same way. 1 if it was found, 0 if the kernel has it already. */
int ur_unqueue(struct ur_ring *r, uint64_t user_data)
{
    if (r->fd < 0)
        return -EBADF;
    if (r->setup_flags & SETUP_SQPOLL)
        return 0;
    for (uint32_t i = load_acquire(r->sq_head); i != r->sq_tail; i++) {
        struct ur_sqe *sqe = (struct ur_sqe *)slot(r, i);
        if (sqe->user_data != user_data)
            continue;
        int linked = sqe->flags & (SQE_IO_LINK | SQE_IO_HARDLINK);
        for (;;) {
            make_cancelled(sqe);
            if (!linked || ++i == r->sq_tail)
                break;
            sqe = (struct ur_sqe *)slot(r, i);
            linked = sqe->flags & (SQE_IO_LINK | SQE_IO_HARDLINK);
        }
        return 1;
    }
    return 0;
}

/* ---- volleys --------------------------------------------------------------------------------- */

static int enter_volley(struct ur_volley *b)
{
    struct ur_ring *r = b->ring;
    uint32_t place = 0;
    if (r->idents && (r->lookalikes || is_member(b->user_data)))
        return -EEXIST;
    while (place < r->volley_slots && r->volleys[place])
        place++;
    if (place == r->volley_slots) {
        uint32_t slots = r->volley_slots ? 2 * r->volley_slots : 16;
        struct ur_volley **volleys = slots > VOLLEY_SLOTS ? NULL : realloc(r->volleys, slots * sizeof *volleys);
        if (!volleys)
            return -EBUSY;
        memset(volleys + r->volley_slots, 0, (slots - r->volley_slots) * sizeof *volleys);
        r->volleys = volleys;
        r->volley_slots = slots;
    }
    int err = note(r, b->user_data);
    if (err)
        return err;
    r->volleys[place] = b;
    r->volleys_live++;
    b->place = place;
    b->left = b->count;
    b->tag = 1ull << MEMBER_SHIFT | (uint64_t)(r->volley_generation++ & 0x3fffffff) << GENERATION_SHIFT |
             (uint64_t)place << PLACE_SHIFT;
    for (uint32_t i = 0; i < b->count; i++)
        b->results[i] = INT32_MIN;
    return 0;
}

/* Makes every member the same request but for offset, address and length, which come in that order. */
int ur_volley_fill(struct ur_volley *b, int opcode, int fd, uint32_t op_flags, uint64_t *triples)
{
    for (uint32_t i = 0; i < b->count; i++, triples += 3)
        b->sqes[i] = (struct ur_sqe){ .opcode = (uint8_t)opcode, .fd = fd, .op_flags = op_flags, .off = triples[0],
                                      .addr = triples[1], .len = (uint32_t)triples[2] };
    return 0;
}

int ur_volley_queue(struct ur_volley *b)
{
    struct ur_ring *r = b->ring;
    if (!b->count || b->count > VOLLEY_MEMBERS)
        return -EINVAL;
    if (r->fd < 0)
        return -EBADF;
    int err = b->tag ? 0 : enter_volley(b);
    while (!err && b->queued < b->count) {
        err = reserve(r, 1);
        if (err)
            break;
        uint8_t *at = slot(r, r->sq_tail);
        if (r->sqe_size == 128)
            memset(at + 64, 0, 64);
        struct ur_sqe *sqe = (struct ur_sqe *)at;
        *sqe = b->sqes[b->queued];
        sqe->user_data = b->tag | b->queued++;
        r->sq_tail++;
        r->inflight++;
        store_release(r->sq_ktail, r->sq_tail);
    }
    if (r->eager)
        ur_flush(r, 0);
    return err;
}

/* Counts the members taken back; those never queued complete at once in the same way. */
int ur_volley_unqueue(struct ur_volley *b)
{
    struct ur_ring *r = b->ring;
    int found = 0;
    if (r->fd < 0)
        return -EBADF;
    if (r->setup_flags & SETUP_SQPOLL)
        return 0;
    for (uint32_t i = load_acquire(r->sq_head); i != r->sq_tail; i++) {
        struct ur_sqe *sqe = (struct ur_sqe *)slot(r, i);
        if (is_member(sqe->user_data) && sqe->user_data >> PLACE_SHIFT == b->tag >> PLACE_SHIFT) {
            make_cancelled(sqe);
            found++;
        }
    }
    return found;
}

/* The volley in flight that a completion belongs to, or NULL. */
static inline struct ur_volley *volley_of(struct ur_ring *r, uint64_t user_data)
{
    uint32_t place = user_data >> PLACE_SHIFT & (VOLLEY_SLOTS - 1);
    struct ur_volley *b = is_member(user_data) && place < r->volley_slots ? r->volleys[place] : NULL;
    if (!b || user_data >> PLACE_SHIFT != b->tag >> PLACE_SHIFT || (user_data & (VOLLEY_MEMBERS - 1)) >= b->count)
        return NULL;
    return b;
}

/* ---- completion ------------------------------------------------------------------------------ */

/* One operation less in flight under a value: 0 when there was none. */
static inline int discount(struct ur_ring *r, uint64_t user_data, int more)
{
    struct ur_ident *ident = ident_find(r, user_data);
    if (!ident->count)
        return 0;
    if (!more && !--ident->count) {
        ident_remove(r, ident);
        r->ended[r->ended_count++] = user_data;
    }
    return 1;
}

static inline void account(struct ur_ring *r, const struct ur_cqe *cqe)
{
    int more = (cqe->flags & CQE_F_MORE) != 0;
    if (unowned(cqe->user_data))
        return;
    if (r->idents && !discount(r, cqe->user_data, more)) {
        r->strays++;
        return;
    }
    r->inflight -= !more;
}

/* Takes a member's completion. The last one of its volley turns into the volley's own, to be handed out: 0. */
static int absorb(struct ur_ring *r, struct ur_volley *b, struct ur_cqe *cqe)
{
    int32_t *res = &b->results[cqe->user_data & (VOLLEY_MEMBERS - 1)];
    if (*res == INT32_MIN) /* the first one of a zero-copy send says how it went */
        *res = cqe->res;
    if (cqe->flags & CQE_F_MORE)
        return 1;
    r->inflight--;
    if (--b->left)
        return 1;
    r->volleys[b->place] = NULL;
    r->volleys_live--;
    b->tag = 0;
    b->queued = 0;
    *cqe = (struct ur_cqe){ .user_data = b->user_data };
    if (r->idents && !unowned(b->user_data))
        discount(r, b->user_data, 0);
    return 0;
}

/* Accounts for a completion in ring->out: 1 when it is to be handed out. */
static inline int taken_in(struct ur_ring *r, struct ur_cqe *cqe)
{
    struct ur_volley *b = volley_of(r, cqe->user_data);
    if (b)
        return !absorb(r, b, cqe);
    account(r, cqe);
    return 1;
}

/* Moves completions behind the first n of ring->out; returns the new n. */
static uint32_t drain(struct ur_ring *r, uint32_t n)
{
    uint32_t head = *r->cq_head, tail = load_acquire(r->cq_tail), taken = 0;
    if (head == tail)
        return n;
    if (r->out_size == 16) {
        while (head != tail && n < r->out_cap) {
            uint32_t at = head & r->cq_mask, run = r->cq_entries - at;
            if (run > tail - head)
                run = tail - head;
            if (run > r->out_cap - n)
                run = r->out_cap - n;
            for (uint32_t i = 0; i < run; i++) {
                struct ur_cqe *cqe = (struct ur_cqe *)r->out + n;
                *cqe = ((struct ur_cqe *)r->cqes)[at + i];
                n += taken_in(r, cqe);
            }
            taken += run;
            head += run;
        }
    } else {
        while (head != tail && n < r->out_cap) {
            uint8_t *cqe = r->cqes + (size_t)(head & r->cq_mask) * r->cqe_size;
            uint32_t flags = ((struct ur_cqe *)cqe)->flags;
            int big = r->cqe_size == 32 || (flags & CQE_F_32);
            head += r->cqe_size == 16 && big ? 2 : 1;
            if (r->cqe_size == 16 && (flags & CQE_F_SKIP))
                continue;
            uint8_t *to = r->out + (size_t)n * 32;
            memcpy(to, cqe, big ? 32 : 16);
            if (!big)
                memset(to + 16, 0, 16);
            taken++;
            n += taken_in(r, (struct ur_cqe *)to);
        }
    }
    store_release(r->cq_head, head);
    r->reaped += taken;
    return n;
}

/* 1 when ur_cycle(ring, 0) would find nothing to do. */
int ur_idle(struct ur_ring *r)
{
    if (r->fd < 0)
        return -EBADF;
    return !unsubmitted(r) && *r->cq_head == load_acquire(r->cq_tail) &&
           !(load_acquire(r->sq_flags) & (SQ_TASKRUN | SQ_CQ_OVERFLOW));
}

static int enter_and_wait(struct ur_ring *r, uint32_t to_submit, uint32_t flags, double timeout)
{
    struct timespec64 ts;
    struct getevents_arg arg = { .ts = (uintptr_t)&ts };
    if (timeout < 0)
        return ur_enter(r, to_submit, 1, flags, NULL, 0);
    ts.sec = (int64_t)timeout;
    ts.nsec = (int64_t)((timeout - (double)ts.sec) * 1e9);
    return ur_enter(r, to_submit, 1, flags | ENTER_EXT_ARG, &arg, sizeof arg);
}

/* Waits until there is a completion to take, and takes none: the part of a cycle that needs no lock. */
int ur_wait(struct ur_ring *r, double timeout)
{
    if (r->fd < 0)
        return -EBADF;
    if (*(volatile uint32_t *)r->cq_head != load_acquire(r->cq_tail))
        return 0;
    return enter_and_wait(r, 0, ENTER_GETEVENTS, timeout);
}

int ur_cycle(struct ur_ring *r, double timeout)
{
    if (r->fd < 0)
        return -EBADF;
    r->ended_count = 0;
    uint32_t n = 0, to_submit = unsubmitted(r), sq_flags;
    store_release(r->sq_ktail, r->sq_tail);
    int ready = *r->cq_head != load_acquire(r->cq_tail), ret = 0;

    if (!to_submit && (ready || timeout == 0) && !(load_acquire(r->sq_flags) & (SQ_TASKRUN | SQ_CQ_OVERFLOW))) {
        if (!ready)
            return 0; /* nothing to submit and nothing to reap: no syscall */
    } else {
        uint32_t flags = ENTER_GETEVENTS;
        if (load_acquire(r->sq_flags) & SQ_CQ_OVERFLOW)
            r->overflows++;
        if (r->setup_flags & SETUP_SQPOLL) {
            __atomic_thread_fence(__ATOMIC_SEQ_CST);
            if (load_acquire(r->sq_flags) & SQ_NEED_WAKEUP)
                flags |= ENTER_SQ_WAKEUP;
            else
                to_submit = 0;
        }
        if (ready || timeout == 0) {
            ret = ur_enter(r, to_submit, 0, flags, NULL, 0);
        } else {
            ret = enter_and_wait(r, to_submit, flags, timeout);
        }
    }
    n = drain(r, 0);
    /* One enter runs at most about twenty deferred completions: go on until dry. */
    for (int rounds = 0; rounds < DRAIN_ROUNDS && n < r->out_cap; rounds++) {
        sq_flags = load_acquire(r->sq_flags);
        if (!(sq_flags & (SQ_TASKRUN | SQ_CQ_OVERFLOW)))
            break;
        if (sq_flags & SQ_CQ_OVERFLOW)
            r->overflows++;
        if (ur_enter(r, 0, 0, ENTER_GETEVENTS, NULL, 0) < 0)
            break;
        n = drain(r, n);
    }
    if (n)
        return (int)n;
    return ret < 0 && ret != -ETIME ? ret : 0;
}

int ur_poll(struct ur_ring *r) { return ur_cycle(r, 0); }

/* ---- provided buffers ------------------------------------------------------------------------ */

int ur_buffers_publish(struct ur_buffers *b, int bid, uint64_t addr, uint32_t len)
{
    if (!b->entries || b->ring->fd < 0)
        return -EBADF;
    if (bid < 0 || (uint32_t)bid >= b->bids)
        return -EINVAL;
    uint64_t *entry = b->entries + 2 * (size_t)(b->tail & b->mask);
    entry[0] = addr;
    /* Bytes 14 and 15 of entry 0 are the ring's tail: write len and bid, never all sixteen bytes. */
    ((uint32_t *)entry)[2] = len;
    ((uint16_t *)entry)[6] = (uint16_t)bid;
    b->places[(uint16_t)bid] = b->tail;
    b->tail++;
    store_release((uint16_t *)((uint8_t *)b->entries + 14), b->tail);
    return 0;
}

/* The buffer that the kernel takes n buffers after this one: whoever fills the ring decides the order. */
int ur_buffers_after(struct ur_buffers *b, int bid, uint32_t n)
{
    if (!b->entries || bid < 0 || (uint32_t)bid >= b->bids)
        return -EINVAL;
    uint64_t *entry = b->entries + 2 * (size_t)((b->places[bid] + n) & b->mask);
    return ((uint16_t *)entry)[6];
}

int ur_buffers_put(struct ur_buffers *b, int bid)
{
    if (!b->entries)
        return -EBADF;
    if ((uint32_t)bid >= b->count || !b->memory)
        return -EINVAL;
    return ur_buffers_publish(b, bid, (uintptr_t)b->memory + (uint64_t)bid * b->size, (uint32_t)b->size);
}

/* Takes back up to most buffers, those that the kernel would use last: how many. The kernel looks at the ring as
 * it receives, so nothing may receive now, as between two enters of a ring with deferred work.
 * ur_buffers_withdrawn names them. */
int ur_buffers_withdraw(struct ur_buffers *b, uint32_t most)
{
    if (!b->entries || b->ring->fd < 0)
        return -EBADF;
    struct buf_status status = { .group = b->group };
    int err = ring_register(b->ring, REGISTER_PBUF_STATUS, &status, 1);
    if (err < 0)
        return err;
    uint16_t n = (uint16_t)(b->tail - (uint16_t)status.head);
    if (n > most)
        n = (uint16_t)most;
    b->tail -= n;
    store_release((uint16_t *)((uint8_t *)b->entries + 14), b->tail);
    return n;
}

/* The nth of the buffers that ur_buffers_withdraw took back just now. */
int ur_buffers_withdrawn(struct ur_buffers *b, uint32_t n)
{
    return b->entries ? ((uint16_t *)(b->entries + 2 * (size_t)((b->tail + n) & b->mask)))[6] : -EBADF;
}

/* Registers the ring and puts the first few buffers into it; memory, if any, is count * size bytes that the
 * caller owns. */
int ur_buffers_open(struct ur_buffers *b, struct ur_ring *r, uint16_t group, uint32_t count, uint64_t size,
                    void *memory, uint32_t flags, uint32_t first, uint32_t min_left)
{
    memset(b, 0, sizeof *b);
    b->ring = r;
    b->group = group;
    b->count = count;
    b->size = size;
    uint32_t entries = 1;
    while (entries < count)
        entries <<= 1;
    b->mask = entries - 1;
    b->ring_len = (entries * 16ull + 4095) & ~4095ull;
    b->bids = memory ? count : 65536;
    b->places = calloc(b->bids, sizeof *b->places);
    if (!b->places)
        return -ENOMEM;
    struct buf_reg reg = { .ring_entries = entries, .bgid = group, .flags = (uint16_t)flags, .min_left = min_left };
    int err = 0;
    if (flags & PBUF_RING_MMAP) {
        err = ring_register(r, REGISTER_PBUF_RING, &reg, 1);
        if (err < 0) {
            free(b->places);
            b->places = NULL;
            return err;
        }
        b->ring_map = mmap(NULL, b->ring_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, r->fd,
                           (off_t)(0x80000000ull | ((uint64_t)group << 16)));
    } else {
        b->ring_map = mmap(NULL, b->ring_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    }
    if (b->ring_map == MAP_FAILED) {
        err = -ENOMEM;
        if (flags & PBUF_RING_MMAP)
            ring_register(r, UNREGISTER_PBUF_RING, &reg, 1);
    } else if (!(flags & PBUF_RING_MMAP)) {
        reg.ring_addr = (uintptr_t)b->ring_map;
        err = ring_register(r, REGISTER_PBUF_RING, &reg, 1);
    }
    if (err < 0) {
        if (b->ring_map && b->ring_map != MAP_FAILED)
            munmap(b->ring_map, b->ring_len);
        free(b->places);
        memset(b, 0, sizeof *b);
        return err;
    }
    b->entries = b->ring_map;
    b->memory = memory;
    madvise(b->ring_map, b->ring_len, MADV_DONTFORK);
    if (memory)
        for (uint32_t bid = 0; bid < first; bid++)
            ur_buffers_put(b, (int)bid);
    return 0;
}

int ur_buffers_close(struct ur_buffers *b)
{
    if (!b->entries)
        return 0;
    int ret = 0;
    if (b->ring->fd >= 0) {
        struct buf_reg reg = { .bgid = b->group };
        ret = ring_register(b->ring, UNREGISTER_PBUF_RING, &reg, 1);
    }
    /* Not in a forked child (there the ring is closed but out is not freed): the mapping stayed behind. */
    if (b->ring->fd >= 0 || !b->ring->out)
        munmap(b->ring_map, b->ring_len);
    free(b->places);
    b->entries = NULL;
    b->memory = NULL;
    b->places = NULL;
    b->ring_map = NULL;
    return ret;
}

/* ---- shared words ------------------------------------------------------------------------------------- */

uint32_t ur_load(uint64_t address) { return load_acquire((uint32_t *)(uintptr_t)address); }

void ur_store(uint64_t address, uint32_t value) { store_release((uint32_t *)(uintptr_t)address, value); }
