/* The interface of the shim to Python. cffi reads this text as it is: declarations only.
 *
 * Functions return a count or zero, or a negative errno. None calls back into Python. cffi releases the GIL around
 * each call. */

/* Submission queue entry, 64 bytes; the second half of a 128-byte entry is in struct ur_op. */
struct ur_sqe {
    uint8_t opcode;
    uint8_t flags;
    uint16_t ioprio;
    int32_t fd;
    uint64_t off;
    uint64_t addr;
    uint32_t len;
    uint32_t op_flags;
    uint64_t user_data;
    uint16_t buf_index;
    uint16_t personality;
    int32_t file_index;
    uint64_t addr3;
    uint64_t pad2;
};

/* Completion queue entry as handed to Python; big_cqe is zero on rings with 16-byte entries. */
struct ur_cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct ur_cqe32 {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
    uint64_t big_cqe[2];
};

struct ur_sq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, resv1;
    uint64_t user_addr;
};

struct ur_cq_offsets {
    uint32_t head, tail, ring_mask, ring_entries, overflow, cqes, flags, resv1;
    uint64_t user_addr;
};

struct ur_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd;
    uint32_t resv[3];
    struct ur_sq_offsets sq_off;
    struct ur_cq_offsets cq_off;
};

/* How many entries are in flight under one user_data. */
struct ur_ident {
    uint64_t user_data;
    uint32_t count;          /* 0: free */
    uint32_t total;          /* how many there were since it was free */
};

/* One mapped ring, owned by one KernelRing object; freed by ur_close. */
struct ur_ring {
    int32_t fd;              /* -1 once closed, and in a forked child: every call then fails with -EBADF */
    int32_t enter_fd;        /* fd, or the registered index when enter_flags has REGISTERED_RING */
    uint32_t enter_flags;    /* always or-ed into io_uring_enter's flags */
    uint32_t setup_flags;
    uint32_t features;
    uint32_t eager;          /* not 0: every queued entry is submitted at once (guest mode) */
    int32_t wake_fd;         /* an eventfd that ends the wait of another thread; below 0: none */

    uint32_t sq_entries, sq_mask, sq_tail;
    uint32_t sqe_size;       /* 64 or 128 */
    uint32_t cq_entries, cq_mask;
    uint32_t cqe_size;       /* 16 or 32: the stride in the mapped queue */
    uint32_t out_size;       /* 16 or 32: the stride in out */
    uint32_t out_cap;        /* entries that out has room for */

    int64_t inflight;        /* entries queued whose last completion has not been handed out */
    uint64_t enters;         /* io_uring_enter calls */
    uint64_t submitted;      /* entries the kernel consumed */
    uint64_t reaped;         /* completions handed out */
    uint64_t overflows;      /* times the kernel reported a backlog of completions */

    uint8_t *out;            /* completions of the last ur_cycle, or those of ur_reap */
    uint32_t unseen_at, unseen_end; /* which of them ur_reap moved there and ur_seen has not passed */
    uint64_t seen;           /* how many ur_seen has passed */

    uint32_t *sq_head, *sq_ktail, *sq_flags, *sq_dropped;
    uint32_t *cq_head, *cq_tail, *cq_flags, *cq_overflow;
    uint8_t *sqes, *cqes;
    void *ring_map, *sqe_map;
    uint64_t ring_len, sqe_len;
    uint32_t maps_owned;     /* 0: the memory was given by the caller (NO_MMAP) */

    /* After ur_track: a hash table of the values in flight, and those that have ended. */
    struct ur_ident *idents; /* 1 << ident_bits of them */
    uint32_t ident_bits, ident_used;
    uint64_t *ended;         /* values under which nothing is in flight any more; room for 2 * out_cap */
    uint32_t ended_count;

    struct ur_volley **volleys; /* those in flight; a member's user_data names the place here */
    uint32_t volley_slots, volleys_live;
    uint32_t volley_generation;
    uint32_t lookalikes;     /* values in flight (after ur_track) that could be taken for a volley's member */
    uint32_t lost;           /* not 0: the kernel has dropped completions, which it reports once */
    uint32_t spin_us;        /* how long a cycle looks for completions before it sleeps */
    uint32_t forked;         /* not 0: opened by the parent process, closed in this one by the fork */
};

/* Requests that go to the kernel together and are handed out as one completion, after the last of them. */
struct ur_volley {
    struct ur_ring *ring;
    struct ur_sqe *sqes;     /* count of them; the shim sets their user_data */
    int32_t *results;        /* count of them; INT32_MIN until the member has completed */
    uint64_t user_data;      /* of the one completion, whose result is 0 */
    uint64_t tag;            /* user_data of member 0 */
    uint32_t count, queued, left, place;
};

/* A request ready to be queued, kept in C so that queueing it again is one call with one argument. */
struct ur_op {
    struct ur_ring *ring;
    struct ur_sqe sqe;
    uint8_t tail[];          /* 64 bytes more where the ring has 128-byte entries */
};

/* A provided buffer ring. */
struct ur_buffers {
    struct ur_ring *ring;
    uint64_t *entries;       /* the mapped ring: 16 bytes an entry */
    uint8_t *memory;
    uint64_t size;           /* bytes in one buffer */
    uint32_t count, mask;    /* buffers; entries - 1 */
    uint16_t group, tail;
    uint16_t *places;        /* for each buffer, where in the ring it was put last */
    uint32_t bids;           /* how many places there are */
    void *ring_map;
    uint64_t ring_len;
};

/* Life cycle. ur_open fills the ring and maps it; ur_close unmaps and closes. */
int ur_open(struct ur_ring *ring, uint32_t entries, struct ur_params *params, uint32_t out_cap);
int ur_close(struct ur_ring *ring);
int ur_register(int fd, uint32_t opcode, void *arg, uint32_t nr_args);
int ur_show(struct ur_ring *ring);     /* lets the kernel see everything queued, even a chain without its end */
int ur_remap(struct ur_ring *ring, struct ur_params *params);
int ur_forked(struct ur_ring *ring);

/* Submission. -EBUSY: the queue is full, and the kernel takes none of it; nothing was queued. */
int ur_queue(struct ur_op *op);
int ur_queue_pair(struct ur_op *first, struct ur_op *second); /* links the first to the second */
int ur_queue_at(struct ur_op *op, int opcode, int fd, uint64_t off, uint64_t addr, uint32_t len);
int ur_put(struct ur_ring *ring, uint64_t user_data, int opcode, int64_t flags, int fd, uint64_t off,
           uint64_t addr, uint32_t len, uint32_t op_flags, int buf_index, int file_index, uint64_t addr3);
int ur_put_now(struct ur_ring *ring, uint64_t user_data, int opcode, int64_t flags, int fd, uint64_t off,
               uint64_t addr, uint32_t len, uint32_t op_flags, int buf_index, int file_index,
               uint64_t addr3); /* and submits it, with all that was queued before */
int ur_prepare(struct ur_op *op, struct ur_ring *ring, uint64_t user_data, int opcode, int64_t flags, int fd,
               uint64_t off, uint64_t addr, uint32_t len, uint32_t op_flags, int buf_index, int file_index,
               uint64_t addr3);
int ur_aim(struct ur_op *op, uint64_t user_data, int fd, uint32_t len); /* changes a prepared entry */
int ur_put_packed(struct ur_ring *ring, uint64_t user_data, uint64_t entry);
int ur_put_many(struct ur_ring *ring, uint32_t n, const uint64_t *pairs);
int ur_unqueue(struct ur_ring *ring, uint64_t user_data);
int ur_space(struct ur_ring *ring);
int ur_pending(struct ur_ring *ring);
int ur_ready(struct ur_ring *ring);
int ur_flush(struct ur_ring *ring, int run_work);

/* Submits everything, waits, and moves completions to ring->out. timeout: seconds, negative for ever. A wait looks for
 * completions for ring->spin_us, or until its timeout, before it sleeps. -EBADR: the kernel has dropped completions,
 * and there are no others; later cycles return it too. */
int ur_cycle(struct ur_ring *ring, double timeout);
int ur_poll(struct ur_ring *ring); /* ur_cycle(ring, 0), with one argument less */
/* As ur_cycle, for a caller that a signal may interrupt after the call: completions stay in ring->out, and values in
 * ring->ended, until the caller has taken them. Returns how many there are; it does not wait where some have stayed. */
int ur_reap(struct ur_ring *ring, double timeout);
int ur_seen(struct ur_ring *ring, uint32_t n); /* passes the first n of them */
/* For a kernel that takes no entries: moves to ring->out, as ur_cycle does, the completions of entries that were taken
 * back, and leaves the entries queued under another value. Not on a ring that counts by user_data. */
int ur_end_unsent(struct ur_ring *ring, uint64_t instead);
int ur_idle(struct ur_ring *ring);
int ur_wait(struct ur_ring *ring, double timeout);
int ur_enter(struct ur_ring *ring, uint32_t to_submit, uint32_t min_complete, uint32_t flags,
             void *arg, uint64_t argsz);

/* Counting by user_data. Both top bits set: such an entry or completion is never counted. */
int ur_track(struct ur_ring *ring);
int ur_count(struct ur_ring *ring, uint64_t user_data);
int ur_settle(struct ur_ring *ring, uint64_t user_data);
int ur_total(struct ur_ring *ring, uint64_t user_data); /* how many were queued since none was in flight */
int ur_any(struct ur_ring *ring, uint32_t n, const uint64_t *pairs); /* is one of these values in flight? */

/* Volleys. ur_volley_queue queues the members that are not queued: 0, or -EBUSY when the kernel takes no more; the next
 * call continues there. After its completion a volley may be queued again. -EEXIST, on a ring that counts by user_data:
 * something is in flight under a value like a member's; other calls that queue return it for such a value while a
 * volley is in flight. ur_volley_unqueue takes back members that the kernel has not seen. */
int ur_volley_fill(struct ur_volley *volley, int opcode, int fd, uint32_t op_flags, uint64_t *triples);
int ur_volley_queue(struct ur_volley *volley);
int ur_volley_unqueue(struct ur_volley *volley);

/* Provided buffers. */
int ur_buffers_open(struct ur_buffers *buffers, struct ur_ring *ring, uint16_t group, uint32_t count,
                    uint64_t size, void *memory, uint32_t flags, uint32_t first,
                    uint32_t min_left);
int ur_buffers_withdraw(struct ur_buffers *buffers, uint32_t most);
int ur_buffers_withdrawn(struct ur_buffers *buffers, uint32_t n);
int ur_buffers_close(struct ur_buffers *buffers);
int ur_buffers_after(struct ur_buffers *buffers, int bid, uint32_t n);
int ur_buffers_put(struct ur_buffers *buffers, int bid);
int ur_buffers_publish(struct ur_buffers *buffers, int bid, uint64_t addr, uint32_t len);

/* One 32-bit word that the kernel shares: an index of a ring that is neither of the queues. */
uint32_t ur_load(uint64_t address);
void ur_store(uint64_t address, uint32_t value);
