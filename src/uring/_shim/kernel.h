/* The kernel's numbers and structures, and its two calls on a ring. */
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
    /* The most enters of one cycle, so that a flood of deferred work cannot starve the caller. */
    DRAIN_ROUNDS = 64,
    /* How often a flush enters again where the kernel refused entries: callers close descriptors after it, whose numbers
     * the entries have. */
    FLUSH_AGAIN = 3,
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
    if (ret == -EBADR)
        ring->lost = 1;
    return ret;
}

/* On a ring without a descriptor, fd is an index into the registered rings. */
static int ring_register(struct ur_ring *r, uint32_t opcode, void *arg, uint32_t nr_args)
{
    return ur_register(r->fd, opcode | (r->setup_flags & SETUP_REGISTERED_FD_ONLY ? USE_REGISTERED_RING : 0), arg, nr_args);
}

/* user_data of a volley's member: its number in bits 0 to 19, the volley's place in 20 to 29, a generation in 30
 * to 59, and 1 in bits 60 to 63, which no other user_data has while there are volleys. */
enum { PLACE_SHIFT = 20, GENERATION_SHIFT = 30, MEMBER_SHIFT = 60 };

static inline int is_member(uint64_t user_data) { return user_data >> MEMBER_SHIFT == 1; }

uint32_t ur_load(uint64_t address) { return load_acquire((uint32_t *)(uintptr_t)address); }

void ur_store(uint64_t address, uint32_t value) { store_release((uint32_t *)(uintptr_t)address, value); }
