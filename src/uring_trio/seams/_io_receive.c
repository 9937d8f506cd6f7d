/* Receiving, as calls.
 *
 * A receive is usual where the socket's reader is set up to receive that many bytes into provided buffers, which a
 * `Receive` holds the addresses of; or where a socket that never had to wait has data now. Where much arrived, more is
 * likely to be there: such a receive tries first, and then waits for input, without memory for it. So does each of what
 * is not received in the kernel: datagrams, `recvfrom`, `recv_into`. Everything else is the coroutine's: another size, a
 * flag, a deadline that is near, a scope that is cancelled, another run.
 *
 * Invariants
 *  - An `Fd` whose `receive_size` is the very object that its `Receive` was aimed with has its reader set up as
 *    that says; one whose `receive_size` is the very entry of that wait has it set up to wait for input.
 */
#include "_io.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#ifndef SIOCATMARK
#define SIOCATMARK 0x8905
#endif

enum { STREAMING = 16384 }; /* as in uring_trio.core.buffers */

typedef struct {
    PyObject_HEAD
    Ticks *ticks;
    PyObject *op;
    PyObject *template; /* what the address of the entry belongs to */
    PyObject *wait;     /* the entry that waits for input; NULL: not known */
    Memory *memory;     /* of the buffers that it selects from */
    PyObject *size;     /* what it was aimed with; NULL: it never was */
    long long number;   /* the size */
    void *ring, *entry, *wait_entry;
    int fd;
    int (*space)(void *), (*queue)(void *);
    int (*aim)(void *, uint64_t, int, uint32_t);
} Receive;

static PyTypeObject *receive_type;

/* ---- receiving ---- */

int near_deadline(Ticks *t, PyObject *op)
{
    PyObject *reach = *field(op, io.at[O_REACH]), *heap = *field(t->deadlines, t->at[D_HEAP]);
    if (reach == Py_None || !PyList_Size(heap))
        return 0;
    PyObject *first = PyTuple_GetItem(PyList_GetItem(heap, 0), 0);
    int near = !first || PyFloat_AsDouble(first) <= PyFloat_AsDouble(reach) + now();
    PyErr_Clear();
    return near;
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
    if (*field(c->owner, io.at[F_RECEIVE_SIZE]) != r->size || (size != r->size && number_of(size) != r->number) || near_deadline(t, r->op) ||
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

/* Hands on to the coroutine what the kernel answered. */
static int go_on_with(Call *c, long res)
{
    PyObject *number = PyLong_FromLong(res);
    int ret = number ? go_on(c, number) : -1;
    Py_XDECREF(number);
    return ret;
}

/* Waits for input, where nothing was there. */
static int begin_polling(Call *c, Ticks *t, Receive *r, PyObject **message)
{
    if (!r->wait || *field(c->owner, io.at[F_RECEIVE_SIZE]) != r->wait || near_deadline(t, r->op) ||
        r->space(r->ring) < 1 || r->queue(r->wait_entry) < 0)
        return go_on_with(c, -EAGAIN);
    Py_INCREF(r->wait);
    put(r->op, io.at[O_TEMPLATE], r->wait);
    Py_INCREF(task_here);
    put(r->op, t->at[O_TASK], task_here);
    c->polls = 1;
    *message = *field(r->op, io.at[O_PARK]);
    Py_INCREF(*message);
    return 1;
}

/* Whether the next byte is the one behind urgent data, or urgent data alone ended a wait. */
static int at_mark(int fd)
{
    int at = 0;
    return !ioctl(fd, SIOCATMARK, &at) && at;
}

/* Receives what is there, and waits for input where nothing is. Without `r` only the coroutine can wait. */
static int begin_attempt(Call *c, Ticks *t, Receive *r, PyObject **message)
{
    int fd = descriptor(*field(c->socket, io.at[S_PLAIN]));
    if (fd < 0 || (c->owner && *field(c->owner, io.at[F_RECEIVING]) != Py_None) || !enter(c))
        return 0;
    long got = c->method->kind->attempt(c, fd);
    if (got == -EINTR || (got == -EAGAIN && !r))
        return give_up(c);
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        PyErr_Clear();
    if (got < STREAMING) {
        Py_INCREF(Py_False);
        put(c->socket, io.at[S_STREAMING], Py_False);
    }
    if (got == -EAGAIN)
        return begin_polling(c, t, r, message);
    c->sent = got < 0 ? got : 0;
    *message = t->yield_message;
    Py_INCREF(*message);
    return 1;
}

/* Sets a socket's reader up to receive that many bytes, by Python: its `Receive`, borrowed, with the owner in the call;
 * NULL: the coroutine is to go on. */
static Receive *prepare(Call *c, Ticks *t, PyObject *size)
{
    PyObject *owner = PyObject_CallFunctionObjArgs(io.prepare, c->socket, size, NULL);
    if (owner)
        c->owner = owner;
    else
        PyErr_Clear(); /* the coroutine finds out */
    return owner ? receive_of(t, c->socket, owner) : NULL;
}

/* A socket that never had to wait has no `Fd`, and needs none as long as there is data. */
static int begin_unowned(Call *c, Ticks *t, PyObject *size, PyObject **message)
{
    int fd = descriptor(*field(c->socket, io.at[S_PLAIN]));
    if (!number_of(size) || fd < 0 || !enter(c))
        return 0;
    long got = attempt_receive(c, fd);
    if (got == -EAGAIN) {
        Receive *r = give_up(c) < 0 ? NULL : prepare(c, t, size);
        c->receive = (PyObject *)r;
        Py_XINCREF(c->receive);
        return r ? begin_waiting(c, t, r, size, message) : PyErr_Occurred() ? -1 : 0;
    }
    if (got == -EINTR || got == -ENOBUFS)
        return give_up(c);
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        PyErr_Clear();
    c->sent = got < 0 ? got : 0;
    *message = t->yield_message;
    Py_INCREF(*message);
    return 1;
}

static int begin_receive(Call *c, Ticks *t, PyObject **message)
{
    PyObject *size = size_of(c);
    if (!size || (c->method->unread && !attribute_is(c->self, c->method->unread, Py_None)) || !passes(t) ||
        !(c->socket = socket_of(c)))
        return 0;
    PyObject *owner = *field(c->socket, io.at[S_OWNER]);
    if (owner == Py_None)
        return begin_unowned(c, t, size, message);
    Receive *r = receive_of(t, c->socket, owner);
    if (!r)
        return 0;
    Py_INCREF(owner);
    c->owner = owner;
    c->receive = (PyObject *)r;
    Py_INCREF(c->receive);
    if (*field(c->socket, io.at[S_STREAMING]) == Py_True || *field(owner, io.at[F_IN_KERNEL]) == Py_False)
        return number_of(size) ? begin_attempt(c, t, r, message) : 0;
    return begin_waiting(c, t, r, size, message);
}

/* The forms that never receive in the kernel. */
static int begin_other_form(Call *c, Ticks *t, PyObject **message)
{
    int from = c->method->kind == &kind_receive_from;
    if (!c->arg || (from && !number_of(c->arg)) || !passes(t) || !(c->socket = socket_of(c)))
        return 0;
    int family = family_of(*field(c->socket, io.at[S_PLAIN]));
    if (from && family != AF_INET && family != AF_INET6 && family != AF_UNIX)
        return 0;
    PyObject *owner = *field(c->socket, io.at[S_OWNER]);
    if (owner == Py_None)
        return begin_attempt(c, t, NULL, message);
    if ((PyObject *)Py_TYPE(owner) != io.fd_type)
        return 0;
    Py_INCREF(owner);
    c->owner = owner;
    Receive *r = receive_of(t, c->socket, owner);
    c->receive = (PyObject *)r;
    Py_XINCREF(c->receive);
    return begin_attempt(c, t, r, message);
}

/* The result of what did not wait. */
static int end_streaming(Call *c, PyObject **result)
{
    if (c->data && (!c->method->all || PyBytes_Size(c->data))) {
        *result = c->data;
        c->data = NULL;
        return 1;
    }
    return go_on_with(c, c->sent);
}

/* Receives when there is input. What is not usual is for the coroutine: it waits again, and meets the same. */
static int end_polling(Call *c, Receive *r, PyObject **result)
{
    long reported = PyLong_AsLong(*field(r->op, r->ticks->at[O_RES]));
    if (reported == -1 && PyErr_Occurred())
        return -1;
    c->polls = 0;
    if (descriptor(*field(c->socket, io.at[S_PLAIN])) != r->fd)
        return go_on_with(c, -EBADF); /* closed since it was reported */
    if (reported < 0 || !(reported & (POLLIN | POLLERR | POLLHUP)) || at_mark(r->fd))
        return go_on_with(c, -EAGAIN);
    long got = c->method->kind->attempt(c, r->fd);
    if (got == -EAGAIN || got == -EINTR)
        return go_on_with(c, -EAGAIN);
    PyObject *more = got >= STREAMING ? Py_True : Py_False;
    Py_INCREF(more);
    put(c->socket, io.at[S_STREAMING], more);
    c->sent = got < 0 ? got : 0;
    return end_streaming(c, result);
}

static int end_receive(Call *c, PyObject *got, PyObject **result)
{
    Receive *r = (Receive *)c->receive;
    if (c->data || c->sent)
        return end_streaming(c, result);
    if (got != io.done && c->method->all)
        return go_on(c, got);
    if (check_woken(got) < 0)
        return -1;
    if (c->polls)
        return end_polling(c, r, result);
    PyObject *number = *field(r->op, r->ticks->at[O_RES]);
    long res = PyLong_AsLong(number);
    if (res < 0 || (!res && c->method->all)) {
        if (PyErr_Occurred())
            return -1;
        return go_on(c, number);
    }
    *result = res ? take_buffer(r->memory, PyLong_AsUnsignedLong(*field(r->op, r->ticks->at[O_FLAGS])), res)
                  : PyBytes_FromStringAndSize("", 0);
    if (!*result)
        return -1;
    if (res >= STREAMING) {
        Py_INCREF(Py_True);
        put(c->socket, io.at[S_STREAMING], Py_True);
    }
    return 1;
}

const struct kind kind_receive = { "receive", 1, begin_receive, end_receive, NULL, attempt_receive };
const struct kind kind_receive_from = {
    "receive_from", 1, begin_other_form, end_receive, NULL, attempt_receive_from,
};
const struct kind kind_receive_into = {
    "receive_into", 1, begin_other_form, end_receive, NULL, attempt_receive_into,
};

/* ---- the type ---- */

/* Receive(ticks, op, (template, its address), (ring, space, queue, aim), memory) */
static PyObject *receive_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *ticks, *op, *template, *memory;
    unsigned long long entry, ring, space, queue, aim;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OO(OK)(KKKK)O!", &ticks, &op, &template, &entry, &ring, &space, &queue, &aim,
                          memory_type, &memory))
        return NULL;
    Receive *r = (Receive *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!r)
        return NULL;
    Py_INCREF(ticks);
    r->ticks = (Ticks *)ticks;
    Py_INCREF(op);
    r->op = op;
    Py_INCREF(template);
    r->template = template;
    Py_INCREF(memory);
    r->memory = (Memory *)memory;
    r->fd = -1;
    r->entry = (void *)(uintptr_t)entry;
    r->ring = (void *)(uintptr_t)ring;
    r->space = (int (*)(void *))(uintptr_t)space;
    r->queue = (int (*)(void *))(uintptr_t)queue;
    r->aim = (int (*)(void *, uint64_t, int, uint32_t))(uintptr_t)aim;
    return (PyObject *)r;
}

/* aim(user_data, fd, size) */
static PyObject *receive_aim(PyObject *self, PyObject *args)
{
    Receive *r = (Receive *)self;
    unsigned long long user_data;
    PyObject *size;
    int fd;
    if (!PyArg_ParseTuple(args, "KiO", &user_data, &fd, &size))
        return NULL;
    long long number = number_of(size);
    if (!number) {
        PyErr_SetString(PyExc_ValueError, "a receive is of 1 to 0x7ffff000 bytes");
        return NULL;
    }
    r->aim(r->entry, user_data, fd, (uint32_t)number);
    PyObject *before = r->size;
    Py_INCREF(size);
    r->size = size;
    r->number = number;
    r->fd = fd;
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

/* wait_by(entry, its address) */
static PyObject *receive_wait_by(PyObject *self, PyObject *args)
{
    Receive *r = (Receive *)self;
    PyObject *entry, *before = r->wait;
    unsigned long long address;
    if (!PyArg_ParseTuple(args, "OK", &entry, &address))
        return NULL;
    Py_INCREF(entry);
    r->wait = entry;
    r->wait_entry = (void *)(uintptr_t)address;
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static PyMethodDef receive_methods[] = {
    { "wait_by", receive_wait_by, METH_VARARGS, "Names the entry that waits for input." },
    { "aim", receive_aim, METH_VARARGS, "Sets the entry's user_data, its descriptor and how many bytes it receives." },
    { NULL, NULL, 0, NULL },
};

static PyMemberDef receive_members[] = {
    { "template", T_OBJECT, offsetof(Receive, template), READONLY, "The entry." },
    { NULL, 0, 0, 0, NULL },
};

static int receive_traverse(PyObject *self, visitproc visit, void *arg)
{
    Receive *r = (Receive *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(r->ticks);
    Py_VISIT(r->op);
    Py_VISIT(r->size);
    Py_VISIT(r->template);
    Py_VISIT(r->wait);
    Py_VISIT(r->memory);
    return 0;
}

static int receive_clear(PyObject *self)
{
    Receive *r = (Receive *)self;
    Py_CLEAR(r->ticks);
    Py_CLEAR(r->op);
    Py_CLEAR(r->size);
    Py_CLEAR(r->template);
    Py_CLEAR(r->wait);
    Py_CLEAR(r->memory);
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
    { Py_tp_clear, receive_clear }, { Py_tp_methods, receive_methods },
    { Py_tp_members, receive_members }, { 0, NULL },
};

static PyType_Spec receive_spec = {
    "uring_trio.seams._ticks.Receive", sizeof(Receive), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, receive_slots,
};

int load_io_receive(PyObject *module)
{
    receive_type = (PyTypeObject *)PyType_FromSpec(&receive_spec);
    return receive_type ? PyModule_AddObjectRef(module, "Receive", (PyObject *)receive_type) : -1;
}
