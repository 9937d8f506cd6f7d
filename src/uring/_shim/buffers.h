/* Rings of provided buffers: opened, filled, taken back, closed. */
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

/* The buffer that the kernel takes n buffers after this one, in the order in which they were put. */
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

/* Takes back up to most buffers, those that the kernel would use last; returns how many. Nothing may receive
 * meanwhile, as between two enters of a ring with deferred work: a receive reads the ring. ur_buffers_withdrawn
 * names them. */
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

/* The nth of the buffers that the last ur_buffers_withdraw took back. */
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
    /* Not in a forked child, which does not have the mapping. */
    if (!b->ring->forked)
        munmap(b->ring_map, b->ring_len);
    free(b->places);
    b->entries = NULL;
    b->memory = NULL;
    b->places = NULL;
    b->ring_map = NULL;
    return ret;
}
