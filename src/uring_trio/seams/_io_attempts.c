/* What a socket does at once: receiving in its three forms, and sending to an address.
 *
 * A receive that finds nothing waits in `_io_receive.c`, which attempts it again. A datagram is sent where the socket
 * takes it and its address needs no resolving. Everything else is the coroutine's.
 *
 * Invariants
 *  - Data that was taken from the socket is in the call, or the call fails.
 *  - An attempt that failed for another reason than that it would block is not made again: a socket reports such an
 *    error once.
 */
#include "_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { LENGTH_MAX = 0x7ffff000 };

/* Not in the limited API, though every CPython exports it. */
PyAPI_FUNC(int) _PyBytes_Resize(PyObject **, Py_ssize_t);

static PyObject *s_sendto;

/* ---- receiving: -EINTR is for the coroutine to find out ---- */

long long number_of(PyObject *size)
{
    int over;
    long long number = PyLong_CheckExact(size) ? PyLong_AsLongLongAndOverflow(size, &over) : 0;
    return number < 1 || over || number > LENGTH_MAX ? 0 : number;
}

/* Owned by the caller. */
PyObject *address_of(const union address *a, socklen_t length)
{
    char text[INET6_ADDRSTRLEN];
    if (a->any.sa_family == AF_INET && inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof text))
        return Py_BuildValue("si", text, ntohs(a->in.sin_port));
    if (a->any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof text))
        return Py_BuildValue("siII", text, ntohs(a->in6.sin6_port), ntohl(a->in6.sin6_flowinfo),
                             a->in6.sin6_scope_id);
    if (a->any.sa_family != AF_UNIX)
        return PyErr_SetFromErrno(PyExc_OSError);
    size_t there = length > offsetof(struct sockaddr_un, sun_path) ? length - offsetof(struct sockaddr_un, sun_path) : 0;
    if (there && !a->un.sun_path[0])
        return PyBytes_FromStringAndSize(a->un.sun_path, (Py_ssize_t)there);
    return PyUnicode_DecodeFSDefaultAndSize(a->un.sun_path, (Py_ssize_t)strnlen(a->un.sun_path, there));
}

/* recvfrom(2) into a new bytes object, which the caller owns; NULL: a negative errno in `got`. */
static PyObject *receive(int fd, Py_ssize_t size, union address *a, socklen_t *length, long *got)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    if (!data) {
        PyErr_Clear();
        *got = -EINTR;
        return NULL;
    }
    char *memory = PyBytes_AsString(data);
    PyThreadState *state = PyEval_SaveThread();
    *got = recvfrom(fd, memory, (size_t)size, 0, a ? &a->any : NULL, length);
    if (*got < 0)
        *got = -errno;
    PyEval_RestoreThread(state);
    if (*got < 0)
        Py_CLEAR(data);
    else if (_PyBytes_Resize(&data, *got) < 0) {
        PyErr_Clear();
        *got = -ENOMEM;
    }
    return data;
}

long attempt_receive(Call *c, int fd)
{
    long got;
    c->data = receive(fd, (Py_ssize_t)number_of(size_of(c)), NULL, NULL, &got);
    return got;
}

long attempt_receive_from(Call *c, int fd)
{
    union address a = { .any.sa_family = AF_UNSPEC };
    socklen_t length = sizeof a;
    long got;
    PyObject *data = receive(fd, (Py_ssize_t)number_of(c->arg), &a, &length, &got);
    if (!data)
        return got;
    PyObject *address = length ? address_of(&a, length) : Py_None;
    if (!length)
        Py_INCREF(address);
    c->data = address ? PyTuple_Pack(2, data, address) : NULL;
    Py_DECREF(data);
    Py_XDECREF(address);
    if (c->data)
        return got;
    PyErr_Clear();
    return -ENOMEM;
}

long attempt_receive_into(Call *c, int fd)
{
    Py_buffer view;
    if (PyObject_GetBuffer(c->arg, &view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return -EINTR;
    }
    long got = -EINTR; /* into an empty buffer nothing is received, not even an empty datagram */
    if (view.len) {
        PyThreadState *state = PyEval_SaveThread();
        got = recv(fd, view.buf, (size_t)view.len, 0);
        if (got < 0)
            got = -errno;
        PyEval_RestoreThread(state);
    }
    PyBuffer_Release(&view);
    if (got >= 0 && !(c->data = PyLong_FromLong(got))) {
        PyErr_Clear();
        return -ENOMEM;
    }
    return got;
}

/* ---- sending ---- */

/* Whether an address is numbers, which the socket takes as it is. */
static int is_resolved(int family, PyObject *address)
{
    unsigned char binary[sizeof(struct in6_addr)];
    Py_ssize_t size, items = PyTuple_CheckExact(address) ? PyTuple_Size(address) : 0;
    if (family == AF_INET ? items != 2 : family != AF_INET6 || items < 2 || items > 4)
        return 0;
    PyObject *host = PyTuple_GetItem(address, 0);
    if (!PyUnicode_CheckExact(host) || !PyLong_CheckExact(PyTuple_GetItem(address, 1)))
        return 0;
    const char *text = PyUnicode_AsUTF8AndSize(host, &size);
    if (!text)
        PyErr_Clear();
    return text && strlen(text) == (size_t)size && inet_pton(family, text, binary) == 1;
}

/* The exception that is set, normalized; a new reference. */
static PyObject *take_exception(void)
{
    PyObject *type, *exc, *traceback;
    PyErr_Fetch(&type, &exc, &traceback);
    PyErr_NormalizeException(&type, &exc, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback); /* C has no frames */
    return exc;
}

static int begin_send_to(Call *c, Ticks *t, PyObject **message)
{
    if (!c->more || !passes(t) || !(c->socket = socket_of(c)))
        return 0;
    PyObject *plain = *field(c->socket, io.at[S_PLAIN]);
    if (descriptor(plain) < 0 || !is_resolved(family_of(plain), c->more))
        return 0;
    c->data = PyObject_CallMethodObjArgs(plain, s_sendto, c->arg, c->more, NULL);
    if (!c->data && PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        PyErr_Clear();
        return 0;
    }
    c->sent = c->data ? 0 : -1;
    if (!c->data)
        c->data = take_exception();
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        PyErr_Clear();
    *message = t->yield_message;
    Py_INCREF(*message);
    return 1;
}

static int end_send_to(Call *c, PyObject *got, PyObject **result)
{
    (void)got;
    if (c->sent < 0) {
        PyErr_SetObject((PyObject *)Py_TYPE(c->data), c->data);
        return -1;
    }
    *result = c->data;
    c->data = NULL;
    return 1;
}

const struct kind kind_send_to = { "send_to", 2, begin_send_to, end_send_to, NULL, NULL };

int load_io_attempts(PyObject *module)
{
    (void)module;
    s_sendto = PyUnicode_InternFromString("sendto");
    return s_sendto ? 0 : -1;
}
