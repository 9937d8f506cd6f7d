/* The first call and the last of a connection: accepting it, and closing it.
 *
 * An accept is usual where a connection is waiting; a close, where nothing waits for the socket. A connection that
 * comes and goes this way costs the run no state.
 *
 * Invariants
 *  - A connection that was accepted is delivered, or its descriptor is closed.
 *  - A descriptor is closed after its owner was retired, so that no other socket of this number meets it.
 */
#include "_io.h"
#include "_shortcut.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

static PyObject *s_close, *s_retire;

/* ---- accepting ---- */

/* The socket and the address of a connection, owned, or NULL with an exception and the connection closed. */
static PyObject *connection(PyObject *listener, int fd, const union address *a, socklen_t length)
{
    PyObject *address = address_of(a, length), *number = address ? PyLong_FromLong(fd) : NULL;
    if (!number) {
        Py_XDECREF(address);
        close(fd);
        return NULL;
    }
    PyObject *sock = PyObject_CallFunctionObjArgs(io.adopt, listener, number, NULL);
    PyObject *both = sock ? PyTuple_Pack(2, sock, address) : NULL;
    Py_XDECREF(sock);
    Py_DECREF(number);
    Py_DECREF(address);
    return both;
}

static int begin_accept(Call *c, Ticks *t, PyObject **message)
{
    if (!passes(t) || !(c->socket = socket_of(c)))
        return 0;
    PyObject *plain = *field(c->socket, io.at[S_PLAIN]);
    int fd = descriptor(plain), family = family_of(plain);
    if (fd < 0 || *field(c->socket, io.at[S_IDLE]) != Py_False ||
        (family != AF_INET && family != AF_INET6 && family != AF_UNIX))
        return 0;
    union address a;
    socklen_t length = sizeof a;
    int got = accept4(fd, &a.any, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int error = got < 0 ? errno : 0;
    if (error == EAGAIN) {
        Py_INCREF(Py_True);
        put(c->socket, io.at[S_IDLE], Py_True);
    }
    if (error == EAGAIN || error == EINTR)
        return 0;
    if (!error && !(c->data = connection(plain, got, &a, length)))
        return -1;
    c->sent = -error;
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        PyErr_Clear();
    *message = t->yield_message;
    Py_INCREF(*message);
    return 1;
}

static int end_accept(Call *c, PyObject *got, PyObject **result)
{
    (void)got;
    if (c->sent < 0) {
        errno = (int)-c->sent;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    *result = c->data;
    c->data = NULL;
    return 1;
}

const struct kind kind_accept = { "accept", 0, begin_accept, end_accept, NULL, NULL };

/* ---- closing ---- */

static int is_free(Ticks *t, PyObject *owner, Py_ssize_t at)
{
    PyObject *op = *field(owner, at);
    return op == Py_None || ((PyObject *)Py_TYPE(op) == t->operation_type && *field(op, t->at[O_TASK]) == Py_None);
}

/* Retires this run's `Fd` of a descriptor that nothing waits for: 1; 0: something does; -1 with an exception. */
static int retire(Ticks *t, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    int waits = number ? PyDict_Contains(t->registered, number) : -1;
    PyObject *owner = waits ? NULL : PyDict_GetItemWithError(t->owners, number);
    Py_XDECREF(number);
    if (waits || !owner)
        return PyErr_Occurred() ? -1 : !waits;
    if ((PyObject *)Py_TYPE(owner) != io.fd_type || !is_free(t, owner, io.at[F_READER]) ||
        !is_free(t, owner, io.at[F_WRITER]) || PyObject_Size(*field(owner, io.at[F_OTHERS])) ||
        *field(owner, io.at[F_LEAVING]) != Py_False)
        return 0;
    Py_INCREF(owner);
    PyObject *none = PyObject_CallMethodObjArgs(owner, s_retire, NULL);
    Py_DECREF(owner);
    Py_XDECREF(none);
    return none ? 1 : -1;
}

/* `close` and `__exit__`. */
static int usual_close(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    if (!io.ready || (n != 1 && n != 4) || keywords || (PyObject *)Py_TYPE(args[0]) != io.socket_type)
        return 0;
    PyObject *sock = args[0], *plain = *field(sock, io.at[S_PLAIN]);
    if (!plain || (PyObject *)Py_TYPE(plain) != io.plain_type)
        return 0;
    int open = descriptor(plain) >= 0, done = open ? retire(t, descriptor(plain)) : 1;
    if (done <= 0)
        return done;
    put_none(sock, io.at[S_OWNER]);
    if (open) {
        *result = PyObject_CallMethodObjArgs(plain, s_close, NULL);
    } else {
        *result = Py_None;
        Py_INCREF(Py_None);
    }
    return *result ? 1 : -1;
}

/* closing(function) */
static PyObject *closing(PyObject *module, PyObject *function)
{
    (void)module;
    return make_shortcut(usual_close, function);
}

static PyMethodDef functions[] = {
    { "closing", closing, METH_O, "What stands for a method that closes a socket." },
    { NULL, NULL, 0, NULL },
};

int load_io_connection(PyObject *module)
{
    s_close = PyUnicode_InternFromString("close");
    s_retire = PyUnicode_InternFromString("retire");
    return s_close && s_retire ? PyModule_AddFunctions(module, functions) : -1;
}
