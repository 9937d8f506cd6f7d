/* Calls: the fast path of a method in C, and its coroutine for everything else.
 *
 * A `Method` stands in a class for a coroutine function. Called while ticks run in C it returns a `Call`, and
 * otherwise the function's coroutine. A call decides when it is first awaited: in the usual case it waits by itself,
 * which costs no frame; in any other it starts the coroutine and passes everything on.
 *
 * Invariants
 *  - Nothing was done when the coroutine is started from the beginning.
 *  - A guard's flag that a call has set is cleared once, however the call ends.
 *  - What a call runs, such as the decoder of a result, cannot send, throw into or close that call.
 *  - A call that was never awaited makes its coroutine and drops it, so that the interpreter's own warning is given;
 *    not while an exception is on its way, as when Ctrl-C came between the call and its await.
 */
#include "_io.h"
#include "_shortcut.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

/* Not in the limited API of 3.11, though every CPython has them. */
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
PyAPI_FUNC(PyObject *) PyVectorcall_Call(PyObject *, PyObject *, PyObject *);
static const unsigned long HAVE_VECTORCALL = 1UL << 11;
static const size_t ARGUMENTS_OFFSET = (size_t)1 << (8 * sizeof(size_t) - 1);

struct io io;

static PyTypeObject *call_type;
static PyObject *s_throw, *s_close, *s_frame, *s_await, *s_suspended;

/* ---- the life of a call ---- */

/* Ends a call: clears its guard's flag, and drops what it needed until now. */
static void leave(Call *c)
{
    c->state = OVER;
    if (c->guard) {
        PyObject *type, *exc, *traceback, *guard = c->guard;
        c->guard = NULL;
        PyErr_Fetch(&type, &exc, &traceback);
        if (PyObject_SetAttr(guard, c->method->flag, Py_False) < 0)
            PyErr_WriteUnraisable(guard);
        PyErr_Restore(type, exc, traceback);
        Py_DECREF(guard);
    }
    if (c->owner && c->method->kind->leave)
        c->method->kind->leave(c);
    Py_CLEAR(c->socket);
    Py_CLEAR(c->owner);
    Py_CLEAR(c->receive);
    Py_CLEAR(c->data);
    for (int i = 0; i < PARTS && c->kept[i]; i++)
        Py_CLEAR(c->kept[i]);
    Py_CLEAR(c->delegate);
}

/* The coroutine of the function itself; a new reference. */
static PyObject *coroutine_of(Call *c)
{
    return PyObject_CallFunctionObjArgs(c->method->function, c->self, c->arg, c->more, NULL);
}

int go_on(Call *c, PyObject *with)
{
    PyObject *arg = c->arg ? c->arg : Py_None;
    c->delegate = PyObject_CallFunctionObjArgs(c->method->again, c->self, arg, c->owner ? c->owner : Py_None, with,
                                               NULL);
    if (!c->delegate)
        return -1;
    c->state = DELEGATED;
    return 0;
}

static PySendResult pass_on(Call *c, PyObject *value, PyObject **result)
{
    PyObject *delegate = c->delegate; /* held during the call */
    Py_INCREF(delegate);
    PySendResult status = PyIter_Send(delegate, value, result);
    Py_DECREF(delegate);
    if (status != PYGEN_NEXT)
        leave(c);
    return status;
}

static PySendResult begin(Call *c, PyObject **message)
{
    Ticks *t = ticks_here;
    int usual = t && io.ready ? c->method->kind->begin(c, t, message) : 0;
    if (usual == 2) {
        leave(c);
        return PYGEN_RETURN;
    }
    if (usual > 0) {
        c->state = WAITING;
        return PYGEN_NEXT;
    }
    if (usual < 0 || (!c->delegate && !(c->delegate = coroutine_of(c)))) {
        leave(c);
        return PYGEN_ERROR;
    }
    c->state = DELEGATED;
    return pass_on(c, Py_None, message);
}

/* Marks a call as running: what it calls must not come back into it. 0, or -1 and an exception if it is. */
static int start_running(Call *c)
{
    if (c->running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    c->running = 1;
    return 0;
}

static PySendResult resume(Call *c, PyObject *value, PyObject **result)
{
    switch (c->state) {
    case FRESH:
        if (value == Py_None)
            return begin(c, result);
        PyErr_SetString(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    case WAITING: {
        int usual = c->method->kind->end(c, value, result);
        if (!usual)
            return pass_on(c, Py_None, result);
        leave(c);
        return usual > 0 ? PYGEN_RETURN : PYGEN_ERROR;
    }
    case DELEGATED:
        return pass_on(c, value, result);
    default:
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
}

static PySendResult call_send(PyObject *self, PyObject *value, PyObject **result)
{
    Call *c = (Call *)self;
    *result = NULL;
    if (start_running(c) < 0)
        return PYGEN_ERROR;
    PySendResult status = resume(c, value, result);
    c->running = 0;
    return status;
}

/* The same for those who call `send` and `__next__`. */
static PyObject *call_send_method(PyObject *self, PyObject *value)
{
    PyObject *result;
    if (call_send(self, value, &result) != PYGEN_RETURN)
        return result;
    PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
    Py_DECREF(result);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    return NULL;
}

static PyObject *call_next(PyObject *self) { return call_send_method(self, Py_None); }

static PyObject *call_await(PyObject *self)
{
    Call *c = (Call *)self;
    if (c->state == OVER || !may_await(&c->awaiter, self, c->state == FRESH)) {
        const char *why = c->state == OVER ? "cannot reuse already awaited coroutine"
                                           : "coroutine is being awaited already";
        PyErr_SetString(PyExc_RuntimeError, why);
        return NULL;
    }
    Py_INCREF(self);
    return self;
}

static PyObject *call_await_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    Py_INCREF(self);
    return self;
}

static void refuse_to_raise(PyObject *given)
{
    PyObject *name = PyObject_GetAttrString((PyObject *)Py_TYPE(given), "__name__");
    if (name)
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %U",
                     name);
    Py_XDECREF(name);
}

/* Sets the exception that `throw` was given in either of its forms. */
static void raise_given(PyObject *args)
{
    PyObject *type, *exc = NULL, *traceback = NULL;
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &exc, &traceback))
        return;
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, exc == Py_None ? NULL : exc);
    else
        refuse_to_raise(type);
    if (!traceback || traceback == Py_None)
        return;
    PyObject *old;
    PyErr_Fetch(&type, &exc, &old);
    Py_XDECREF(old);
    Py_INCREF(traceback);
    PyErr_Restore(type, exc, traceback);
}

static PyObject *call_throw(PyObject *self, PyObject *args)
{
    Call *c = (Call *)self;
    if (c->state == OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return NULL;
    }
    if (start_running(c) < 0)
        return NULL;
    if (c->state != DELEGATED) {
        leave(c);
        raise_given(args);
        c->running = 0;
        return NULL;
    }
    PyObject *delegate = c->delegate, *throw = PyObject_GetAttr(delegate, s_throw);
    PyObject *result = throw ? PyObject_CallObject(throw, args) : NULL;
    c->running = 0;
    Py_XDECREF(throw);
    if (!result)
        leave(c);
    return result;
}

static PyObject *call_close(PyObject *self, PyObject *unused)
{
    (void)unused;
    Call *c = (Call *)self;
    PyObject *none = Py_None;
    if (start_running(c) < 0)
        return NULL;
    if (c->state == DELEGATED) {
        PyObject *delegate = c->delegate; /* held during the call */
        Py_INCREF(delegate);
        none = PyObject_CallMethodObjArgs(delegate, s_close, NULL);
        Py_DECREF(delegate);
    } else {
        Py_INCREF(none);
    }
    if (c->state != OVER)
        leave(c);
    c->running = 0;
    return none;
}

/* ---- what others look at ---- */

/* The frame of the delegate; before there is one, that of a coroutine that never runs, made on request. */
static PyObject *call_frame(PyObject *self, void *unused)
{
    (void)unused;
    Call *c = (Call *)self;
    if (c->delegate)
        return PyObject_GetAttr(c->delegate, s_frame);
    if (!c->frame && c->state != OVER) {
        PyObject *coroutine = coroutine_of(c), *none = NULL;
        c->frame = coroutine ? PyObject_GetAttr(coroutine, s_frame) : NULL;
        if (c->frame)
            none = PyObject_CallMethodObjArgs(coroutine, s_close, NULL);
        Py_XDECREF(coroutine);
        Py_XDECREF(none);
        if (!none)
            return NULL;
    }
    PyObject *frame = c->state == OVER ? Py_None : c->frame;
    Py_INCREF(frame);
    return frame;
}

static PyObject *call_awaits(PyObject *self, void *unused)
{
    (void)unused;
    if (((Call *)self)->delegate)
        return PyObject_GetAttr(((Call *)self)->delegate, s_await);
    Py_RETURN_NONE;
}

static PyObject *call_suspended(PyObject *self, void *unused)
{
    (void)unused;
    Call *c = (Call *)self;
    if (c->state == DELEGATED)
        return PyObject_GetAttr(c->delegate, s_suspended);
    return PyBool_FromLong(c->state == WAITING);
}

/* Coroutines have `cr_state` from Python 3.15 on. */
static PyObject *call_state(PyObject *self, void *name)
{
    Call *c = (Call *)self;
    if (Py_Version < 0x030F0000) {
        PyErr_SetString(PyExc_AttributeError, name);
        return NULL;
    }
    if (c->state == DELEGATED)
        return PyObject_GetAttrString(c->delegate, name);
    return PyUnicode_InternFromString(c->state == FRESH     ? "CORO_CREATED"
                                      : c->state == WAITING ? "CORO_SUSPENDED"
                                                            : "CORO_CLOSED");
}

static PyObject *call_running(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(((Call *)self)->running);
}

static PyObject *call_origin(PyObject *self, void *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyObject *call_name(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((Call *)self)->method->function, name);
}

static PyObject *call_repr(PyObject *self)
{
    PyObject *name = call_name(self, "__qualname__");
    PyObject *repr = name ? PyUnicode_FromFormat("<coroutine object %S at %p>", name, self) : NULL;
    Py_XDECREF(name);
    return repr;
}

/* ---- the types ---- */

static int call_traverse(PyObject *self, visitproc visit, void *arg)
{
    Call *c = (Call *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(c->method);
    Py_VISIT(c->self);
    Py_VISIT(c->arg);
    Py_VISIT(c->more);
    Py_VISIT(c->socket);
    Py_VISIT(c->owner);
    Py_VISIT(c->receive);
    for (int i = 0; i < PARTS; i++)
        Py_VISIT(c->kept[i]);
    Py_VISIT(c->guard);
    Py_VISIT(c->data);
    Py_VISIT(c->delegate);
    Py_VISIT(c->frame);
    return 0;
}

static int call_clear(PyObject *self)
{
    Call *c = (Call *)self;
    leave(c);
    Py_CLEAR(c->frame);
    Py_CLEAR(c->self);
    Py_CLEAR(c->arg);
    Py_CLEAR(c->more);
    return 0;
}

static void call_dealloc(PyObject *self)
{
    Call *c = (Call *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (c->weak)
        PyObject_ClearWeakRefs(self);
    if (c->state == FRESH && c->self && !PyErr_Occurred()) {
        PyObject *coroutine = coroutine_of(c);
        Py_XDECREF(coroutine);
        PyErr_Clear();
    }
    call_clear(self);
    Py_CLEAR(c->method);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef call_members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(Call, weak), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

/* Called by programs, it tells nothing of who waits; not the function of the slot, which `await` calls. */
static PyMethodDef call_methods[] = {
    { "__await__", call_await_method, METH_NOARGS | METH_COEXIST, NULL },
    { NULL, NULL, 0, NULL },
};

static PyMethodDef call_protocol[] = {
    { "send", call_send_method, METH_O, NULL },
    { "throw", call_throw, METH_VARARGS, NULL },
    { "close", call_close, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyObject *call_getattr(PyObject *self, PyObject *name)
{
    PyObject *method = coroutine_method(call_protocol, self, name);
    return method || PyErr_Occurred() ? method : PyObject_GenericGetAttr(self, name);
}

static PyGetSetDef call_getset[] = {
    { "__class__", coroutine_class, NULL, NULL, NULL },
    { "cr_frame", call_frame, NULL, NULL, NULL },
    { "cr_code", call_name, NULL, NULL, "__code__" },
    { "cr_await", call_awaits, NULL, NULL, NULL },
    { "cr_state", call_state, NULL, NULL, "cr_state" },
    { "cr_running", call_running, NULL, NULL, NULL },
    { "cr_suspended", call_suspended, NULL, NULL, NULL },
    { "cr_origin", call_origin, NULL, NULL, NULL },
    { "__name__", call_name, NULL, NULL, "__name__" },
    { "__qualname__", call_name, NULL, NULL, "__qualname__" },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot call_slots[] = {
    { Py_tp_dealloc, call_dealloc },   { Py_tp_traverse, call_traverse }, { Py_tp_clear, call_clear },
    { Py_tp_methods, call_methods },   { Py_tp_getset, call_getset },     { Py_tp_repr, call_repr },
    { Py_tp_members, call_members },   { Py_tp_iter, coroutine_iter },    { Py_tp_iternext, call_next },
    { Py_am_await, call_await },       { Py_am_send, call_send },         { Py_tp_getattro, call_getattr },
    { 0, NULL },
};

static PyType_Spec call_spec = {
    "uring_trio.seams._ticks.Call", sizeof(Call), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, call_slots,
};

static PyObject *method_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    Method *m = (Method *)self;
    size_t n = nargsf & ~ARGUMENTS_OFFSET;
    if (!ticks_here || keywords || n - 1 > m->kind->arguments || (n == 1 && !m->usual))
        return PyObject_Vectorcall(m->function, args, nargsf, keywords);
    Call *c = PyObject_GC_New(Call, call_type);
    if (!c)
        return NULL;
    memset(&c->method, 0, sizeof *c - offsetof(Call, method));
    Py_INCREF(self);
    c->method = m;
    Py_INCREF(args[0]);
    c->self = args[0];
    if (n > 1) {
        Py_INCREF(args[1]);
        c->arg = args[1];
    }
    if (n > 2) {
        Py_INCREF(args[2]);
        c->more = args[2];
    }
    PyObject_GC_Track((PyObject *)c);
    return (PyObject *)c;
}

static PyObject *method_get(PyObject *self, PyObject *obj, PyObject *type)
{
    (void)type;
    return bound(self, obj);
}

/* A method looks like its function, but for what makes it one. */
static PyObject *method_getattro(PyObject *self, PyObject *name)
{
    PyObject *function = ((Method *)self)->function;
    if (PyUnicode_CompareWithASCIIString(name, "__wrapped__") == 0) {
        Py_INCREF(function);
        return function;
    }
    return attribute_like(self, function, name);
}

static PyObject *method_repr(PyObject *self) { return PyObject_Repr(((Method *)self)->function); }

/* Where the i-th of the references lies that a method owns; NULL after the last. */
static PyObject **method_members(Method *m, int i)
{
    PyObject **members[] = { &m->function, &m->again, &m->socket, &m->guard, &m->flag, &m->unread, &m->usual };
    return i < (int)(sizeof members / sizeof *members) ? members[i] : NULL;
}

/* Method(kind, all, function, again, socket, guard, flag, unread, usual): None for what is not needed. */
static PyObject *method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static const struct kind *const kinds[] = { &kind_receive,  &kind_receive_from, &kind_receive_into, &kind_send,
                                               &kind_send_all, &kind_send_to,      &kind_accept,       &kind_perform,
                                               &kind_get,      &kind_next };
    const char *name;
    int all;
    PyObject *given[7], **at;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "spOOOOOOO", &name, &all, &given[0], &given[1], &given[2], &given[3], &given[4],
                          &given[5], &given[6]))
        return NULL;
    Method *m = (Method *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!m)
        return NULL;
    for (int i = 0; (at = method_members(m, i)); i++)
        if (given[i] != Py_None) {
            Py_INCREF(given[i]);
            *at = given[i];
        }
    m->all = all;
    m->vectorcall = (void *)method_call;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i]->name, name) == 0)
            m->kind = kinds[i];
    if (m->kind && m->function && (m->again || !m->kind->arguments || m->kind == &kind_send || m->kind == &kind_send_to))
        return (PyObject *)m;
    PyErr_SetString(PyExc_ValueError, "a method has a kind and two functions");
    Py_DECREF(m);
    return NULL;
}

static int method_traverse(PyObject *self, visitproc visit, void *arg)
{
    PyObject **at;
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; (at = method_members((Method *)self, i)); i++)
        Py_VISIT(*at);
    return 0;
}

static int method_clear(PyObject *self)
{
    PyObject **at;
    for (int i = 0; (at = method_members((Method *)self, i)); i++)
        Py_CLEAR(*at);
    return 0;
}

static void method_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    method_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef method_memberdefs[] = {
    { "__vectorcalloffset__", T_PYSSIZET, offsetof(Method, vectorcall), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot method_slots[] = {
    { Py_tp_new, method_new },           { Py_tp_dealloc, method_dealloc },   { Py_tp_traverse, method_traverse },
    { Py_tp_clear, method_clear },       { Py_tp_members, method_memberdefs }, { Py_tp_call, PyVectorcall_Call },
    { Py_tp_getattro, method_getattro }, { Py_tp_descr_get, method_get },     { Py_tp_repr, method_repr },
    { 0, NULL },
};

static PyType_Spec method_spec = {
    "uring_trio.seams._ticks.Method", sizeof(Method), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_METHOD_DESCRIPTOR, method_slots,
};

/* describe(objects, offsets): everything in `struct io`, once for the process. */
static PyObject *describe(PyObject *module, PyObject *args)
{
    PyObject *given[7], *offsets;
    PyObject **at[] = { &io.socket_type, &io.fd_type, &io.plain_type, &io.done, &io.unwrap, &io.prepare,
                         &io.adopt };
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOOOOOO!", &given[0], &given[1], &given[2], &given[3], &given[4], &given[5],
                          &given[6], &PyTuple_Type, &offsets))
        return NULL;
    if (read_once(io.ready, offsets, io.at, IO_FIELDS) < 0)
        return NULL;
    for (int i = 0; i < 7; i++)
        keep(at[i], given[i]);
    io.ready = 1;
    Py_RETURN_NONE;
}

static PyMethodDef io_functions[] = {
    { "describe", describe, METH_VARARGS, "Takes the classes of sockets and where their fields lie." },
    { NULL, NULL, 0, NULL },
};

int load_io(PyObject *module)
{
    static const struct { PyObject **at; const char *text; } names[] = {
        { &s_throw, "throw" },    { &s_close, "close" },  { &s_frame, "cr_frame" }, { &s_await, "cr_await" },
        { &s_suspended, "cr_suspended" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*names[i].at = PyUnicode_InternFromString(names[i].text)))
            return -1;
    method_spec.flags |= (unsigned int)HAVE_VECTORCALL;
    PyObject *method = PyType_FromSpec(&method_spec);
    if (!method || PyModule_AddObjectRef(module, "Method", method) < 0)
        return -1;
    Py_DECREF(method);
    call_type = (PyTypeObject *)PyType_FromSpec(&call_spec);
    if (!call_type || name_type((PyObject *)call_type, "coroutine") < 0 ||
        PyModule_AddObjectRef(module, "Call", (PyObject *)call_type) < 0)
        return -1;
    if (PyModule_AddFunctions(module, io_functions) < 0 || load_io_socket(module) < 0 || load_io_attempts(module) < 0)
        return -1;
    return load_io_memory(module) < 0 || load_io_receive(module) < 0 || load_io_connection(module) < 0 || load_io_perform(module) < 0
               ? -1
               : load_io_next(module);
}
