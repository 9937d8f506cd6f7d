/* Receiving and sending of sockets and the streams on them, as calls.
 *
 * A receive is usual where the socket's reader is set up to receive that many bytes into provided buffers, which a
 * `Receive` holds the addresses of; a send, where the socket takes data at once. Everything else is the coroutine's:
 * another size, a flag, a socket that streams, a deadline that is near, a scope that is cancelled, another run.
 *
 * Invariants
 *  - An `Fd` whose `receive_size` is the very object that its `Receive` was made with has its reader set up as
 *    that says.
 *  - A buffer goes back to the kernel once its bytes are copied, whatever becomes of the copy.
 *  - Data that was sent is never sent again: nothing fails between send(2) and the message.
 */
#include "_io.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

enum {
    STREAMING = 16384,  /* as in uring_trio.core.buffers */
    SHORT = 16384,      /* bytes that are sent without letting other threads run meanwhile */
    LENGTH_MAX = 0x7ffff000,
};

/* Not in the limited API, though every CPython exports it. */
PyAPI_FUNC(int) _PyBytes_Resize(PyObject **, Py_ssize_t);

typedef struct {
    PyObject_HEAD
    Ticks *ticks;
    PyObject *op, *size;
    PyObject *template, *buffers; /* what the addresses belong to */
    long long number;             /* the size */
    void *ring, *entry, *group;
    const char *memory;
    long long each;               /* bytes of a buffer */
    long count;                   /* of buffers */
    int fd;
    int (*space)(void *), (*queue)(void *), (*recycle)(void *, int);
} Receive;

static PyTypeObject *receive_type;
static PyObject *s_shut;

/* ---- sockets ---- */

/* The descriptor of a socket of the standard library; -1: it is closed. See `describe_sockets` in calls.py. */
static inline int descriptor(PyObject *plain) { return *(int *)((char *)plain + sizeof(PyObject)); }

/* The socket of a call, owned; NULL without an exception: it is none of ours, or not as usual. */
static PyObject *socket_of(Call *c)
{
    PyObject *sock = c->self, *plain;
    if (c->method->socket)
        sock = PyObject_GetAttr(sock, c->method->socket);
    else
        Py_INCREF(sock);
    if (sock && (PyObject *)Py_TYPE(sock) == io.socket_type && (plain = *field(sock, io.at[S_PLAIN])) &&
        (PyObject *)Py_TYPE(plain) == io.plain_type)
        return sock;
    PyErr_Clear();
    Py_XDECREF(sock);
    return NULL;
}

/* Whether an attribute is there and is that object. */
static int attribute_is(PyObject *obj, PyObject *name, PyObject *what)
{
    PyObject *value = PyObject_GetAttr(obj, name);
    Py_XDECREF(value);
    PyErr_Clear();
    return value == what;
}

/* The object with the flag that tells whether a task is here, owned, if none is; NULL: one is, or there is none. */
static PyObject *free_guard(Call *c)
{
    PyObject *guard = PyObject_GetAttr(c->self, c->method->guard);
    if (guard && attribute_is(guard, c->method->flag, Py_False))
        return guard;
    PyErr_Clear();
    Py_XDECREF(guard);
    return NULL;
}

/* Takes the guard, if the method has one: 1, or 0 with nothing done. */
static int enter(Call *c)
{
    if (!c->method->flag)
        return 1;
    PyObject *guard = NULL;
    if (c->method->guard) {
        guard = free_guard(c);
    } else if (attribute_is(c->self, c->method->flag, Py_False)) {
        guard = c->self;
        Py_INCREF(guard);
    }
    if (!guard || PyObject_SetAttr(guard, c->method->flag, Py_True) < 0) {
        PyErr_Clear();
        Py_XDECREF(guard);
        return 0;
    }
    c->guard = guard;
    return 1;
}

/* Gives up in `begin`: as if nothing had been done. */
static int give_up(Call *c)
{
    if (c->guard) {
        PyObject *guard = c->guard;
        c->guard = NULL;
        int ret = PyObject_SetAttr(guard, c->method->flag, Py_False);
        Py_DECREF(guard);
        return ret;
    }
    return 0;
}

/* ---- receiving ---- */

/* Whether the kernel is to hold this task's deadline, or might have to. */
static int near_deadline(Ticks *t, PyObject *op)
{
    PyObject *reach = *field(op, io.at[O_REACH]), *heap = *field(t->deadlines, t->at[D_HEAP]);
    if (reach == Py_None || !PyList_Size(heap))
        return 0;
    PyObject *first = PyTuple_GetItem(PyList_GetItem(heap, 0), 0);
    int near = !first || PyFloat_AsDouble(first) <= PyFloat_AsDouble(reach) + now();
    PyErr_Clear();
    return near;
}

static int is_size(Receive *r, PyObject *size)
{
    if (size == r->size)
        return 1;
    if (!PyLong_CheckExact(size))
        return 0;
    int over;
    return PyLong_AsLongLongAndOverflow(size, &over) == r->number && !over;
}

/* How this socket receives in C, borrowed; NULL: not in this run. */
static Receive *receive_of(Ticks *t, PyObject *sock, PyObject *owner)
{
    if (!owner || (PyObject *)Py_TYPE(owner) != io.fd_type)
        return NULL;
    Receive *r = (Receive *)*field(owner, io.at[F_RECEIVE]);
    if (!r || Py_TYPE((PyObject *)r) != receive_type || r->ticks != t || *field(owner, io.at[F_READER]) != r->op ||
        *field(r->op, t->at[O_TASK]) != Py_None)
        return NULL;
    return descriptor(*field(sock, io.at[S_PLAIN])) == r->fd ? r : NULL;
}

/* Waits for data, without memory for it. */
static int begin_waiting(Call *c, Ticks *t, Receive *r, PyObject *size, PyObject **message)
{
    if (*field(c->owner, io.at[F_RECEIVE_SIZE]) != r->size || !is_size(r, size) || near_deadline(t, r->op) ||
        r->space(r->ring) < 1 || !enter(c))
        return 0;
    if (r->queue(r->entry) < 0)
        return give_up(c);
    Py_INCREF(task_here);
    put(r->op, t->at[O_TASK], task_here);
    *message = *field(r->op, io.at[O_PARK]);
    Py_INCREF(*message);
    return 1;
}

/* recv(2) without waiting: how many bytes, in c->data; or a negative errno. */
static long receive_now(Call *c, int fd, Py_ssize_t size)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (!data) {
        PyErr_Clear();
        return -EINTR; /* the coroutine finds out */
    }
    char *memory = PyBytes_AsString(data);
    PyThreadState *state = PyEval_SaveThread();
    long got = recv(fd, memory, (size_t)size, 0);
    if (got < 0)
        got = -errno;
    PyEval_RestoreThread(state);
    if (got < 0) {
        Py_DECREF(data);
        return got;
    }
    if (_PyBytes_Resize(&data, got) < 0) {
        PyErr_Clear();
        return -ENOMEM;
    }
    c->data = data;
    return got;
}

/* A flow of data: more is likely to be there already. */
static int begin_streaming(Call *c, Ticks *t, Receive *r, PyObject *size, PyObject **message)
{
    int over = 1;
    long long most = PyLong_CheckExact(size) ? PyLong_AsLongLongAndOverflow(size, &over) : 0;
    if (over || most < 1 || most > LENGTH_MAX || *field(c->owner, io.at[F_RECEIVING]) != Py_None || !enter(c))
        return 0;
    long got = receive_now(c, r->fd, (Py_ssize_t)most);
    if (got == -EINTR)
        return give_up(c);
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        PyErr_Clear();
    if (got < STREAMING) {
        Py_INCREF(Py_False);
        put(c->socket, io.at[S_STREAMING], Py_False);
    }
    if (got == -EAGAIN) {
        PyObject *again = PyLong_FromLong(got);
        int ret = again ? go_on(c, again) : -1;
        Py_XDECREF(again);
        return ret;
    }
    c->sent = got < 0 ? got : 0;
    *message = t->yield_message;
    Py_INCREF(*message);
    return 1;
}

static int begin_receive(Call *c, Ticks *t, PyObject **message)
{
    PyObject *size = c->arg && c->arg != Py_None ? c->arg : c->method->usual;
    if (!size || (c->method->unread && !attribute_is(c->self, c->method->unread, Py_None)) || !passes(t) ||
        !(c->socket = socket_of(c)))
        return 0;
    PyObject *owner = *field(c->socket, io.at[S_OWNER]);
    Receive *r = receive_of(t, c->socket, owner);
    if (!r)
        return 0;
    Py_INCREF(owner);
    c->owner = owner;
    c->receive = (PyObject *)r;
    Py_INCREF(c->receive);
    if (*field(c->socket, io.at[S_STREAMING]) == Py_True)
        return begin_streaming(c, t, r, size, message);
    return begin_waiting(c, t, r, size, message);
}

/* Copies what arrived out of the buffer that the kernel chose, and gives the buffer back. */
static PyObject *take_buffer(Receive *r, PyObject *flags, long res)
{
    unsigned long bid = PyLong_AsUnsignedLong(flags) >> 16;
    if ((long)bid >= r->count || res > r->each) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_SystemError, "the kernel named a buffer that there is not");
        return NULL;
    }
    PyObject *data = PyBytes_FromStringAndSize(r->memory + (size_t)bid * (size_t)r->each, res);
    r->recycle(r->group, (int)bid);
    return data;
}

/* The result of what did not wait. */
static int end_streaming(Call *c, PyObject **result)
{
    if (c->data && (PyBytes_Size(c->data) || !c->method->all)) {
        *result = c->data;
        c->data = NULL;
        return 1;
    }
    PyObject *number = PyLong_FromLong(c->sent);
    int ret = number ? go_on(c, number) : -1;
    Py_XDECREF(number);
    return ret;
}

static int end_receive(Call *c, PyObject *got, PyObject **result)
{
    Receive *r = (Receive *)c->receive;
    if (c->data || c->sent)
        return end_streaming(c, result);
    if (got != io.done) {
        if (c->method->all)
            return go_on(c, got);
        PyObject *none = PyObject_CallFunctionObjArgs(io.unwrap, got, NULL);
        if (!none)
            return -1;
        Py_DECREF(none);
    }
    PyObject *number = *field(r->op, r->ticks->at[O_RES]);
    long res = PyLong_AsLong(number);
    if (res < 0 || (!res && c->method->all)) {
        if (PyErr_Occurred())
            return -1;
        return go_on(c, number);
    }
    *result = res ? take_buffer(r, *field(r->op, r->ticks->at[O_FLAGS]), res) : PyBytes_FromStringAndSize("", 0);
    if (!*result)
        return -1;
    if (res >= STREAMING) {
        Py_INCREF(Py_True);
        put(c->socket, io.at[S_STREAMING], Py_True);
    }
    return 1;
}

const struct kind kind_receive = { "receive", begin_receive, end_receive };

/* ---- sending ---- */

/* Sends what it can without waiting: how many bytes, or a negative errno; 0: there is nothing to send, or nothing
 * that memory could be had of. */
static long send_now(PyObject *plain, PyObject *data, Py_ssize_t *size)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return 0;
    }
    *size = view.len;
    long sent = 0;
    int fd = descriptor(plain);
    if (view.len > SHORT) {
        PyThreadState *state = PyEval_SaveThread();
        sent = send(fd, view.buf, (size_t)view.len, 0);
        if (sent < 0)
            sent = -errno;
        PyEval_RestoreThread(state);
    } else if (view.len) {
        sent = send(fd, view.buf, (size_t)view.len, 0);
        if (sent < 0)
            sent = -errno;
    }
    PyBuffer_Release(&view);
    return sent;
}

static int begin_send(Call *c, Ticks *t, PyObject **message)
{
    PyObject *sock;
    if (!c->arg || !passes(t) || !(sock = socket_of(c)))
        return 0;
    PyObject *plain = *field(sock, io.at[S_PLAIN]);
    Py_ssize_t size = 0;
    int all = c->method->kind == &kind_send_all, wrong = descriptor(plain) < 0;
    if (wrong || (all && !attribute_is(sock, s_shut, Py_False)) || !enter(c)) {
        Py_DECREF(sock);
        return 0;
    }
    long sent = send_now(plain, c->arg, &size);
    Py_DECREF(sock);
    if (sent == 0 || sent == -EAGAIN || sent == -EINTR || sent == -EBADF)
        return give_up(c);
    /* Of `send` the result, of the others what is left. */
    c->sent = all && sent == size ? 0 : sent;
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        PyErr_Clear();
    *message = t->yield_message;
    Py_INCREF(*message);
    return 1;
}

static int end_send(Call *c, PyObject *got, PyObject **result)
{
    (void)got;
    if (c->sent < 0) {
        errno = (int)-c->sent;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    *result = PyLong_FromLong(c->sent);
    return *result ? 1 : -1;
}

static int end_send_all(Call *c, PyObject *got, PyObject **result)
{
    (void)got;
    if (!c->sent) {
        *result = Py_None;
        Py_INCREF(*result);
        return 1;
    }
    PyObject *sent = PyLong_FromLong(c->sent);
    int ret = sent ? go_on(c, sent) : -1;
    Py_XDECREF(sent);
    return ret;
}

const struct kind kind_send = { "send", begin_send, end_send };
const struct kind kind_send_all = { "send_all", begin_send, end_send_all };

/* ---- the type ---- */

/* Receive(ticks, op, size, number, fd, (template, its address), (ring, space, queue),
 *         (buffers, group, recycle, memory, bytes of each, count)) */
static PyObject *receive_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *ticks, *op, *size, *template, *buffers;
    unsigned long long entry, ring, space, queue, group, recycle, memory;
    long long number, each;
    long count;
    int fd;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOLi(OK)(KKK)(OKKKLl)", &ticks, &op, &size, &number, &fd, &template, &entry, &ring,
                          &space, &queue, &buffers, &group, &recycle, &memory, &each, &count))
        return NULL;
    Receive *r = (Receive *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!r)
        return NULL;
    Py_INCREF(ticks);
    r->ticks = (Ticks *)ticks;
    Py_INCREF(op);
    r->op = op;
    Py_INCREF(size);
    r->size = size;
    Py_INCREF(template);
    r->template = template;
    Py_INCREF(buffers);
    r->buffers = buffers;
    r->number = number;
    r->fd = fd;
    r->entry = (void *)(uintptr_t)entry;
    r->ring = (void *)(uintptr_t)ring;
    r->space = (int (*)(void *))(uintptr_t)space;
    r->queue = (int (*)(void *))(uintptr_t)queue;
    r->group = (void *)(uintptr_t)group;
    r->recycle = (int (*)(void *, int))(uintptr_t)recycle;
    r->memory = (const char *)(uintptr_t)memory;
    r->each = each;
    r->count = count;
    return (PyObject *)r;
}

static int receive_traverse(PyObject *self, visitproc visit, void *arg)
{
    Receive *r = (Receive *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->ticks);
    Py_VISIT(r->op);
    Py_VISIT(r->size);
    Py_VISIT(r->template);
    Py_VISIT(r->buffers);
    return 0;
}

static int receive_clear(PyObject *self)
{
    Receive *r = (Receive *)self;
    Py_CLEAR(r->ticks);
    Py_CLEAR(r->op);
    Py_CLEAR(r->size);
    Py_CLEAR(r->template);
    Py_CLEAR(r->buffers);
    return 0;
}

static void receive_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    receive_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyType_Slot receive_slots[] = {
    { Py_tp_new, receive_new },     { Py_tp_dealloc, receive_dealloc }, { Py_tp_traverse, receive_traverse },
    { Py_tp_clear, receive_clear }, { 0, NULL },
};

static PyType_Spec receive_spec = {
    "uring_trio.seams._ticks.Receive", sizeof(Receive), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, receive_slots,
};

/* descriptor(socket): what is read where the descriptor of a socket of the standard library is expected. */
static PyObject *read_descriptor(PyObject *module, PyObject *plain)
{
    (void)module;
    return PyLong_FromLong(descriptor(plain));
}

static PyMethodDef functions[] = {
    { "descriptor", read_descriptor, METH_O, "The int that is expected to be a socket's descriptor." },
    { NULL, NULL, 0, NULL },
};

int load_io_socket(PyObject *module)
{
    s_shut = PyUnicode_InternFromString("_did_shutdown_SHUT_WR");
    receive_type = s_shut ? (PyTypeObject *)PyType_FromSpec(&receive_spec) : NULL;
    if (!receive_type || PyModule_AddObjectRef(module, "Receive", (PyObject *)receive_type) < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
