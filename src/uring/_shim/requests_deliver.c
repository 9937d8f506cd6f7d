/* The completions of a ring as objects, as `uring.session.delivery` makes them.
 *
 * Invariants
 *  - A signal's handler may raise, and may wait on this ring, wherever code of Python runs: in a decoder here, and between
 *    any two calls of a wait. So a completion is passed in ring->out only when nothing can fail any more, and is in the
 *    backlog when the call returns.
 *  - What is in flight is released after the completions that end it were passed.
 */
#include "requests.h"

enum {
    MORE = 2,
    AHEAD = 2, /* what the kernel copied has driven the requests out of the cache */
};

static const uint64_t WAKE = UINT64_MAX;

static newfunc tuple_new; /* NULL where an instance may be filled in by hand */
static size_t items_at;   /* where the items lie in a tuple */
static PyObject *s_told, *s_settle_batches, *s_res, *s_in_flight, *s_op;

/* A new instance of a class of tuples by its constructor; takes the reference to its items. */
static PyObject *construct(PyTypeObject *kind, PyObject *plain)
{
    PyObject *args = plain ? PyTuple_Pack(1, plain) : NULL;
    PyObject *made = args ? tuple_new(kind, args, NULL) : NULL;
    Py_XDECREF(plain);
    Py_XDECREF(args);
    return made;
}

/* A new instance of a class of tuples with these items, whose references are given away. */
static inline PyObject *completion(PyTypeObject *kind, PyObject *const *items, Py_ssize_t n)
{
    PyObject *made = NULL;
    int whole = 1;
    for (Py_ssize_t i = 0; i < n; i++)
        whole &= items[i] != NULL;
    if (whole)
        made = tuple_new ? PyTuple_New(n) : PyType_GenericAlloc(kind, n);
    PyObject **to = made ? (PyObject **)((char *)made + items_at) : NULL;
    for (Py_ssize_t i = 0; i < n; i++)
        if (to)
            to[i] = items[i];
        else
            Py_XDECREF(items[i]);
    return tuple_new ? construct(kind, made) : made;
}

/* What belongs to a completion: new references, or NULL where it has none. */
struct parts {
    Request *request;
    PyObject *number, *told;
    PyObject *slot, *own; /* of one without a request: its slot, and the own value of a poll under another one */
};

/* A completion as an object, a new reference. It takes the references to the number and the request. */
static inline PyObject *as_tuple(PyTypeObject *kind, const struct ur_cqe32 *cqe, int wide, const struct parts *parts)
{
    PyObject *items[7] = { PyLong_FromUnsignedLongLong(cqe->user_data), parts->number,
                           PyLong_FromUnsignedLong(cqe->flags) };
    PyObject *told = parts->told, *r = (PyObject *)parts->request;
    Py_ssize_t n = 3;
    if (wide || told) {
        items[n++] = PyLong_FromUnsignedLongLong(cqe->big_cqe[0]);
        items[n++] = PyLong_FromUnsignedLongLong(cqe->big_cqe[1]);
        if (r || told)
            items[n++] = Py_NewRef(told ? told : Py_None);
    }
    if (r)
        items[n++] = r;
    return completion(kind, items, n);
}

/* Finds the parts of a completion without a request: 1; 0: it is late, or only wakes the thread; -1: an exception is
 * set. */
static int is_known(Queue *q, const struct ur_cqe32 *cqe, struct parts *parts)
{
    if (cqe->user_data == WAKE && q->waking)
        return 0;
    uint64_t mode = cqe->user_data >> 62;
    int pooled = mode == 1 || mode == 2;
    PyObject *key = PyLong_FromUnsignedLongLong(cqe->user_data);
    if (!key)
        return -1;
    int known = 1;
    parts->own = Py_XNewRef(PyDict_GetItemWithError(q->renamed, key));
    if (pooled) {
        parts->slot = Py_XNewRef(PyDict_GetItemWithError(q->slots, key));
        known = parts->slot != NULL;
    }
    if (known && (cqe->res < 0 || PySet_Contains(q->decoding, key) > 0)) {
        parts->told = PyObject_CallMethodObjArgs((PyObject *)q, s_told, key, parts->number, NULL);
        known = parts->told ? 1 : -1;
        if (parts->told == Py_None)
            Py_CLEAR(parts->told);
    }
    Py_DECREF(key);
    return known;
}

/* Passes a completion for which all is ready. */
static void pass(Queue *q, const struct ur_cqe32 *cqe, const struct parts *parts)
{
    Request *r = parts->request, *held = NULL;
    int last = !(cqe->flags & MORE);
    q->ring->unseen_at++;
    q->ring->seen++;
    if (parts->own && last)
        q->settle(q->ring, PyLong_AsUnsignedLongLong(parts->own));
    if (parts->slot && last)
        PyObject_SetAttr(parts->slot, s_res, parts->number);
    if (r && last)
        held = table_take((Table *)q->requests, r->value);
    if (r)
        request_complete(r, parts->number, parts->told, cqe->res, cqe->flags);
    Py_XDECREF((PyObject *)held);
}

/* Whether results under a context are numbers, and each under its own value. */
static int is_plain(const Queue *q) { return !PySet_Size(q->decoding) && !PyDict_Size(q->renamed); }

/* Takes the next completion. `plain`: see is_plain. 0, and `*made` is a new reference, or NULL where there is nothing to hand out; -1: an
 * exception is set, and the completion stays. */
static int take_next(Queue *q, PyTypeObject *kind, int plain, PyObject **made)
{
    struct ur_ring *ring = q->ring;
    int wide = ring->out_size == sizeof(struct ur_cqe32);
    struct ur_cqe32 cqe = { 0 };
    const uint8_t *at = ring->out + (size_t)ring->unseen_at * ring->out_size;
    if (wide)
        memcpy(&cqe, at, sizeof cqe);
    else
        memcpy(&cqe, at, sizeof(struct ur_cqe));
    uint64_t seen = ring->seen, mode = cqe.user_data >> 62;
    struct parts parts = { table_look((Table *)q->requests, cqe.user_data), PyLong_FromLong(cqe.res), NULL, NULL, NULL };
    Py_XINCREF((PyObject *)parts.request);
    int known = !parts.number                                               ? -1
                : !parts.request && plain && !mode && cqe.res >= 0          ? 1
                : !parts.request                                            ? is_known(q, &cqe, &parts)
                : request_meaning(parts.request, cqe.res, &parts.told) < 0 ? -1
                                                                            : 1;
    *made = NULL;
    if (known > 0) {
        *made = as_tuple(kind, &cqe, wide, &parts);
    } else {
        Py_XDECREF((PyObject *)parts.request);
        Py_XDECREF(parts.number);
    }
    int failed = known < 0 || (known && !*made);
    if (failed) {
        /* it stays */
    } else if (ring->seen != seen || ring->fd < 0) {
        Py_CLEAR(*made); /* code that ran meanwhile took it */
    } else {
        q->waking -= !known && cqe.user_data == WAKE;
        q->late += !known && cqe.user_data != WAKE;
        pass(q, &cqe, &parts);
    }
    Py_XDECREF(parts.told);
    Py_XDECREF(parts.slot);
    Py_XDECREF(parts.own);
    return failed ? -1 : 0;
}

/* Ends the names that a poll was given. */
static void forget_names(Queue *q, PyObject *own)
{
    PyObject *name, *whose;
    for (Py_ssize_t at = 0; PyDict_Next(q->renamed, &at, &name, &whose);)
        if (PyObject_RichCompareBool(whose, own, Py_EQ) > 0) {
            Py_INCREF(name);
            PyDict_DelItem(q->renamed, name);
            PySet_Discard(q->guarded, name);
            Py_DECREF(name);
            at = 0;
        }
}

/* Releases what is kept under a value. References go last, because that may run any code. */
static void forget(Queue *q, PyObject *key)
{
    PyObject *kept = Py_XNewRef(PyDict_GetItemWithError(q->held, key)), *slot = NULL;
    if (kept)
        PyDict_DelItem(q->held, key);
    else if ((slot = Py_XNewRef(PyDict_GetItemWithError(q->slots, key))))
        PyDict_DelItem(q->slots, key);
    PySet_Discard(q->guarded, key);
    PySet_Discard(q->decoding, key);
    forget_names(q, key);
    if (slot) {
        PyObject_SetAttr(slot, s_in_flight, Py_False);
        PyObject_SetAttr(slot, s_op, Py_None);
    }
    Py_XDECREF(kept);
    Py_XDECREF(slot);
}

/* Whether anything is kept by the value that it is in flight under. */
static int is_keeping(const Queue *q)
{
    return PyDict_Size(q->held) || PyDict_Size(q->slots) || PySet_Size(q->guarded) || PySet_Size(q->decoding) ||
           PyDict_Size(q->renamed);
}

/* Releases what has ended: 0, or -1 and an exception. */
static int release(Queue *q)
{
    struct ur_ring *ring = q->ring;
    if (!is_keeping(q))
        ring->ended_count = 0;
    while (ring->ended_count) {
        PyObject *key = PyLong_FromUnsignedLongLong(ring->ended[ring->ended_count - 1]);
        if (!key)
            return -1;
        uint64_t value = ring->ended[--ring->ended_count];
        if (q->count(ring, value) <= 0) /* else queued again since */
            forget(q, key);
        Py_DECREF(key);
    }
    if (PySet_Size(q->given) && !PySet_Size(q->decoding))
        PySet_Clear(q->given);
    return 0;
}

/* Puts the first n objects of a list, which is cut behind them, behind those of the backlog: 0, or -1 and an
 * exception. */
static int publish(Queue *q, PyObject *made, Py_ssize_t n)
{
    if (n < PyList_Size(made) && PyList_SetSlice(made, n, PyList_Size(made), NULL) < 0)
        return -1;
    if (!n)
        return 0;
    PyObject *old = q->backlog, *both = PyList_Size(old) ? PySequence_Concat(old, made) : Py_NewRef(made);
    if (!both)
        return -1;
    q->backlog = both;
    Py_DECREF(old);
    return 0;
}

static Queue *is_whole(PyObject *obj)
{
    Queue *q = PyObject_TypeCheck(obj, queue_type) ? (Queue *)obj : NULL;
    return q && q->ring && q->requests && Py_IS_TYPE(q->requests, table_type) && q->backlog &&
                   PyList_CheckExact(q->backlog) && q->held && PyDict_CheckExact(q->held) && q->slots &&
                   PyDict_CheckExact(q->slots) && q->renamed && PyDict_CheckExact(q->renamed) && q->decoding &&
                   Py_IS_TYPE(q->decoding, &PySet_Type) && q->given && Py_IS_TYPE(q->given, &PySet_Type) &&
                   q->guarded && Py_IS_TYPE(q->guarded, &PySet_Type) && q->batches && PyList_CheckExact(q->batches)
               ? q
               : NULL;
}

/* Takes completions until none is left, or one fails: 0, or -1 and an exception. Those taken are in the backlog. */
static int take_all(Queue *q, PyTypeObject *kind, PyObject *made)
{
    struct ur_ring *ring = q->ring;
    Py_ssize_t room = PyList_Size(made), n = 0;
    int failed = 0, plain = is_plain(q);
    while (!failed && n < room && ring->unseen_at != ring->unseen_end) {
        uint64_t seen = ring->seen;
        uint32_t end = ring->unseen_end;
        if (ring->unseen_at + AHEAD < ring->unseen_end)
            table_expect((Table *)q->requests,
                         ((struct ur_cqe *)(ring->out + (size_t)(ring->unseen_at + AHEAD) * ring->out_size))->user_data);
        PyObject *cqe;
        failed = take_next(q, kind, plain, &cqe) < 0;
        if (ring->seen != seen + 1 || ring->unseen_end != end)
            plain = is_plain(q); /* other code has run */
        if (cqe)
            PyList_SetItem(made, n++, cqe);
    }
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    int lost = publish(q, made, n) < 0;
    if (failed)
        PyErr_Restore(type, value, trace);
    return failed || lost ? -1 : 0;
}

/* _collect(kind, most). */
int usual_collect(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Queue *q = n == 3 && !keywords && PyType_Check(args[1]) ? is_whole(args[0]) : NULL;
    PyTypeObject *kind = (PyTypeObject *)args[1];
    Py_ssize_t most = q ? PyLong_AsSsize_t(args[2]) : -1;
    if (!q || !PyType_IsSubtype(kind, &PyTuple_Type) || most < 0) {
        PyErr_Clear();
        return 0;
    }
    struct ur_ring *ring = q->ring;
    PyObject *made = PyList_New((Py_ssize_t)(ring->unseen_end - ring->unseen_at));
    if (!made)
        return -1;
    int failed = take_all(q, kind, made) < 0;
    if (!failed && ring->unseen_at == ring->unseen_end)
        failed = release(q) < 0;
    if (!failed && PyList_Size(q->batches)) {
        PyObject *none = PyObject_CallMethodObjArgs((PyObject *)q, s_settle_batches, NULL);
        failed = !none;
        Py_XDECREF(none);
    }
    int whole = q->backlog == made && PyList_Size(made) <= most;
    *result = failed ? NULL : Py_NewRef(whole ? made : Py_None);
    Py_DECREF(made);
    return failed ? -1 : 1;
}

/* _release(). */
int usual_release(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Queue *q = n == 1 && !keywords ? is_whole(args[0]) : NULL;
    if (!q)
        return 0;
    if (release(q) < 0)
        return -1;
    *result = Py_NewRef(Py_None);
    return 1;
}

/* Finds where the items of a tuple are: 0 for nowhere, or with an exception. */
static size_t find_items(void)
{
    PyObject *number = PyObject_GetAttrString((PyObject *)&PyTuple_Type, "__basicsize__");
    PyObject *marker = number ? PyList_New(0) : NULL, *pair = marker ? PyTuple_Pack(2, marker, Py_None) : NULL;
    size_t at = 0, size = pair ? PyLong_AsSize_t(number) : 0;
    for (size_t i = sizeof(PyVarObject); pair && i <= size && !at; i += sizeof(PyObject *))
        if (*(PyObject **)((char *)pair + i) == marker)
            at = i;
    Py_XDECREF(pair);
    Py_XDECREF(marker);
    Py_XDECREF(number);
    return at;
}

/* Newer tuples have more fields than their items. A tuple of a subclass that is filled in by hand then has another hash
 * than its items, and the constructor is used. */
int load_deliver(void)
{
    static const struct { PyObject **at; const char *name; } names[] = {
        { &s_told, "_told" }, { &s_settle_batches, "_settle_batches" }, { &s_res, "res" },
        { &s_in_flight, "in_flight" }, { &s_op, "op" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*names[i].at = PyUnicode_InternFromString(names[i].name)))
            return -1;
    if (!(items_at = find_items())) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ImportError, "the items of a tuple are not where they are expected");
        return -1;
    }
    PyObject *kind = PyObject_CallFunction((PyObject *)&PyType_Type, "s(O){s()}", "kind", &PyTuple_Type, "__slots__");
    PyObject *items[1] = { PyLong_FromLong(7) }, *plain = Py_BuildValue("(i)", 7);
    PyObject *made = kind ? completion((PyTypeObject *)kind, items, 1) : NULL;
    Py_hash_t wanted = plain ? PyObject_Hash(plain) : -1, found = made ? PyObject_Hash(made) : -1;
    int failed = wanted == -1 || found == -1;
    if (!failed && wanted != found)
        tuple_new = (newfunc)PyType_GetSlot(&PyTuple_Type, Py_tp_new);
    Py_XDECREF(kind);
    Py_XDECREF(plain);
    Py_XDECREF(made);
    return failed ? -1 : 0;
}
