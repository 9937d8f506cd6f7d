/* Sockets as calls see them, and sending.
 *
 * A send is usual where the socket takes data at once. Everything else is the coroutine's: a flag, a scope that is
 * cancelled, another run. Receiving is in `_io_receive.c`.
 *
 * Invariants
 *  - Data that was sent is never sent again: nothing fails between send(2) and the message.
 */
#include "_io.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>

enum { SHORT = 16384 }; /* bytes that are sent without letting other threads run meanwhile */

static PyObject *s_shut;

/* ---- sockets ---- */

/* Owned, or NULL without an exception. */
PyObject *socket_of(Call *c)
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

int attribute_is(PyObject *obj, PyObject *name, PyObject *what)
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

int enter(Call *c)
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

int give_up(Call *c)
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

/* ---- sending ---- */

/* Sends what it can without waiting: how many bytes, or a negative errno; 0: there is nothing to send, or no plain
 * buffer. */
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
    /* For `send` the result; for `send_all` how much was sent, 0 if that is all of it. */
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

const struct kind kind_send = { "send", 1, begin_send, end_send, NULL, NULL };
const struct kind kind_send_all = { "send_all", 1, begin_send, end_send_all, NULL, NULL };

/* numbers(socket): what is read where the descriptor and the family of a socket of the standard library are expected. */
static PyObject *read_numbers(PyObject *module, PyObject *plain)
{
    (void)module;
    return Py_BuildValue("ii", descriptor(plain), family_of(plain));
}

/* is_plain(fd): whether a stream socket has nothing beside its stream: no option that fills its error queue, and no
 * process that urgent data signals. See uring_trio.net.urgent_data, which has the same in Python. */
static PyObject *is_plain(PyObject *module, PyObject *number)
{
    static const int options[] = { SO_TIMESTAMPING, SO_ZEROCOPY };
    int fd = (int)PyLong_AsLong(number), set = 0;
    (void)module;
    if (fd == -1 && PyErr_Occurred())
        return NULL;
    for (size_t i = 0; i < sizeof options / sizeof *options && !set; i++) {
        socklen_t length = sizeof set;
        if (getsockopt(fd, SOL_SOCKET, options[i], &set, &length) < 0)
            return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(!set && !fcntl(fd, F_GETOWN));
}

static PyMethodDef functions[] = {
    { "numbers", read_numbers, METH_O, "The ints that are expected to be a socket's descriptor and family." },
    { "is_plain", is_plain, METH_O, "Whether a stream socket has nothing beside its stream." },
    { NULL, NULL, 0, NULL },
};

int load_io_socket(PyObject *module)
{
    s_shut = PyUnicode_InternFromString("_did_shutdown_SHUT_WR");
    return s_shut ? PyModule_AddFunctions(module, functions) : -1;
}
