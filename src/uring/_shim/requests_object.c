/* A request as an object. `uring.contexts.requests` adds the methods that are in Python. */
#include "requests.h"

PyTypeObject *request_type;
PyObject *taken, *meaning_of, *op_class;

/* The offsets of the slots of an Op. */
static size_t op_at[OP_SLOTS];

/* ---- operations ---- */

static const char *const op_names[OP_SLOTS] = { "name", "fields", "decode", "entry" };

/* Borrowed. */
PyObject *op_slot(PyObject *op, enum op_slot slot)
{
    if (!op_class || !PyObject_TypeCheck(op, (PyTypeObject *)op_class))
        return NULL;
    return *(PyObject **)((char *)op + op_at[slot]);
}

/* Finds the offset of a slot by putting an object there that no other slot has: 0 for nowhere. */
static size_t find_slot(PyObject *probe, const char *name, size_t size)
{
    PyObject *marker = PyList_New(0);
    size_t at = 0;
    if (marker && PyObject_SetAttrString(probe, name, marker) == 0)
        for (size_t i = sizeof(PyObject); i + sizeof(PyObject *) <= size; i += sizeof(PyObject *))
            if (*(PyObject **)((char *)probe + i) == marker)
                at = i;
    Py_XDECREF(marker);
    return at;
}

static int find_slots(PyObject *class)
{
    PyObject *probe = PyObject_CallFunction(class, "s()", "probe"), *number = NULL;
    size_t size = 0;
    if (probe && (number = PyObject_GetAttrString(class, "__basicsize__")))
        size = PyLong_AsSize_t(number);
    int found = probe && !PyErr_Occurred();
    for (int i = 0; found && i < OP_SLOTS; i++)
        found = (op_at[i] = find_slot(probe, op_names[i], size)) != 0;
    if (!found && !PyErr_Occurred())
        PyErr_SetString(PyExc_ImportError, "the slots of an Op are not where they are expected");
    Py_XDECREF(number);
    Py_XDECREF(probe);
    return found ? 0 : -1;
}

/* ---- making ---- */

/* Memory of requests that have gone, for the next ones. */
enum { MOST_SPARES = 128 };
static Request *spare[MOST_SPARES];
static int spares;

/* Everything but the object's head and its two owners is zero. */
static Request *allocate(PyObject *ring, uint64_t value)
{
    Request *r = spares ? (Request *)PyObject_Init((PyObject *)spare[--spares], request_type)
                        : PyObject_GC_New(Request, request_type);
    if (!r)
        return NULL;
    memset((char *)r + sizeof(PyObject), 0, sizeof *r - sizeof(PyObject));
    r->ring = Py_NewRef(ring);
    r->value = value;
    r->flying = 1;
    return r;
}

Request *request_of(PyObject *ring, uint64_t value, PyObject *op)
{
    PyObject *name = op_slot(op, OP_NAME), *fields = op_slot(op, OP_FIELDS), *decode = op_slot(op, OP_DECODE);
    if (!name || !fields || !decode) {
        PyErr_Format(PyExc_AttributeError, "a request is of an Op");
        return NULL;
    }
    Request *r = allocate(ring, value);
    if (!r)
        return NULL;
    r->name = Py_NewRef(name);
    r->fields = Py_NewRef(fields);
    r->decodes = decode != Py_None;
    r->held = Py_NewRef(op);
    PyObject_GC_Track((PyObject *)r);
    return r;
}

Request *request_bare(PyObject *ring, uint64_t value, const struct kind *kind)
{
    Request *r = allocate(ring, value);
    if (!r)
        return NULL;
    r->kind = kind;
    r->fd = -1;
    PyObject_GC_Track((PyObject *)r);
    return r;
}

static PyObject *request_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = { "ring", "value", "op", NULL };
    PyObject *ring, *number, *op;
    (void)type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:Request", names, &ring, &number, &op))
        return NULL;
    unsigned long long value = PyLong_AsUnsignedLongLong(number);
    if (value == UINT64_MAX && PyErr_Occurred())
        return NULL;
    return (PyObject *)request_of(ring, value, op);
}

/* ---- name, fields, operation ---- */

static PyObject *get_name(PyObject *self, void *closure)
{
    Request *r = (Request *)self;
    (void)closure;
    return r->kind ? PyUnicode_InternFromString(r->kind->name) : Py_NewRef(r->name);
}

static PyObject *get_fields(PyObject *self, void *closure)
{
    Request *r = (Request *)self;
    (void)closure;
    return r->kind ? Py_BuildValue("iiiKKIiiii", r->kind->opcode, 0, (int)r->fd, (unsigned long long)r->off,
                                   (unsigned long long)r->addr, (unsigned int)r->len, 0, 0, 0, 0)
                   : Py_NewRef(r->fields);
}

/* The operation in flight, None when it has ended. A request that was made here has no Op: an equal one is made, which
 * keeps the request. A new reference. */
static PyObject *get_op(PyObject *self, void *closure)
{
    Request *r = (Request *)self;
    (void)closure;
    if (!r->flying)
        Py_RETURN_NONE;
    if (!r->kind)
        return Py_NewRef(r->held);
    PyObject *name = get_name(self, NULL), *fields = name ? get_fields(self, NULL) : NULL;
    PyObject *op = fields ? PyObject_CallFunctionObjArgs(op_class, name, fields, self, NULL) : NULL;
    Py_XDECREF(name);
    Py_XDECREF(fields);
    return op;
}

static int set_op(PyObject *self, PyObject *value, void *closure)
{
    (void)closure;
    if (value != Py_None) {
        PyErr_SetString(PyExc_TypeError, "the operation of a request ends, and does not change");
        return -1;
    }
    request_end((Request *)self);
    return 0;
}

/* ---- its end ---- */

/* Takes the reference to the owner of a buffer, which is all that is kept: bytearray and memoryview count their buffers
 * and read nothing else. */
static void release_memory(PyObject *owner)
{
    Py_buffer memory = { .obj = owner };
    PyBuffer_Release(&memory);
}

void request_end(Request *r)
{
    PyObject *held = r->held;
    r->flying = 0;
    r->held = NULL; /* before it goes: that may run code which looks here */
    if (held && r->kind)
        release_memory(held);
    else
        Py_XDECREF(held);
}

/* A new reference, or NULL, with an exception or where the number is all. */
static PyObject *meaning(Request *r, int32_t res)
{
    PyObject *told;
    if (!r->kind) {
        told = PyObject_CallFunction(meaning_of, "Oi", r->held, (int)res);
    } else {
        PyObject *name = get_name((PyObject *)r, NULL), *fields = name ? get_fields((PyObject *)r, NULL) : NULL;
        told = fields ? Py_BuildValue("OOO()", name, fields, Py_None) : NULL;
        Py_XDECREF(name);
        Py_XDECREF(fields);
    }
    if (told != Py_None)
        return told;
    Py_DECREF(told);
    return NULL;
}

/* Owned by the request. */
static void exchange(PyObject **at, PyObject *value)
{
    PyObject *old = *at;
    *at = Py_XNewRef(value);
    Py_XDECREF(old);
}

/* `*told` is a new reference; see handles.h. */
int request_meaning(Request *r, int32_t res, PyObject **told)
{
    *told = res < 0 || r->decodes ? meaning(r, res) : NULL;
    return !*told && (res < 0 || r->decodes) && PyErr_Occurred() ? -1 : 0;
}

void request_complete(Request *r, PyObject *number, PyObject *told, int32_t res, uint32_t flags)
{
    r->flags = flags;
    if (!(flags & 8)) { /* CQE_F_NOTIF: without a result */
        r->res = res;
        exchange(&r->number, number);
        exchange(&r->told, told);
    }
    if (!(flags & 2)) /* CQE_F_MORE */
        request_end(r);
}

static PyObject *complete(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "_complete takes 2 arguments");
    long res = PyLong_AsLong(args[0]);
    unsigned long flags = res == -1 && PyErr_Occurred() ? 0 : PyLong_AsUnsignedLong(args[1]);
    PyObject *told;
    if (PyErr_Occurred() || request_meaning((Request *)self, (int32_t)res, &told) < 0)
        return NULL;
    request_complete((Request *)self, NULL, told, (int32_t)res, (uint32_t)flags);
    return told ? told : Py_NewRef(Py_None);
}

static Request *alone(PyObject *const *args, Py_ssize_t n, PyObject *keywords)
{
    return n == 1 && !keywords && Py_IS_TYPE(args[0], request_type) ? (Request *)args[0] : NULL;
}

int usual_result(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Request *r = alone(args, n, keywords);
    if (!r || r->flying || r->told || r->res < 0)
        return 0;
    if (!(*result = r->number ? r->number : PyLong_FromLong(r->res)))
        return -1;
    r->number = NULL;
    r->told = Py_NewRef(taken);
    return 1;
}

int usual_done(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    Request *r = alone(args, n, keywords);
    if (!r)
        return 0;
    *result = PyBool_FromLong(!r->flying);
    return 1;
}

/* ---- the type ---- */

static int request_traverse(PyObject *self, visitproc visit, void *arg)
{
    Request *r = (Request *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->ring);
    Py_VISIT(r->told);
    Py_VISIT(r->held);
    if (!r->kind)
        Py_VISIT(r->fields);
    return 0;
}

/* Keeps what a request in flight holds: the kernel may still write there. One that has ended holds nothing. */
static int request_clear(PyObject *self)
{
    Request *r = (Request *)self;
    Py_CLEAR(r->ring);
    Py_CLEAR(r->told);
    return 0;
}

static void request_dealloc(PyObject *self)
{
    Request *r = (Request *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (r->weakrefs)
        PyObject_ClearWeakRefs(self);
    /* A request in flight in no table is of a chain that was left, or made by hand: it has an Op, which is released
     * with its memory. A buffer of a request without an Op is leaked: the kernel has its address. */
    if (!r->kind) {
        Py_XDECREF(r->held);
        Py_XDECREF(r->name);
        Py_XDECREF(r->fields);
    }
    Py_XDECREF(r->ring);
    Py_XDECREF(r->told);
    Py_XDECREF(r->number);
    if (spares < MOST_SPARES)
        spare[spares++] = r;
    else
        PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef request_members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(Request, weakrefs), READONLY, NULL },
    { "_ring", T_OBJECT, offsetof(Request, ring), READONLY, NULL },
    { "_told", T_OBJECT, offsetof(Request, told), 0, NULL },
    { "value", T_ULONGLONG, offsetof(Request, value), READONLY, NULL },
    { "res", T_INT, offsetof(Request, res), 0, NULL },
    { "flags", T_UINT, offsetof(Request, flags), 0, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyGetSetDef request_getset[] = {
    { "name", get_name, NULL, NULL, NULL },
    { "fields", get_fields, NULL, NULL, NULL },
    { "_op", get_op, set_op, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef request_methods[] = {
    { "_complete", (PyCFunction)(void (*)(void))complete, METH_FASTCALL, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot request_slots[] = {
    { Py_tp_new, request_new },          { Py_tp_dealloc, request_dealloc }, { Py_tp_traverse, request_traverse },
    { Py_tp_clear, request_clear },      { Py_tp_members, request_members }, { Py_tp_getset, request_getset },
    { Py_tp_methods, request_methods },  { 0, NULL },
};

static PyType_Spec request_spec = {
    "uring.contexts.requests.Request", sizeof(Request), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, request_slots,
};

/* describe(taken, meaning_of, op_class): sets the objects of Python that the type uses. */
static PyObject *describe(PyObject *module, PyObject *args)
{
    PyObject *given[3], **at[] = { &taken, &meaning_of, &op_class };
    (void)module;
    if (!PyArg_ParseTuple(args, "OOO!", &given[0], &given[1], &PyType_Type, &given[2]) || find_slots(given[2]) < 0)
        return NULL;
    for (int i = 0; i < 3; i++) {
        PyObject *old = *at[i];
        *at[i] = Py_NewRef(given[i]);
        Py_XDECREF(old);
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "describe", describe, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

int load_request(PyObject *module)
{
    request_type = (PyTypeObject *)PyType_FromSpec(&request_spec);
    if (!request_type || PyModule_AddObjectRef(module, "Request", (PyObject *)request_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
