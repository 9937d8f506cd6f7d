/* Volleys: many entries queued by one call, with one completion. */
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

/* Makes all members the same request with their own offset, address and length, which come in that order. */
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

/* Takes back the queued members that the kernel has not seen; returns how many. */
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
