/* Completion: counting, draining, waiting; and the cycle that submits, waits and drains in one call. */
/* Counts one operation less in flight under a value: 0 when there was none. */
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
    if (r->idents && !discount(r, cqe->user_data, more))
        return; /* nothing was queued under it */
    r->inflight -= !more;
}

/* Takes a member's completion: 1. The last one of its volley becomes the volley's own, to be handed out: 0. */
static int absorb(struct ur_ring *r, struct ur_volley *b, struct ur_cqe *cqe)
{
    int32_t *res = &b->results[cqe->user_data & (VOLLEY_MEMBERS - 1)];
    if (*res == INT32_MIN) /* the first one of a zero-copy send has the result */
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

static inline double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* Submits, then looks for completions for spin_us without sleeping; the rest of the timeout is written there. 1: there
 * are some, or work that makes some; 0: none yet; -ETIME: none, and the timeout is over; or another errno. */
static int look_first(struct ur_ring *r, uint32_t to_submit, uint32_t flags, double *timeout)
{
    double start = seconds(), now, limit = r->spin_us * 1e-6;
    int ret = to_submit ? ur_enter(r, to_submit, 0, flags, NULL, 0) : 0;
    if (ret < 0)
        return ret;
    if (*timeout >= 0 && *timeout < limit)
        limit = *timeout;
    do {
        if (*(volatile uint32_t *)r->cq_head != load_acquire(r->cq_tail) ||
            (load_acquire(r->sq_flags) & (SQ_TASKRUN | SQ_CQ_OVERFLOW)))
            return 1;
        now = seconds();
    } while (now - start < limit);
    if (*timeout < 0)
        return 0;
    *timeout -= now - start;
    return *timeout > 0 ? 0 : -ETIME;
}

/* A cycle behind the first n completions of ring->out. */
static inline int cycle(struct ur_ring *r, uint32_t n, double timeout)
{
    uint32_t to_submit = unsubmitted(r), sq_flags;
    store_release(r->sq_ktail, r->sq_tail);
    int ready = n || *r->cq_head != load_acquire(r->cq_tail), ret = 0;

    if (!to_submit && (ready || timeout == 0) && !(load_acquire(r->sq_flags) & (SQ_TASKRUN | SQ_CQ_OVERFLOW))) {
        if (!ready)
            return r->lost ? -EBADR : 0; /* nothing to submit and nothing to reap: no syscall */
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
        if (ready || timeout == 0 || r->lost) {
            ret = ur_enter(r, to_submit, 0, flags, NULL, 0);
        } else if (!r->spin_us) {
            ret = enter_and_wait(r, to_submit, flags, timeout);
        } else if (!(ret = look_first(r, to_submit, flags, &timeout))) {
            ret = enter_and_wait(r, unsubmitted(r), flags, timeout);
        }
    }
    n = drain(r, n);
    /* One enter runs at most about twenty deferred completions: go on until dry. */
    for (int rounds = 0; rounds < DRAIN_ROUNDS && n < r->out_cap; rounds++) {
        sq_flags = load_acquire(r->sq_flags);
        if (!(sq_flags & (SQ_TASKRUN | SQ_CQ_OVERFLOW)))
            break;
        if (sq_flags & SQ_CQ_OVERFLOW)
            r->overflows++;
        int more = ur_enter(r, 0, 0, ENTER_GETEVENTS, NULL, 0);
        if (more < 0) { /* 0 would say that there is no work left */
            ret = more;
            break;
        }
        n = drain(r, n);
    }
    if (n)
        return (int)n;
    if (r->lost)
        return -EBADR;
    return ret < 0 && ret != -ETIME ? ret : 0;
}

int ur_cycle(struct ur_ring *r, double timeout)
{
    if (r->fd < 0)
        return -EBADF;
    r->ended_count = 0;
    return cycle(r, 0, timeout);
}

int ur_reap(struct ur_ring *r, double timeout)
{
    if (r->fd < 0)
        return -EBADF;
    uint32_t n = r->unseen_end - r->unseen_at;
    if (n && r->unseen_at)
        memmove(r->out, r->out + (size_t)r->unseen_at * r->out_size, (size_t)n * r->out_size);
    r->unseen_at = 0;
    r->unseen_end = n;
    /* Each completion that is moved ends one value at most. Memory under values forgotten here is kept for longer. */
    if (r->ended_count > r->out_cap)
        r->ended_count = r->out_cap;
    int ret = cycle(r, n, timeout);
    if (ret > 0)
        r->unseen_end = (uint32_t)ret;
    return ret;
}

int ur_seen(struct ur_ring *r, uint32_t n)
{
    if (r->fd < 0)
        return -EBADF;
    if (n > r->unseen_end - r->unseen_at)
        return -EINVAL;
    r->unseen_at += n;
    r->seen += n;
    return 0;
}

int ur_end_unsent(struct ur_ring *r, uint64_t instead)
{
    if (r->fd < 0)
        return -EBADF;
    if (r->idents)
        return -EINVAL;
    uint32_t n = 0;
    for (uint32_t i = load_acquire(r->sq_head); i != r->sq_tail && n < r->out_cap; i++) {
        struct ur_sqe *sqe = (struct ur_sqe *)slot(r, i);
        if (sqe->opcode != OP_NOP || sqe->op_flags != NOP_INJECT_RESULT || sqe->len != (uint32_t)-ECANCELED ||
            sqe->user_data == instead)
            continue;
        struct ur_cqe *cqe = (struct ur_cqe *)(r->out + (size_t)n * r->out_size);
        memset(cqe, 0, r->out_size);
        cqe->user_data = sqe->user_data;
        cqe->res = -ECANCELED;
        n += taken_in(r, cqe);
        sqe->user_data = instead;
        r->inflight++;
    }
    return (int)n;
}

int ur_poll(struct ur_ring *r) { return ur_cycle(r, 0); }
