/* Completions of 16 bytes as objects, as `uring.session.delivery` makes them of a cycle. */
#include "handles.h"

enum {
    AT_ONCE = 128,
    MORE = 2,
    AHEAD = 2, /* what the kernel copied has driven the requests out of the cache */
};

static newfunc tuple_new; /* NULL where an instance may be filled in by hand */
static size_t items_at;   /* where the items lie in a tuple */

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

/* One completion as a new reference; ends its request. */
static PyObject *deliver(Table *requests, PyTypeObject *kind, const struct ur_cqe *cqe)
{
    Request *r = table_take(requests, cqe->user_data); /* its reference goes into the completion */
    PyObject *told = NULL;
    if (r && (cqe->flags & MORE) && table_add(requests, r) < 0) {
        Py_DECREF(r);
        return NULL;
    }
    PyObject *number = PyLong_FromLong(cqe->res);
    if (r && request_complete(r, number, cqe->res, cqe->flags, &told) < 0) {
        Py_XDECREF(number);
        Py_DECREF(r);
        return NULL;
    }
    PyObject *items[7] = { PyLong_FromUnsignedLongLong(cqe->user_data), number,
                           PyLong_FromUnsignedLong(cqe->flags), (PyObject *)r };
    if (r && !told)
        return completion(kind, items, 4);
    if (!r)
        return completion(kind, items, 3);
    items[3] = PyLong_FromLong(0);
    items[4] = PyLong_FromLong(0);
    items[5] = told;
    items[6] = (PyObject *)r;
    return completion(kind, items, 7);
}

/* _deliver(kind, n): the completions of the last cycle. */
int usual_deliver(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    if (n != 3 || keywords || !PyType_Check(args[1]) || !PyObject_TypeCheck(args[0], queue_type))
        return 0;
    Queue *q = (Queue *)args[0];
    PyTypeObject *kind = (PyTypeObject *)args[1];
    Py_ssize_t count = PyLong_AsSsize_t(args[2]);
    if (!q->ring || q->ring->out_size != sizeof(struct ur_cqe) || !PyType_IsSubtype(kind, &PyTuple_Type) ||
        !q->requests || !Py_IS_TYPE(q->requests, table_type) || count < 0 || count > q->ring->out_cap) {
        PyErr_Clear();
        return 0;
    }
    /* Copied, because a garbage collection may run code that waits on this ring. */
    struct ur_cqe few[AT_ONCE], *cqes = count > AT_ONCE ? PyMem_Malloc((size_t)count * sizeof *cqes) : few;
    if (!cqes) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(cqes, q->ring->out, (size_t)count * sizeof *cqes);
    PyObject *requests = Py_NewRef(q->requests), *made = PyList_New(count);
    for (Py_ssize_t i = 0; made && i < count; i++) {
        if (i + AHEAD < count)
            table_expect((Table *)requests, cqes[i + AHEAD].user_data);
        PyObject *cqe = deliver((Table *)requests, kind, &cqes[i]);
        if (cqe)
            PyList_SetItem(made, i, cqe);
        else
            Py_CLEAR(made);
    }
    if (cqes != few)
        PyMem_Free(cqes);
    Py_DECREF(requests);
    *result = made;
    return made ? 1 : -1;
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
