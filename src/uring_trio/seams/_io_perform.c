/* `perform`, as a call: one request under an operation of its own, from one taken out of the run's table to its return.
 *
 * A request is usual if the table has a free operation and the queue has room, and if it is a plain `Op`. Everything
 * else is the coroutine's: an entry with a command, flags that are refused, a deadline that is near, a scope that is
 * cancelled, another run.
 *
 * Invariants
 *  - The operation has the pins before the kernel can see the entry. From then on the call has none of them.
 *  - An operation that is in flight is not given back: `Engine.release` looks.
 */
#include "_io.h"

#include <limits.h>

/* Where the fields lie in instances of `Op`, and those of our Operation that only requests have. */
enum request_field {
    P_FIELDS, P_DECODE, P_ADDRESS, P_PATHS, P_NAME, P_PINS, P_DISCARD, P_COMMAND, O_NAME, O_FD, O_DISCARD,
    REQUEST_FIELDS
};
/* The first four are what a call keeps, in this order. */
_Static_assert(P_PATHS + 1 == PARTS, "a call has a place for each");

static const long long GENERATION = 1LL << 24, USER_DATA_MASK = (1LL << 60) - 1; /* as in uring.kernel.inflight */

/* Set once, by `describe_requests`. References are owned for ever. */
static struct {
    PyObject *op_type;
    PyObject *fail;    /* raises the exception of a negative result */
    PyObject *decode;  /* makes the result of any other, protected from Ctrl-C */
    PyObject *release; /* gives an operation back, unless it is in flight */
    long long refused; /* flags of an entry */
    Py_ssize_t at[REQUEST_FIELDS];
    int ready;
} requests;

struct entry {
    long long opcode, flags, fd, buf_index, file_index;
    unsigned long long off, addr, length, op_flags, addr3;
};

/* ---- the entry ---- */

/* Whether a field is a number within bounds, which goes to *value. */
static int get_signed(PyObject *fields, Py_ssize_t at, long long least, long long most, long long *value)
{
    PyObject *number = PyTuple_GetItem(fields, at);
    if (!number || !PyLong_Check(number))
        return 0;
    *value = PyLong_AsLongLong(number);
    return *value >= least && *value <= most;
}

static int get_unsigned(PyObject *fields, Py_ssize_t at, unsigned long long most, unsigned long long *value)
{
    PyObject *number = PyTuple_GetItem(fields, at);
    if (!number || !PyLong_Check(number))
        return 0;
    int over;
    long long fast = PyLong_AsLongLongAndOverflow(number, &over);
    *value = over || fast < 0 ? PyLong_AsUnsignedLongLong(number) : (unsigned long long)fast;
    return *value <= most;
}

/* The numbers of an operation's fields; 0: they are for the coroutine to refuse. */
static int get_entry(PyObject *fields, struct entry *e)
{
    if (!PyTuple_CheckExact(fields) || PyTuple_Size(fields) != 10)
        return 0;
    int fit = get_signed(fields, 0, INT_MIN, INT_MAX, &e->opcode) &&
              get_signed(fields, 1, LLONG_MIN, LLONG_MAX, &e->flags) &&
              get_signed(fields, 2, INT_MIN, INT_MAX, &e->fd) &&
              get_unsigned(fields, 3, ULLONG_MAX, &e->off) &&
              get_unsigned(fields, 4, ULLONG_MAX, &e->addr) &&
              get_unsigned(fields, 5, UINT32_MAX, &e->length) &&
              get_unsigned(fields, 6, UINT32_MAX, &e->op_flags) &&
              get_signed(fields, 7, INT_MIN, INT_MAX, &e->buf_index) &&
              get_signed(fields, 8, INT_MIN, INT_MAX, &e->file_index) &&
              get_unsigned(fields, 9, ULLONG_MAX, &e->addr3);
    if (!PyErr_Occurred())
        return fit;
    PyErr_Clear();
    return 0;
}

/* Queues an entry: 0, or negative with nothing done. What has a descriptor is submitted too: nothing but the kernel
 * keeps the file of one that another task may close. */
static int queue(Ticks *t, uint64_t user_data, const struct entry *e)
{
    PyThreadState *state = e->fd < 0 ? NULL : PyEval_SaveThread();
    int err = t->put(t->ring, user_data, (int)e->opcode, (int64_t)e->flags, (int)e->fd, e->off, e->addr,
                     (uint32_t)e->length, (uint32_t)e->op_flags, (int)e->buf_index, (int)e->file_index, e->addr3);
    if (!state)
        return err;
    if (!err)
        t->flush(t->ring, 0);
    PyEval_RestoreThread(state);
    return err;
}

/* ---- the operation ---- */

/* A free operation, which stays in the table, borrowed; NULL: the coroutine has to find one. */
static PyObject *next_free(Ticks *t)
{
    Py_ssize_t n = PyList_Size(t->free);
    PyObject *op = n > 0 ? PyList_GetItem(t->free, n - 1) : NULL;
    if (!op || (PyObject *)Py_TYPE(op) != t->operation_type || near_deadline(t, op) || t->space(t->ring) < 1)
        return NULL;
    return op;
}

static void copy(PyObject *to, Py_ssize_t at, PyObject *value)
{
    Py_INCREF(value);
    put(to, at, value);
}

/* Gives an operation back that nothing is in flight under, as `Table.release` does: 0, or -1. */
static int give_back(Ticks *t, PyObject *op)
{
    long long before = user_data_of(t, op);
    PyObject *next = before < 0 ? NULL : PyLong_FromLongLong((before + GENERATION) & USER_DATA_MASK);
    if (!next)
        return -1;
    put(op, t->at[O_USER_DATA], next);
    put_none(op, t->at[O_PINS]);
    put_none(op, requests.at[O_DISCARD]);
    return PyList_Append(t->free, op);
}

/* ---- the call ---- */

/* Puts what a request needs into an operation that was taken out of the table, and queues it. 1; 0: nothing was done;
 * -1. */
static int start(Ticks *t, PyObject *op, PyObject *request, const struct entry *e)
{
    copy(op, requests.at[O_NAME], *field(request, requests.at[P_NAME]));
    copy(op, requests.at[O_FD], PyTuple_GetItem(*field(request, requests.at[P_FIELDS]), 2));
    copy(op, t->at[O_PINS], *field(request, requests.at[P_PINS]));
    copy(op, requests.at[O_DISCARD], *field(request, requests.at[P_DISCARD]));
    long long user_data = user_data_of(t, op);
    if (user_data >= 0 && queue(t, (uint64_t)user_data, e) >= 0)
        return 1;
    return give_back(t, op);
}

static int begin_perform(Call *c, Ticks *t, PyObject **message)
{
    PyObject *request = c->self, *op;
    struct entry e;
    if (!requests.ready || (PyObject *)Py_TYPE(request) != requests.op_type || !passes(t))
        return 0;
    for (int i = 0; i < PARTS; i++)
        if (!*field(request, requests.at[i]))
            return 0; /* made without its constructor */
    PyObject *command = *field(request, requests.at[P_COMMAND]);
    if (!PyBytes_CheckExact(command) || PyBytes_Size(command) ||
        !get_entry(*field(request, requests.at[P_FIELDS]), &e) || e.flags & requests.refused || !(op = next_free(t)))
        return 0;
    Py_INCREF(op);
    Py_ssize_t n = PyList_Size(t->free);
    int started = PyList_SetSlice(t->free, n - 1, n, NULL) < 0 ? -1 : start(t, op, request, &e);
    if (started <= 0) {
        Py_DECREF(op);
        return started;
    }
    c->owner = op;
    Py_INCREF((PyObject *)t);
    c->receive = (PyObject *)t;
    for (int i = 0; i < PARTS; i++) {
        c->kept[i] = *field(request, requests.at[i]);
        Py_INCREF(c->kept[i]);
    }
    Py_INCREF(Py_None);
    c->self = Py_None;
    Py_DECREF(request); /* which pins too */
    copy(op, t->at[O_TASK], task_here);
    *message = *field(op, io.at[O_PARK]);
    Py_INCREF(*message);
    return 1;
}

static int end_perform(Call *c, PyObject *got, PyObject **result)
{
    Ticks *t = (Ticks *)c->receive;
    if (check_woken(got) < 0)
        return -1;
    PyObject *op = c->owner, *number = *field(op, t->at[O_RES]), *name = *field(op, requests.at[O_NAME]);
    long res = PyLong_AsLong(number);
    if (res == -1 && PyErr_Occurred())
        return -1;
    c->owner = NULL;
    Py_INCREF(number);
    Py_INCREF(name);
    if (give_back(t, op) < 0)
        *result = NULL;
    else if (res < 0)
        *result = PyObject_CallFunctionObjArgs(requests.fail, number, name, c->kept[P_FIELDS], c->kept[P_ADDRESS],
                                               c->kept[P_PATHS], NULL);
    else if (c->kept[P_DECODE] != Py_None)
        *result = PyObject_CallFunctionObjArgs(requests.decode, c->kept[P_DECODE], number, NULL);
    else {
        *result = number;
        Py_INCREF(number);
    }
    Py_DECREF(op);
    Py_DECREF(number);
    Py_DECREF(name);
    return *result ? 1 : -1;
}

/* It was interrupted, closed or thrown away. */
static void leave_perform(Call *c)
{
    PyObject *type, *exc, *traceback;
    PyErr_Fetch(&type, &exc, &traceback);
    PyObject *none = PyObject_CallFunctionObjArgs(requests.release, c->owner, NULL);
    if (!none)
        PyErr_Clear(); /* the collector has taken the run apart */
    Py_XDECREF(none);
    PyErr_Restore(type, exc, traceback);
}

const struct kind kind_perform = { "perform", 0, begin_perform, end_perform, leave_perform, NULL };

/* describe_requests(op_type, fail, decode, release, refused, offsets): everything in `requests`, once. */
static PyObject *describe_requests(PyObject *module, PyObject *args)
{
    PyObject *op_type, *fail, *decode, *release, *offsets;
    long long refused;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOLO!", &op_type, &fail, &decode, &release, &refused, &PyTuple_Type, &offsets))
        return NULL;
    if (read_once(requests.ready, offsets, requests.at, REQUEST_FIELDS) < 0)
        return NULL;
    keep(&requests.op_type, op_type);
    keep(&requests.fail, fail);
    keep(&requests.decode, decode);
    keep(&requests.release, release);
    requests.refused = refused;
    requests.ready = 1;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "describe_requests", describe_requests, METH_VARARGS, "Says what a request is and where its fields lie." },
    { NULL, NULL, 0, NULL },
};

int load_io_perform(PyObject *module) { return PyModule_AddFunctions(module, functions); }
