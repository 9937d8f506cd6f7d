/* Operations in flight, counted by user_data: a hash table with linear probing, at most half full. */
/* A completion that another ring sent, or of an entry that completes on failure only: never counted. */
static inline int unowned(uint64_t user_data) { return user_data >> 62 == 3; }

static inline uint32_t ident_home(struct ur_ring *r, uint64_t user_data)
{
    return (uint32_t)((user_data * 0x9e3779b97f4a7c15ull) >> (64 - r->ident_bits));
}

/* The place of user_data, or the free one where it would go. */
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
    /* Entries that had to go past the place that is free now move into it. */
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
    r->ended = calloc(2ull * r->out_cap, sizeof *r->ended);
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

/* An operation that was counted under this value has ended under another one, to which a poll can be changed: 1 if it
 * was the last under the value. */
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
    if (r->ended_count < 2 * r->out_cap)
        r->ended[r->ended_count++] = user_data;
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
