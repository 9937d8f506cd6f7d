/* The life of a ring: set-up, the mapped queues, resizing, closing, a forked child. */
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

/* Memory for NO_MMAP: page-aligned, and no more than the entries need. */
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
    r->maps_owned = 1; /* so that unmap() takes back one mapping where the other fails */
    r->sqe_map = mmap(NULL, r->sqe_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    r->ring_map = mmap(NULL, r->ring_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (r->sqe_map == MAP_FAILED || r->ring_map == MAP_FAILED)
        return -ENOMEM;
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
    r->fd = r->enter_fd = r->wake_fd = -1;
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

/* After REGISTER_RESIZE_RINGS, when the kernel does not use the old mapping: maps the new queues. */
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
            uint64_t *ended = realloc(r->ended, 2 * (size_t)r->cq_entries * sizeof *ended);
            if (!ended)
                return -ENOMEM;
            r->ended = ended;
        }
        r->out_cap = r->cq_entries;
    }
    return 0;
}

static void free_tables(struct ur_ring *r)
{
    free(r->out);
    free(r->idents);
    free(r->ended);
    free(r->volleys);
    r->out = NULL;
    r->idents = NULL;
    r->ended = NULL;
    r->volleys = NULL;
    r->volley_slots = 0;
    r->unseen_at = r->unseen_end = r->ended_count = 0;
}

int ur_close(struct ur_ring *r)
{
    if (r->forked)
        free_tables(r);
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
    free_tables(r);
    return ret < 0 ? ret : 0;
}

/* In a forked child: the mappings are missing (MADV_DONTFORK), and the ring is the parent's. The child has copies of
 * the allocated tables: ur_close frees them. */
int ur_forked(struct ur_ring *r)
{
    if (r->fd >= 0 && !(r->setup_flags & SETUP_REGISTERED_FD_ONLY))
        close(r->fd);
    r->fd = r->enter_fd = -1;
    r->ring_map = r->sqe_map = NULL;
    r->forked = 1;
    return 0;
}
