/* Submission: writing entries, showing them to the kernel, taking them back, flushing to make room. */
static inline uint32_t unsubmitted(struct ur_ring *r) { return r->sq_tail - load_acquire(r->sq_head); }

int ur_ready(struct ur_ring *r) { return r->fd < 0 ? -EBADF : (int)(load_acquire(r->cq_tail) - *r->cq_head); }

int ur_pending(struct ur_ring *r) { return r->fd < 0 ? -EBADF : (int)unsubmitted(r); }

int ur_space(struct ur_ring *r) { return r->fd < 0 ? -EBADF : (int)(r->sq_entries - unsubmitted(r)); }

/* Submits everything queued without waiting. run_work also runs deferred completions, in which the kernel drops the
 * file of a cancelled operation. */
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
    for (int again = 0; again < FLUSH_AGAIN && (n = unsubmitted(r)); again++)
        ret = ur_enter(r, n, 0, flags, NULL, 0);
    for (int rounds = 0; run_work && rounds < DRAIN_ROUNDS && (load_acquire(r->sq_flags) & SQ_TASKRUN); rounds++)
        if (ur_enter(r, 0, 0, ENTER_GETEVENTS, NULL, 0) < 0)
            break;
    if (r->eager && r->wake_fd >= 0 && unsubmitted(r))
        eventfd_write(r->wake_fd, 1); /* the kernel did not take all: the waiting thread tries again */
    return ret;
}

/* Makes room for n entries: 0, or -EBUSY, when only entries that the kernel took have gone. */
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

/* Shows a chain to the kernel when its last entry is written, or a flush comes: the thread of SQPOLL would take a part
 * of it. */
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

/* Two copies of a size that the compiler knows. */
static inline void copy_entry(struct ur_ring *r, uint8_t *to, const void *from)
{
    memcpy(to, from, 64);
    if (r->sqe_size == 128)
        memcpy(to + 64, (const uint8_t *)from + 64, 64);
}

int ur_queue(struct ur_op *op)
{
    struct ur_ring *r = op->ring;
    int err = reserve(r, 1);
    if (!err)
        err = note(r, op->sqe.user_data);
    if (err)
        return err;
    copy_entry(r, slot(r, r->sq_tail), &op->sqe);
    return publish(r, 1, !unowned(op->sqe.user_data));
}

/* Queues a read or write that differs from the last one of this template only in these fields. */
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

/* Submits at once: until the kernel has the entry, its descriptor may be closed, and the number be another file's. */
int ur_put_now(struct ur_ring *r, uint64_t user_data, int opcode, int64_t flags, int fd, uint64_t off, uint64_t addr,
               uint32_t len, uint32_t op_flags, int buf_index, int file_index, uint64_t addr3)
{
    int err = ur_put(r, user_data, opcode, flags, fd, off, addr, len, op_flags, buf_index, file_index, addr3);
    if (!err && !r->eager)
        ur_flush(r, 0);
    return err;
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
    copy_entry(r, at, (const void *)(uintptr_t)entry);
    ((struct ur_sqe *)at)->user_data = user_data;
    return publish(r, 1, !unowned(user_data));
}

/* Queues n pairs of an entry's address and a value, flushing when the queue is full; returns how many were queued. */
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

/* Gives a prepared entry another value, descriptor and length. */
int ur_aim(struct ur_op *op, uint64_t user_data, int fd, uint32_t len)
{
    op->sqe.user_data = user_data;
    op->sqe.fd = fd;
    op->sqe.len = len;
    return 0;
}

static inline void make_cancelled(struct ur_sqe *sqe)
{
    *sqe = (struct ur_sqe){ .opcode = OP_NOP, .len = (uint32_t)-ECANCELED, .op_flags = NOP_INJECT_RESULT,
                            .user_data = sqe->user_data };
}

/* Turns an entry that the kernel has not seen into a NOP that completes with -ECANCELED, and a timeout linked to it
 * too. 1 if it was found, 0 if the kernel has it already. */
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
