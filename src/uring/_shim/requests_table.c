/* The table of requests in flight, in which a completion finds its request. To Python it is a small mapping. */
#include "requests.h"

PyTypeObject *table_type;

enum { FIRST_PLACES = 64 };

/* Scatters the values, which count up: as long runs of neighbours, taking one out would move the others. */
static uint64_t home(const Table *t, uint64_t value) { return value * 0x9e3779b97f4a7c15ull >> 32 & t->mask; }

/* The place of a value, or the free one where it would go. */
static uint64_t find(const Table *t, uint64_t value)
{
    uint64_t i = home(t, value);
    while (t->places[i] && t->places[i]->value != value)
        i = (i + 1) & t->mask;
    return i;
}

static int grow(Table *t)
{
    uint64_t places = t->places ? 2 * (t->mask + 1) : FIRST_PLACES, before = t->places ? t->mask + 1 : 0;
    Request **old = t->places, **grown = PyMem_Calloc(places, sizeof *grown);
    if (!grown) {
        PyErr_NoMemory();
        return -1;
    }
    t->places = grown;
    t->mask = places - 1;
    for (uint64_t i = 0; i < before; i++)
        if (old[i])
            t->places[find(t, old[i]->value)] = old[i];
    PyMem_Free(old);
    return 0;
}

int table_add(Table *t, Request *request)
{
    if ((!t->places || 2 * (t->used + 1) > t->mask + 1) && grow(t) < 0)
        return -1;
    uint64_t i = find(t, request->value);
    Request *old = t->places[i];
    Py_INCREF((PyObject *)request);
    t->places[i] = request;
    t->used += !old;
    Py_XDECREF((PyObject *)old);
    return 0;
}

void table_expect(const Table *t, uint64_t value)
{
    const Request *r = t->used ? t->places[find(t, value)] : NULL;
    if (r) {
        __builtin_prefetch(&r->told, 1);
        __builtin_prefetch(&r->held, 1);
    }
}

Request *table_look(const Table *t, uint64_t value) { return t->used ? t->places[find(t, value)] : NULL; }

Request *table_take(Table *t, uint64_t value)
{
    if (!t->used)
        return NULL;
    uint64_t i = find(t, value);
    Request *taken_out = t->places[i];
    if (!taken_out)
        return NULL;
    t->places[i] = NULL;
    t->used--;
    /* Requests that had to go past the place that is free now move into it. */
    for (uint64_t j = (i + 1) & t->mask; t->places[j]; j = (j + 1) & t->mask) {
        if (((j - home(t, t->places[j]->value)) & t->mask) >= ((j - i) & t->mask)) {
            t->places[i] = t->places[j];
            t->places[j] = NULL;
            i = j;
        }
    }
    return taken_out;
}

/* 1 and the value; 0: not 64 bits, so that nothing is under it; -1: an exception is set. */
static int is_value(PyObject *key, uint64_t *value)
{
    *value = PyLong_AsUnsignedLongLong(key);
    if (*value != UINT64_MAX || !PyErr_Occurred())
        return 1;
    if (!PyErr_ExceptionMatches(PyExc_OverflowError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* The request under a key: borrowed, NULL for none or with an exception. */
static Request *look(PyObject *self, PyObject *key)
{
    Table *t = (Table *)self;
    uint64_t value;
    return is_value(key, &value) > 0 && t->used ? t->places[find(t, value)] : NULL;
}

static PyObject *table_get(PyObject *self, PyObject *key)
{
    PyObject *found = (PyObject *)look(self, key);
    if (!found && PyErr_Occurred())
        return NULL;
    return Py_NewRef(found ? found : Py_None);
}

static PyObject *table_pop(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    uint64_t value;
    if (count != 2)
        return PyErr_Format(PyExc_TypeError, "pop takes a value and a default");
    int known = is_value(args[0], &value);
    if (known < 0)
        return NULL;
    PyObject *found = known ? (PyObject *)table_take((Table *)self, value) : NULL;
    return found ? found : Py_NewRef(args[1]);
}

static int table_set(PyObject *self, PyObject *key, PyObject *request)
{
    uint64_t value;
    int known = is_value(key, &value);
    if (known < 0)
        return -1;
    if (!request) {
        PyObject *gone = known ? (PyObject *)table_take((Table *)self, value) : NULL;
        if (!gone)
            PyErr_SetObject(PyExc_KeyError, key);
        Py_XDECREF(gone);
        return gone ? 0 : -1;
    }
    if (!Py_IS_TYPE(request, request_type) || !known || ((Request *)request)->value != value) {
        PyErr_SetString(PyExc_TypeError, "a request is kept under its value");
        return -1;
    }
    return table_add((Table *)self, (Request *)request);
}

static int table_contains(PyObject *self, PyObject *key)
{
    return look(self, key) ? 1 : PyErr_Occurred() ? -1 : 0;
}

static Py_ssize_t table_length(PyObject *self) { return (Py_ssize_t)((Table *)self)->used; }

static int table_traverse(PyObject *self, visitproc visit, void *arg)
{
    Table *t = (Table *)self;
    Py_VISIT(Py_TYPE(self));
    for (uint64_t i = 0; t->places && i <= t->mask; i++)
        Py_VISIT(t->places[i]);
    return 0;
}

static int table_clear(PyObject *self)
{
    Table *t = (Table *)self;
    Request **places = t->places;
    uint64_t mask = t->mask;
    t->places = NULL; /* before any reference goes: that may run code which looks here */
    t->mask = t->used = 0;
    for (uint64_t i = 0; places && i <= mask; i++)
        Py_XDECREF((PyObject *)places[i]);
    PyMem_Free(places);
    return 0;
}

static void table_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    table_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMethodDef table_methods[] = {
    { "get", table_get, METH_O, "The request under a value, or None." },
    { "pop", (PyCFunction)(void (*)(void))table_pop, METH_FASTCALL, "Takes it out: the request, or the default." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot table_slots[] = {
    { Py_tp_dealloc, table_dealloc },    { Py_tp_traverse, table_traverse },   { Py_tp_clear, table_clear },
    { Py_tp_methods, table_methods },    { Py_mp_length, table_length },       { Py_mp_ass_subscript, table_set },
    { Py_sq_contains, table_contains },  { 0, NULL },
};

static PyType_Spec table_spec = {
    "uring.contexts.compiled.Table", sizeof(Table), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, table_slots,
};

int load_table(PyObject *module)
{
    table_type = (PyTypeObject *)PyType_FromSpec(&table_spec);
    return table_type ? PyModule_AddObjectRef(module, "Table", (PyObject *)table_type) : -1;
}
