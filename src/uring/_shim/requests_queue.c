/* The part of a ring that is in C: requests queued one by one and many at once, completions as objects. */
#include "requests.h"

PyTypeObject *queue_type;

static PyObject *s_refused, *s_offset, *s_request;
/* The class of the last ring, and of the last that made a request here: they need no check again. */
static PyTypeObject *ring_type, *making_type;

/* uring.contexts.context: values of requests, from the first one on. */
static const uint64_t FIRST_VALUE = 1ull << 62 | ((1ull << 18) - 1) << 44, LAST_VALUE = FIRST_VALUE + (1ull << 44) - 1;
/* IOSQE_: IO_DRAIN, IO_LINK, IO_HARDLINK, CQE_SKIP_SUCCESS are not usual. */
enum { SPECIAL = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6, READ_ONLY = 1, WRITABLE = 2 };

const struct kind kinds[] = {
    { "nop", 0, 0, 0, 0 },
    { "read", 22, WRITABLE, 1, 0x7FFFF000 },
    { "write", 23, READ_ONLY, 1, 0x7FFFF000 },
    { "send", 26, READ_ONLY, 0, INT32_MAX },
    { "recv", 27, WRITABLE, 0, INT32_MAX },
};
const size_t kind_count = sizeof kinds / sizeof *kinds;

/* ---- queueing ---- */

static void remember(PyTypeObject **at, PyTypeObject *type)
{
    PyObject *old = (PyObject *)*at;
    *at = (PyTypeObject *)Py_NewRef((PyObject *)type);
    Py_XDECREF(old);
}

static Queue *is_ring(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type != ring_type) {
        if (!PyType_IsSubtype(type, queue_type))
            return NULL;
        remember(&ring_type, type);
    }
    return (Queue *)obj;
}

/* As is_ring, unless its class has a `request` of its own, which the function calls. */
static Queue *is_making(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == making_type)
        return (Queue *)obj;
    if (!is_ring(obj))
        return NULL;
    PyObject *found = PyObject_GetAttr((PyObject *)type, s_request);
    int its = found && is_shortcut(found, usual_request);
    Py_XDECREF(found);
    if (!found)
        PyErr_Clear();
    if (!its)
        return NULL;
    remember(&making_type, type);
    return (Queue *)obj;
}

/* Whether `n` requests may be queued without checks: by the thread that owns the ring, outside of a chain, with no
 * value reserved, and without IO_DRAIN before. */
static int is_free(Queue *q, uint64_t n)
{
    return q->ring && q->owner == (long long)PyThread_get_thread_ident() && !q->chain && !q->drained &&
           q->requests && Py_IS_TYPE(q->requests, table_type) && q->plain && PyList_CheckExact(q->plain) &&
           q->guarded && Py_IS_TYPE(q->guarded, &PySet_Type) && !PySet_Size(q->guarded) &&
           q->linking && PyDict_CheckExact(q->linking) && !PyDict_Size(q->linking) &&
           q->serial >= FIRST_VALUE && q->serial < LAST_VALUE - n;
}

static int is_plain(Queue *q, long opcode)
{
    return opcode >= 0 && opcode < PyList_Size(q->plain) && PyList_GetItem(q->plain, opcode) == Py_True;
}

/* Whether writing an entry makes no system call. */
static int is_room(const struct ur_ring *r)
{
    return r->fd < 0 || (!r->eager && r->sq_tail - __atomic_load_n(r->sq_head, __ATOMIC_ACQUIRE) < r->sq_entries);
}

static int raise_refused(Queue *q, int result)
{
    PyObject *number = PyLong_FromLong(result), *error = NULL;
    if (number)
        error = PyObject_CallMethodObjArgs((PyObject *)q, s_refused, number, NULL);
    if (error)
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(number);
    Py_XDECREF(error);
    return -1;
}

/* An entry of 128 bytes, of which smaller queues take the first half. */
struct entry {
    uint64_t at;           /* its address: of what follows, or of an Op's packed entry */
    struct ur_sqe sqe;
    uint8_t tail[64];
};

/* Queues an entry for a request: 0; or -1 and an exception, when the request has ended. The caller keeps its
 * reference. */
static int queue(Queue *q, Request *r, const struct entry *e)
{
    struct ur_ring *ring = q->ring;
    if (table_add((Table *)q->requests, r) < 0) {
        request_end(r);
        return -1;
    }
    PyThreadState *saved = is_room(ring) ? NULL : PyEval_SaveThread();
    int result = q->put_packed(ring, r->value, e->at);
    if (saved)
        PyEval_RestoreThread(saved);
    if (!result)
        return 0;
    Py_XDECREF((PyObject *)table_take((Table *)q->requests, r->value));
    request_end(r);
    return raise_refused(q, result);
}

/* ---- operations that need no Op ---- */

/* 1 and the number of a descriptor; 0 for what only the function can judge. */
static int is_descriptor(PyObject *arg, int32_t *fd)
{
    PyObject *number = NULL;
    if (!PyLong_Check(arg)) {
        if (!(number = PyObject_CallMethod(arg, "fileno", NULL))) {
            PyErr_Clear();
            return 0;
        }
        arg = number;
    }
    long long n = PyLong_CheckExact(arg) ? PyLong_AsLongLong(arg) : -1;
    Py_XDECREF(number);
    if (n < 0)
        PyErr_Clear();
    *fd = (int32_t)n;
    return n >= 0 && n <= INT32_MAX;
}

/* 1, and the request holds the buffer and has its address; 0 for what only the function can judge. */
static int is_memory(Request *r, PyObject *buffer, int flags)
{
    PyObject *view = NULL;
    Py_buffer memory;
    if (Py_IS_TYPE(buffer, &PyMemoryView_Type)) {
        /* A view of its own, because the program may release the other. */
        if (!(view = PyMemoryView_FromObject(buffer)))
            goto unusual;
        buffer = view;
    } else if (!PyByteArray_CheckExact(buffer) && !PyBytes_CheckExact(buffer)) {
        return 0;
    }
    if (PyObject_GetBuffer(buffer, &memory, flags) < 0)
        goto unusual;
    Py_XDECREF(view);
    r->held = memory.obj; /* the buffer's reference */
    if (memory.len > r->kind->most)
        return 0;
    r->addr = (uint64_t)(uintptr_t)memory.buf;
    r->len = (uint32_t)memory.len;
    return 1;
unusual:
    PyErr_Clear();
    Py_XDECREF(view);
    return 0;
}

static int is_offset(const struct kind *kind, PyObject *keywords, PyObject *value, uint64_t *off)
{
    if (!kind->placed || PyTuple_Size(keywords) != 1 || PyTuple_GetItem(keywords, 0) != s_offset ||
        !PyLong_CheckExact(value))
        return 0;
    long long place = PyLong_AsLongLong(value);
    if (place < -1 || (place == -1 && PyErr_Occurred())) {
        PyErr_Clear();
        return 0;
    }
    *off = (uint64_t)place; /* -1 is the file's own position here and there */
    return 1;
}

int usual_operation(const struct kind *kind, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Queue *q = n == (kind->memory ? 3 : 1) ? is_making(args[0]) : NULL;
    uint64_t off = kind->placed ? UINT64_MAX : 0;
    if (!q || !is_free(q, 1) || !is_plain(q, kind->opcode) ||
        (keywords && !is_offset(kind, keywords, args[n], &off)))
        return 0;
    Request *r = request_bare(args[0], 0, kind);
    if (!r)
        return -1;
    r->off = off;
    /* fileno() may be any code, which may use the ring: the function then calls it again. */
    if (kind->memory && !(is_memory(r, args[2], kind->memory == WRITABLE ? PyBUF_WRITABLE : PyBUF_SIMPLE) &&
                          is_descriptor(args[1], &r->fd) && (PyLong_Check(args[1]) || is_free(q, 1)))) {
        request_end(r);
        Py_DECREF(r);
        return 0;
    }
    r->value = ++q->serial;
    struct entry entry = { (uintptr_t)&entry.sqe, .sqe = { .opcode = (uint8_t)kind->opcode, .fd = r->fd, .off = off,
                                                           .addr = r->addr, .len = r->len } };
    if (queue(q, r, &entry) < 0) {
        Py_DECREF(r);
        return -1;
    }
    *result = (PyObject *)r;
    return 1;
}

/* ---- requests of an Op ---- */

/* Reads a field as cffi does: 0 where it does not fit. */
static int is_field(PyObject *fields, int i, int bits, int is_signed, uint64_t *number)
{
    PyObject *item = PyTuple_GetItem(fields, i);
    if (!PyLong_CheckExact(item))
        return 0;
    if (is_signed) {
        long long n = PyLong_AsLongLong(item);
        *number = (uint64_t)n;
        return (n != -1 || !PyErr_Occurred()) && (bits == 64 || n == (int32_t)n);
    }
    *number = PyLong_AsUnsignedLongLong(item);
    return (*number != UINT64_MAX || !PyErr_Occurred()) && (bits == 64 || *number <= UINT32_MAX);
}

/* Reads the first fields of an Op, in their order. */
static int read_fields(PyObject *fields, int count, uint64_t n[10])
{
    static const struct { char bits, is_signed; } kinds_of[10] = {
        { 32, 1 }, { 64, 1 }, { 32, 1 }, { 64, 0 }, { 64, 0 }, { 32, 0 }, { 32, 0 }, { 32, 1 }, { 32, 1 }, { 64, 0 },
    };
    if (!PyTuple_CheckExact(fields) || PyTuple_Size(fields) != 10)
        return 0;
    for (int i = 0; i < count; i++)
        if (!is_field(fields, i, kinds_of[i].bits, kinds_of[i].is_signed, &n[i]))
            return 0;
    return 1;
}

/* 1 and the entry; 0: unusual, or no Op. */
static int is_usual(Queue *q, PyObject *op, struct entry *e)
{
    PyObject *fields = op_slot(op, OP_FIELDS), *address = op_slot(op, OP_ENTRY);
    uint64_t n[10];
    int usual = fields && address && PyLong_CheckExact(address);
    if (usual) {
        e->at = PyLong_AsUnsignedLongLong(address);
        usual = (e->at != UINT64_MAX || !PyErr_Occurred()) && read_fields(fields, e->at ? 2 : 10, n) &&
                is_plain(q, (int)n[0]) && !(n[1] & SPECIAL);
    }
    if (!usual)
        PyErr_Clear();
    if (usual && !e->at) {
        struct ur_sqe sqe = {
            .opcode = (uint8_t)n[0], .flags = (uint8_t)n[1], .ioprio = (uint16_t)(n[1] >> 8), .fd = (int32_t)n[2],
            .off = n[3], .addr = n[4], .len = (uint32_t)n[5], .op_flags = (uint32_t)n[6], .buf_index = (uint16_t)n[7],
            .personality = (uint16_t)(n[1] >> 24), .file_index = (int32_t)n[8], .addr3 = n[9],
        };
        *e = (struct entry){ (uintptr_t)&e->sqe, .sqe = sqe };
    }
    return usual;
}

/* Queues an operation; returns its request, a new reference. */
static PyObject *queue_op(Queue *q, PyObject *op, const struct entry *e)
{
    Request *r = request_of((PyObject *)q, q->serial + 1, op);
    if (!r)
        return NULL;
    q->serial++;
    if (queue(q, r, e) < 0)
        Py_CLEAR(r);
    return (PyObject *)r;
}

int usual_request(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Queue *q = n == 2 && !keywords ? is_ring(args[0]) : NULL;
    struct entry entry;
    if (!q || !is_free(q, 1) || !is_usual(q, args[1], &entry))
        return 0;
    *result = queue_op(q, args[1], &entry);
    return *result ? 1 : -1;
}

/* The usual case of a list of operations, which no other code has. */
int usual_many(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Queue *q = n == 2 && !keywords && PyList_CheckExact(args[1]) ? is_ring(args[0]) : NULL;
    Py_ssize_t count = q ? PyList_Size(args[1]) : 0, i;
    if (!q || !is_free(q, (uint64_t)count))
        return 0;
    struct entry *entries = PyMem_Calloc((size_t)count + 1, sizeof *entries);
    if (!entries) {
        PyErr_NoMemory();
        return -1;
    }
    for (i = 0; i < count; i++)
        if (!is_usual(q, PyList_GetItem(args[1], i), &entries[i])) {
            PyMem_Free(entries);
            return 0;
        }
    PyObject *made = PyList_New(count);
    for (i = 0; made && i < count; i++) {
        PyObject *request = queue_op(q, PyList_GetItem(args[1], i), &entries[i]);
        if (request)
            PyList_SetItem(made, i, request);
        else
            Py_CLEAR(made);
    }
    PyMem_Free(entries);
    *result = made;
    return made ? 1 : -1;
}

/* ---- the type ---- */

/* The objects that a queue owns. */
static PyObject **queue_member(Queue *q, int i)
{
    PyObject **members[] = { &q->kernel, &q->requests, &q->plain,    &q->guarded, &q->linking, &q->backlog,
                             &q->held,   &q->slots,    &q->decoding, &q->given,   &q->renamed, &q->batches };
    return i < (int)(sizeof members / sizeof *members) ? members[i] : NULL;
}

/* _attach(kernel, handle, put_packed, count, settle): the addresses of the ring and of the shim's functions, and their
 * owner. */
static PyObject *queue_attach(PyObject *self, PyObject *args)
{
    Queue *q = (Queue *)self;
    PyObject *kernel;
    unsigned long long handle, put_packed, count, settle;
    if (!PyArg_ParseTuple(args, "OKKKK", &kernel, &handle, &put_packed, &count, &settle))
        return NULL;
    PyObject *old = q->kernel;
    q->kernel = Py_NewRef(kernel);
    q->ring = (struct ur_ring *)(uintptr_t)handle;
    q->put_packed = (put_copy *)(uintptr_t)put_packed;
    q->count = (of_value *)(uintptr_t)count;
    q->settle = (of_value *)(uintptr_t)settle;
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static int queue_traverse(PyObject *self, visitproc visit, void *arg)
{
    PyObject **at;
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; (at = queue_member((Queue *)self, i)); i++)
        Py_VISIT(*at);
    return 0;
}

static int queue_clear(PyObject *self)
{
    PyObject **at;
    ((Queue *)self)->ring = NULL;
    for (int i = 0; (at = queue_member((Queue *)self, i)); i++)
        Py_CLEAR(*at);
    return 0;
}

static void queue_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    queue_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef queue_members[] = {
    { "_owner", T_LONGLONG, offsetof(Queue, owner), 0, NULL },
    { "_serial", T_ULONGLONG, offsetof(Queue, serial), 0, NULL },
    { "_chain", T_BOOL, offsetof(Queue, chain), 0, NULL },
    { "_drained", T_BOOL, offsetof(Queue, drained), 0, NULL },
    { "_requests", T_OBJECT_EX, offsetof(Queue, requests), 0, NULL },
    { "_plain", T_OBJECT_EX, offsetof(Queue, plain), 0, NULL },
    { "_guarded", T_OBJECT_EX, offsetof(Queue, guarded), 0, NULL },
    { "_linking", T_OBJECT_EX, offsetof(Queue, linking), 0, NULL },
    { "_backlog", T_OBJECT_EX, offsetof(Queue, backlog), 0, NULL },
    { "_held", T_OBJECT_EX, offsetof(Queue, held), 0, NULL },
    { "_slots", T_OBJECT_EX, offsetof(Queue, slots), 0, NULL },
    { "_decoding", T_OBJECT_EX, offsetof(Queue, decoding), 0, NULL },
    { "_given", T_OBJECT_EX, offsetof(Queue, given), 0, NULL },
    { "_renamed", T_OBJECT_EX, offsetof(Queue, renamed), 0, NULL },
    { "_batches", T_OBJECT_EX, offsetof(Queue, batches), 0, NULL },
    { "_late", T_ULONGLONG, offsetof(Queue, late), 0, NULL },
    { "_waking", T_INT, offsetof(Queue, waking), 0, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyMethodDef queue_methods[] = {
    { "_attach", queue_attach, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot queue_slots[] = {
    { Py_tp_dealloc, queue_dealloc },   { Py_tp_traverse, queue_traverse }, { Py_tp_clear, queue_clear },
    { Py_tp_members, queue_members },   { Py_tp_methods, queue_methods },   { 0, NULL },
};

static PyType_Spec queue_spec = {
    "uring.contexts.compiled.Queue", sizeof(Queue), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE, queue_slots,
};

int load_queue(PyObject *module)
{
    s_refused = PyUnicode_InternFromString("_refused");
    s_offset = PyUnicode_InternFromString("offset");
    s_request = PyUnicode_InternFromString("request");
    if (!s_refused || !s_offset || !s_request)
        return -1;
    queue_type = (PyTypeObject *)PyType_FromSpec(&queue_spec);
    return queue_type ? PyModule_AddObjectRef(module, "Queue", (PyObject *)queue_type) : -1;
}
