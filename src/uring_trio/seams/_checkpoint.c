/* Trio's checkpoints as awaitables in C: `checkpoint`, `cancel_shielded_checkpoint`, `checkpoint_if_cancelled`;
 * `wait_task_rescheduled`, by which every task parks; and methods of locks and memory channels, which are checkpoints
 * too: what they do is in `_lock.c` and `_channel.c`.
 *
 * uring_trio/seams/checkpoints.py puts a call of the functions below into the code of Trio's functions. In a step of
 * `_ticks.c` the call returns an awaitable that does the usual case. Anywhere else it returns the coroutine of
 * Trio's own function.
 *
 * The awaitable turns into such a coroutine as soon as anything is asked of it that is not the usual case: a
 * cancelled scope, Ctrl-C, a step in Trio's own loop, `throw`, an attribute of coroutines. The coroutine is then
 * advanced to where the awaitable stands, and everything else goes to it. So errors, tracebacks, warnings and what
 * debuggers see are those of Trio's function. A method that has done its work goes on in a coroutine with the names
 * of Trio's, which has nothing left to do but to wait (uring_trio/seams/methods.py).
 *
 * Invariants
 *  - `coro` is set if and only if `state` is DELEGATED. The object is tracked by the collector only then, or if it
 *    has an `argument`.
 *  - Objects on the free list hold no references, not even to their type.
 */
#include "_checkpoint.h"

#include <string.h>
#include <structmember.h>

enum state { CREATED, YIELDED, PARKED, DONE, DELEGATED };
enum kind { CHECKPOINT, SHIELDED, IF_CANCELLED, RESCHEDULED, FUNCTIONS,
            ACQUIRE = FUNCTIONS, ENTER, LEAVE, SEND, RECEIVE, NEXT, KINDS };
enum { KEPT = 64, CO_COROUTINE = 0x80, CO_ITERABLE_COROUTINE = 0x100 };

typedef struct checkpoint {
    PyObject_HEAD
    PyObject *coro;        /* of Trio's function */
    PyObject *argument;    /* of its call, if it takes one, or the object of a method; dropped at the end */
    PyObject *value;       /* the argument of a method, then what it will return; NULL where there is none */
    PyObject *weak;        /* the list of weak references */
    const void *awaiter;   /* see `may_await` */
    enum state state;
    enum kind kind;
} Checkpoint;

/* The methods. A method whose `checks` is set begins with a cancel point. */
static const struct { const char *name; begin_call *begin; takes_self *takes; int checks, arguments; } calls[KINDS] = {
    [ACQUIRE] = { "lock_acquire", acquire_lock, is_lock, 1, 0 },
    [ENTER] = { "lock_enter", enter_lock, is_lock, 1, 0 },
    [LEAVE] = { "lock_leave", leave_lock, is_lock, 0, 3 },
    [SEND] = { "channel_send", send_value, is_sender, 1, 1 },
    [RECEIVE] = { "channel_receive", receive_value, is_receiver, 1, 0 },
    [NEXT] = { "channel_next", next_value, is_receiver, 1, 0 },
};

static PyObject *stock[KINDS];  /* functions with the code of Trio's */
static PyObject *yielded[KINDS], *parked[KINDS]; /* where a method goes on after its work; NULL: nowhere */
/* Not in the limited API of 3.11, though every CPython has it. */
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);

static PyTypeObject *checkpoint_type;
static PyObject *coroutine_type, *nothing, *s_abort_func;
static Py_ssize_t value_at, unwrapped_at; /* in instances of outcome.Value */
static Checkpoint *kept[KEPT];
static int kept_count;

/* ---- becoming Trio's coroutine ---- */

/* The coroutine of the call that this awaitable stands for, or of what is left of it; a new reference. */
static PyObject *make_coroutine(Checkpoint *self)
{
    PyObject *argument = self->kind >= RESCHEDULED && !self->argument ? Py_None : self->argument;
    PyObject *value = self->value ? self->value : Py_None;
    if (self->state == PARKED)
        return PyObject_CallFunctionObjArgs(parked[self->kind], argument, NULL);
    if (self->state == YIELDED && self->kind >= FUNCTIONS)
        return PyObject_CallFunctionObjArgs(yielded[self->kind], argument, value, NULL);
    if (self->kind == LEAVE)
        return PyObject_CallFunctionObjArgs(stock[LEAVE], argument, Py_None, value, Py_None, NULL);
    return PyObject_CallFunctionObjArgs(stock[self->kind], argument, self->kind == SEND ? value : NULL, NULL);
}

/* It is over, without a coroutine. */
static void finish(Checkpoint *self)
{
    self->state = DONE;
    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->argument);
    Py_CLEAR(self->value);
}

/* Makes a new coroutine yield for the first time: its message was handled already. */
static int advance(PyObject *coro)
{
    PyObject *message = NULL;
    if (PyIter_Send(coro, Py_None, &message) == PYGEN_NEXT) {
        Py_DECREF(message);
        return 0;
    }
    if (message) {
        Py_DECREF(message);
        PyErr_SetString(PyExc_RuntimeError, "Trio's checkpoint did not yield");
    }
    return -1;
}

static int close_coroutine(PyObject *coro)
{
    PyObject *none = PyObject_CallMethod(coro, "close", NULL);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* Afterwards `coro` stands where this awaitable stood. An error leaves a coroutine that is over. */
static int delegate(Checkpoint *self)
{
    if (self->state == DELEGATED)
        return 0;
    PyObject *coro = make_coroutine(self);
    if (!coro)
        return -1;
    enum state state = self->state;
    self->coro = coro;
    self->state = DELEGATED;
    if (!self->argument)
        PyObject_GC_Track(self);
    return state == YIELDED || state == PARKED ? advance(coro) : state == DONE ? close_coroutine(coro) : 0;
}

/* ---- the usual case ---- */

/* Counts a cancel point of the task that is being stepped: 1; 0 if this is for Trio to do. */
static int passes(Ticks *t, PyObject *task)
{
    if (*field(*field(task, t->at[T_CANCEL_STATUS]), t->at[C_CANCELLED]) != Py_False ||
        *field(t->runner, t->at[R_KI_PENDING]) != Py_False)
        return 0;
    return bump(task, t->at[T_CANCEL_POINTS]) < 0 ? -1 : 1;
}

/* A new reference; the function stays the caller's. */
PyObject *park_message(Ticks *t, PyObject *abort_func)
{
    newfunc make = (newfunc)PyType_GetSlot((PyTypeObject *)t->park_type, Py_tp_new);
    PyObject *message = make((PyTypeObject *)t->park_type, nothing, NULL);
    if (message && PyObject_GenericSetAttr(message, s_abort_func, abort_func) < 0)
        Py_CLEAR(message);
    return message;
}

/* The value of an outcome that was not unwrapped before, owned; NULL without an exception: left to Trio. */
static PyObject *unwrap(Ticks *t, PyObject *value)
{
    PyObject *found = value == t->again ? Py_None : NULL;
    if ((PyObject *)Py_TYPE(value) == t->value && *field(value, unwrapped_at) == Py_False) {
        Py_INCREF(Py_True);
        put(value, unwrapped_at, Py_True);
        found = *field(value, value_at);
    }
    Py_XINCREF(found);
    return found;
}

/* A new reference; the value stays the caller's. */
PyObject *make_value(Ticks *t, PyObject *value)
{
    newfunc make = (newfunc)PyType_GetSlot((PyTypeObject *)t->value, Py_tp_new);
    PyObject *made = make((PyTypeObject *)t->value, nothing, NULL);
    if (made) {
        Py_INCREF(value);
        put(made, value_at, value);
        Py_INCREF(Py_False);
        put(made, unwrapped_at, Py_False);
    }
    return made;
}

int class_has(PyObject *self, PyObject *name, PyObject *function)
{
    PyObject *found = PyObject_GetAttr((PyObject *)Py_TYPE(self), name);
    if (!found)
        PyErr_Clear();
    Py_XDECREF(found);
    return found && found == function;
}

/* A step of `wait_task_rescheduled` while ticks run in C. 1: `*result` is set to what it returns; 0: left to Trio;
 * -1: with an exception; 2: it parks by `*result`. That is a new reference. */
static int rescheduled(Checkpoint *self, Ticks *t, PyObject *value, PyObject **result)
{
    if (self->state == CREATED && value == Py_None) {
        if (!(*result = park_message(t, self->argument)))
            return -1;
        self->state = YIELDED;
        return 2;
    }
    if (self->state != YIELDED || !(*result = unwrap(t, value)))
        return 0;
    finish(self);
    return 1;
}

/* The first step of a method: as `rescheduled`, with a new reference. */
static int begin(Checkpoint *self, Ticks *t, PyObject *task, PyObject **result)
{
    PyObject *points = *field(task, t->at[T_CANCEL_POINTS]), *object = self->argument, *value = self->value;
    int checks = calls[self->kind].checks;
    Py_INCREF(points);
    Py_INCREF(object); /* over the work, which can run the collector, and with it the end of anything */
    Py_XINCREF(value);
    int passed = checks ? passes(t, task) : 1;
    enum begun begun = passed > 0 ? calls[self->kind].begin(t, object, value, result) : passed;
    Py_XDECREF(value);
    Py_DECREF(object);
    if (begun <= UNUSUAL_CALL && checks) {
        put(task, t->at[T_CANCEL_POINTS], points); /* nothing was done */
        return begun;
    }
    Py_DECREF(points);
    switch (begun) {
    case YIELDS:
        Py_XDECREF(self->value);
        self->value = *result;
        Py_INCREF(t->yield_message);
        *result = t->yield_message;
        self->state = YIELDED;
        return 2;
    case PARKS:
        Py_CLEAR(self->value);
        self->state = PARKED;
        return 2;
    case RETURNS:
        finish(self);
        return 1;
    default:
        return begun;
    }
}

/* A step of a method: as `rescheduled`, with a new reference. */
static int step_method(Checkpoint *self, Ticks *t, PyObject *task, PyObject *value, PyObject **result)
{
    if (self->state == CREATED && value == Py_None)
        return begin(self, t, task, result);
    if (self->state == YIELDED && value == t->again) {
        *result = self->value;
        self->value = NULL;
    } else if (self->state != PARKED || !(*result = unwrap(t, value))) {
        return 0;
    } else if (self->kind == SEND) {
        Py_INCREF(Py_None);
        Py_DECREF(*result);
        *result = Py_None;
    }
    finish(self);
    return 1;
}

static PySendResult checkpoint_send(PyObject *obj, PyObject *value, PyObject **result)
{
    Checkpoint *self = (Checkpoint *)obj;
    Ticks *t = ticks_here;
    PyObject *task = task_here;
    *result = NULL;
    if (task && self->kind >= RESCHEDULED) {
        int done = self->kind == RESCHEDULED ? rescheduled(self, t, value, result)
                                             : step_method(self, t, task, value, result);
        if (done)
            return done < 0 ? PYGEN_ERROR : done == 1 ? PYGEN_RETURN : PYGEN_NEXT;
    } else if (task && self->state == CREATED && self->kind != IF_CANCELLED && value == Py_None) {
        self->state = YIELDED;
        Py_INCREF(t->yield_message);
        *result = t->yield_message;
        return PYGEN_NEXT;
    } else if (task && ((self->state == YIELDED && value == t->again) ||
                 (self->state == CREATED && self->kind == IF_CANCELLED && value == Py_None))) {
        int passed = self->kind == SHIELDED ? 1 : passes(t, task);
        if (passed < 0)
            return PYGEN_ERROR;
        if (passed) {
            self->state = DONE;
            Py_INCREF(Py_None);
            *result = Py_None;
            return PYGEN_RETURN;
        }
    }
    if (self->state == DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (delegate(self) < 0)
        return PYGEN_ERROR;
    return PyIter_Send(self->coro, value, result);
}

/* A new reference to an awaitable. */
static PyObject *make_awaitable(enum kind kind, PyObject *argument, PyObject *value)
{
    Checkpoint *self;
    if (kept_count) {
        self = kept[--kept_count];
        PyObject_Init((PyObject *)self, checkpoint_type);
    } else if (!(self = PyObject_GC_New(Checkpoint, checkpoint_type))) {
        return NULL;
    }
    self->coro = self->weak = NULL;
    self->awaiter = NULL;
    self->state = CREATED;
    self->kind = kind;
    Py_XINCREF(argument);
    self->argument = argument;
    Py_XINCREF(value);
    self->value = value;
    if (argument)
        PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* A new reference: in a step to an awaitable, elsewhere to a coroutine of Trio's. */
static PyObject *make(enum kind kind, PyObject *argument)
{
    if (!task_here)
        return PyObject_CallFunctionObjArgs(stock[kind], argument, NULL);
    return make_awaitable(kind, argument, NULL);
}

/* The same for a method, called with an object and the method's arguments: a new reference. */
static PyObject *call_method(enum kind kind, PyObject *const *args, Py_ssize_t n)
{
    if (task_here && n == 1 + calls[kind].arguments && calls[kind].takes(args[0]))
        return make_awaitable(kind, args[0], kind == SEND ? args[1] : kind == LEAVE ? args[2] : NULL);
    return PyObject_Vectorcall(stock[kind], args, (size_t)n, NULL);
}

/* ---- what coroutines have ---- */

/* The result of a send as methods return it; takes its reference. */
static PyObject *sent(PySendResult status, PyObject *result)
{
    if (status != PYGEN_RETURN)
        return result;
    PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result == Py_None ? NULL : result, NULL);
    Py_DECREF(result);
    if (stop)
        PyErr_SetObject(PyExc_StopIteration, stop);
    Py_XDECREF(stop);
    return NULL;
}

static PyObject *checkpoint_send_method(PyObject *self, PyObject *value)
{
    PyObject *result;
    PySendResult status = checkpoint_send(self, value, &result);
    return sent(status, result);
}

static PyObject *checkpoint_next(PyObject *self) { return checkpoint_send_method(self, Py_None); }

static PyObject *checkpoint_throw(PyObject *self, PyObject *args)
{
    if (delegate((Checkpoint *)self) < 0)
        return NULL;
    PyObject *method = PyObject_GetAttrString(((Checkpoint *)self)->coro, "throw");
    PyObject *result = method ? PyObject_CallObject(method, args) : NULL;
    Py_XDECREF(method);
    return result;
}

static PyObject *checkpoint_close(PyObject *obj, PyObject *unused)
{
    Checkpoint *self = (Checkpoint *)obj;
    (void)unused;
    if (self->state == DELEGATED && close_coroutine(self->coro) < 0)
        return NULL;
    if (self->state != DELEGATED)
        finish(self);
    Py_RETURN_NONE;
}

static PyObject *checkpoint_self(PyObject *self)
{
    Py_INCREF(self);
    return self;
}

/* A new reference. */
PyObject *coroutine_class(PyObject *self, void *unused)
{
    (void)self;
    (void)unused;
    Py_INCREF(coroutine_type);
    return coroutine_type;
}

/* Errors that Python raises name the type of an object. */
int name_type(PyObject *type, const char *text)
{
    PyObject *name = PyUnicode_InternFromString(text);
    int ret = name ? PyObject_SetAttrString(type, "__name__", name) : -1;
    Py_XDECREF(name);
    return ret;
}

/* For `yield from`, which asks for an iterator unless it is an exact coroutine. As for coroutines, only the generators
 * that `types.coroutine` has marked may. */
PyObject *coroutine_iter(PyObject *self)
{
    PyFrameObject *frame = PyEval_GetFrame(); /* borrowed */
    PyObject *code = frame ? (PyObject *)PyFrame_GetCode(frame) : NULL;
    PyObject *flags = code ? PyObject_GetAttrString(code, "co_flags") : NULL;
    long bits = flags ? PyLong_AsLong(flags) : 0;
    Py_XDECREF(flags);
    Py_XDECREF(code);
    if (PyErr_Occurred())
        return NULL;
    if (bits & (CO_COROUTINE | CO_ITERABLE_COROUTINE)) {
        Py_INCREF(self);
        return self;
    }
    PyErr_SetString(PyExc_TypeError, "'coroutine' object is not iterable");
    return NULL;
}

/* Whether a coroutine waits for something. */
static int awaits(PyObject *coro)
{
    PyObject *inner = PyObject_GetAttrString(coro, "cr_await");
    Py_XDECREF(inner);
    return inner ? inner != Py_None : -1;
}

/* For `await`, which lets nobody wait for a coroutine that somebody waits for. */
static PyObject *checkpoint_await(PyObject *self)
{
    Checkpoint *c = (Checkpoint *)self;
    int taken = c->state == DELEGATED ? awaits(c->coro) : c->state == YIELDED || c->state == PARKED;
    if (taken >= 0 && may_await(&c->awaiter, self, !taken))
        taken = 0;
    if (taken > 0)
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
    return taken ? NULL : checkpoint_self(self);
}

static PyObject *checkpoint_await_method(PyObject *self, PyObject *unused)
{
    (void)unused;
    return checkpoint_self(self);
}

static PyMethodDef protocol[] = {
    { "send", checkpoint_send_method, METH_O, NULL },
    { "throw", checkpoint_throw, METH_VARARGS, NULL },
    { "close", checkpoint_close, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

/* A bound method of that name, a new reference; NULL without an exception: there is none. */
PyObject *coroutine_method(PyMethodDef *among, PyObject *self, PyObject *name)
{
    for (PyMethodDef *method = among; method->ml_name; method++)
        if (PyUnicode_CompareWithASCIIString(name, method->ml_name) == 0)
            return PyCFunction_NewEx(method, self, NULL);
    return NULL;
}

static PyObject *checkpoint_getattr(PyObject *self, PyObject *name)
{
    PyObject *method = coroutine_method(protocol, self, name);
    if (method || PyErr_Occurred())
        return method;
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value || !PyErr_ExceptionMatches(PyExc_AttributeError))
        return value;
    PyErr_Clear();
    return delegate((Checkpoint *)self) < 0 ? NULL : PyObject_GetAttr(((Checkpoint *)self)->coro, name);
}

static int checkpoint_setattr(PyObject *self, PyObject *name, PyObject *value)
{
    return delegate((Checkpoint *)self) < 0 ? -1 : PyObject_SetAttr(((Checkpoint *)self)->coro, name, value);
}

static PyObject *checkpoint_repr(PyObject *self)
{
    PyObject *name = PyObject_GetAttrString(stock[((Checkpoint *)self)->kind], "__qualname__");
    PyObject *text = name ? PyUnicode_FromFormat("<coroutine object %S at %p>", name, self) : NULL;
    Py_XDECREF(name);
    return text;
}

/* ---- the type ---- */

static int checkpoint_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Checkpoint *)self)->coro);
    Py_VISIT(((Checkpoint *)self)->argument);
    Py_VISIT(((Checkpoint *)self)->value);
    return 0;
}

static int checkpoint_clear(PyObject *self)
{
    Checkpoint *checkpoint = (Checkpoint *)self;
    if (checkpoint->coro)
        checkpoint->state = DONE;
    Py_CLEAR(checkpoint->coro);
    return 0; /* the argument is needed for as long as the call is not over */
}

/* Trio's coroutine in the place of this one lets the interpreter warn as it warns of every coroutine. Ctrl-C may
 * come between the call and its await, in the frame of the call, where Trio's function has none. */
static void warn_never_awaited(Checkpoint *self)
{
    PyObject *type, *exc, *traceback;
    PyErr_Fetch(&type, &exc, &traceback);
    if (!type || !PyErr_GivenExceptionMatches(type, PyExc_KeyboardInterrupt)) {
        PyObject *coro = make_coroutine(self);
        Py_XDECREF(coro);
        PyErr_Clear();
    }
    PyErr_Restore(type, exc, traceback);
}

static void checkpoint_dealloc(PyObject *obj)
{
    Checkpoint *self = (Checkpoint *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    if (self->weak)
        PyObject_ClearWeakRefs(obj);
    if (self->state == CREATED)
        warn_never_awaited(self);
    Py_CLEAR(self->coro);
    Py_CLEAR(self->argument);
    Py_CLEAR(self->value);
    if (kept_count < KEPT)
        kept[kept_count++] = self;
    else
        PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef checkpoint_members[] = {
    { "__weaklistoffset__", T_PYSSIZET, offsetof(Checkpoint, weak), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

/* Called by programs, it tells nothing of who waits; not the function of the slot, which `await` calls. */
static PyMethodDef checkpoint_methods[] = {
    { "__await__", checkpoint_await_method, METH_NOARGS | METH_COEXIST, NULL },
    { NULL, NULL, 0, NULL },
};

static PyGetSetDef checkpoint_getset[] = {
    { "__class__", coroutine_class, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot checkpoint_slots[] = {
    { Py_tp_dealloc, checkpoint_dealloc },   { Py_tp_traverse, checkpoint_traverse },
    { Py_tp_clear, checkpoint_clear },       { Py_tp_methods, checkpoint_methods },
    { Py_tp_members, checkpoint_members },   { Py_tp_getset, checkpoint_getset },
    { Py_tp_getattro, checkpoint_getattr },  { Py_tp_setattro, checkpoint_setattr },
    { Py_tp_repr, checkpoint_repr },         { Py_tp_iternext, checkpoint_next },
    { Py_tp_iter, coroutine_iter },
    { Py_am_await, checkpoint_await },       { Py_am_send, checkpoint_send },
    { 0, NULL },
};

static PyType_Spec checkpoint_spec = {
    "uring_trio.seams._ticks.Checkpoint", sizeof(Checkpoint), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, checkpoint_slots,
};

/* ---- the functions ---- */

static PyObject *checkpoint(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return make(CHECKPOINT, NULL);
}

static PyObject *cancel_shielded_checkpoint(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return make(SHIELDED, NULL);
}

static PyObject *checkpoint_if_cancelled(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return make(IF_CANCELLED, NULL);
}

static PyObject *wait_task_rescheduled(PyObject *module, PyObject *abort_func)
{
    (void)module;
    return make(RESCHEDULED, abort_func);
}

static PyObject *use_checkpoints(PyObject *module, PyObject *args)
{
    PyObject *given[KINDS];
    (void)module;
    if (!PyArg_ParseTuple(args, "nnOOOO", &value_at, &unwrapped_at, &given[0], &given[1], &given[2], &given[3]))
        return NULL;
    for (int i = 0; i < FUNCTIONS; i++)
        keep(&stock[i], given[i]);
    Py_RETURN_NONE;
}

#define METHOD(name, kind)                                                                                    \
    static PyObject *name(PyObject *module, PyObject *const *args, Py_ssize_t n)                              \
    {                                                                                                         \
        (void)module;                                                                                         \
        return call_method(kind, args, n);                                                                    \
    }
METHOD(lock_acquire, ACQUIRE)
METHOD(lock_enter, ENTER)
METHOD(lock_leave, LEAVE)
METHOD(channel_send, SEND)
METHOD(channel_receive, RECEIVE)
METHOD(channel_next, NEXT)
#undef METHOD

/* use_method(name, function, yielded, parked): a function with Trio's code, and those that go on after the work. */
static PyObject *use_method(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *given[3];
    (void)module;
    if (!PyArg_ParseTuple(args, "sOOO", &name, &given[0], &given[1], &given[2]))
        return NULL;
    for (int i = FUNCTIONS; i < KINDS; i++) {
        if (strcmp(calls[i].name, name) != 0)
            continue;
        keep(&stock[i], given[0]);
        keep(&yielded[i], given[1]);
        keep(&parked[i], given[2]);
        Py_RETURN_NONE;
    }
    return PyErr_Format(PyExc_ValueError, "no method has the name %s", name);
}

static PyMethodDef functions[] = {
    { "checkpoint", checkpoint, METH_NOARGS, "What the function of that name calls." },
    { "cancel_shielded_checkpoint", cancel_shielded_checkpoint, METH_NOARGS, "As above." },
    { "checkpoint_if_cancelled", checkpoint_if_cancelled, METH_NOARGS, "As above." },
    { "wait_task_rescheduled", wait_task_rescheduled, METH_O, "As above." },
    { "use_checkpoints", use_checkpoints, METH_VARARGS,
      "Takes where the fields of outcome.Value lie, and functions with Trio's code, in that order." },
    { "lock_acquire", (PyCFunction)(void (*)(void))lock_acquire, METH_FASTCALL, "What the method calls." },
    { "lock_enter", (PyCFunction)(void (*)(void))lock_enter, METH_FASTCALL, "As above." },
    { "lock_leave", (PyCFunction)(void (*)(void))lock_leave, METH_FASTCALL, "As above." },
    { "channel_send", (PyCFunction)(void (*)(void))channel_send, METH_FASTCALL, "As above." },
    { "channel_receive", (PyCFunction)(void (*)(void))channel_receive, METH_FASTCALL, "As above." },
    { "channel_next", (PyCFunction)(void (*)(void))channel_next, METH_FASTCALL, "As above." },
    { "use_method", use_method, METH_VARARGS, "Takes a method's name, and functions with the code of Trio's." },
    { NULL, NULL, 0, NULL },
};

int load_checkpoint(PyObject *module)
{
    PyObject *types = PyImport_ImportModule("types");
    if (!types)
        return -1;
    coroutine_type = PyObject_GetAttrString(types, "CoroutineType");
    Py_DECREF(types);
    if (!(nothing = PyTuple_New(0)) || !(s_abort_func = PyUnicode_InternFromString("abort_func")))
        return -1;
    if (!coroutine_type || !(checkpoint_type = (PyTypeObject *)PyType_FromSpec(&checkpoint_spec)) ||
        name_type((PyObject *)checkpoint_type, "coroutine") < 0)
        return -1;
    return PyModule_AddFunctions(module, functions);
}
