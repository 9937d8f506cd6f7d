/* Tasks: the start of one by a nursery, its wake-ups, and its end, in a step of `_ticks.c`.
 *
 * The usual task is a coroutine function, or a method or a `functools.partial` of one, in an open nursery. It ends by
 * returning while no nursery of its own is open. The fields that Trio's functions write are written here in place, so
 * that every other function finds what it expects. uring_trio/seams/tasks.py finds where they lie and puts the
 * shortcuts into the classes.
 *
 * Invariants
 *  - The call of a coroutine function runs none of its code. If it fails, Trio's function makes it again, and that
 *    error is raised.
 *  - All objects of a new task are made before anything is written.
 *  - Nothing is done here while one of the functions that this stands for has been replaced.
 */
#include "_shortcut.h"

#include <stddef.h>

/* Not in the limited API of 3.11, though every CPython has them. */
PyAPI_FUNC(PyObject *) PyContext_CopyCurrent(void);
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
PyAPI_DATA(PyTypeObject) PyFunction_Type;
PyAPI_DATA(PyTypeObject) PyMethod_Type;
PyAPI_DATA(PyTypeObject) PyCoro_Type;

/* Where the fields lie in instances of Trio's Task and CancelStatus; those of a task come in the order of its class. */
enum task_field {
    K_NURSERY, K_CORO, K_RUNNER, K_NAME, K_CONTEXT, K_COUNTER, K_PROTECTED, K_SEND_FN, K_SEND, K_ABORT, K_SLEEP,
    K_CHILDREN, K_EVENTUAL, K_CANCEL_POINTS, K_SCHEDULE_POINTS, K_STATUS, OF_TASK,
    U_CANCELLED = OF_TASK, U_TASKS, U_ABANDONED, TASK_FIELDS
};
enum { WATCHED = 12, NAMES = 64, CO_COROUTINE = 0x80 };

/* Set once; references are owned for ever. */
static PyObject *nursery_type, *status_type, *partial_type, *breakers, *count, *no_send, *nothing;
static Py_ssize_t at[TASK_FIELDS];

/* What has to lie in the dicts of Trio's classes; none while the shortcuts are not in place. */
static struct { PyObject *dict, *name, *value; } watched[WATCHED];
static int watched_count;

/* Names of tasks, by the strings that they were made of. */
static struct { PyObject *module, *qualname, *name; } names[NAMES];

static PyObject *s_name, *s_func, *s_function, *s_code, *s_flags, *s_module, *s_qualname, *s_closed, *s_children,
    *s_status, *s_nested, *s_starts, *s_waiting, *s_parent;

static inline PyObject *get(PyObject *obj, enum task_field name) { return *field(obj, at[name]); }

static inline int is(PyObject *obj, PyObject *type) { return obj && (PyObject *)Py_TYPE(obj) == type; }

/* Whether Trio's functions are those that this was written for. */
static int unpatched(void)
{
    for (int i = 0; i < watched_count; i++)
        if (PyDict_GetItemWithError(watched[i].dict, watched[i].name) != watched[i].value)
            return 0;
    return watched_count > 0;
}

/* Whether an attribute of a nursery is that object; an error counts as no. */
static int has(PyObject *nursery, PyObject *name, PyObject *value)
{
    PyObject *found = PyObject_GetAttr(nursery, name);
    if (!found)
        PyErr_Clear();
    Py_XDECREF(found);
    return found == value;
}

/* ---- the start ---- */

/* The function whose coroutine a task will be, owned; NULL without an exception if it is none that is usual. */
static PyObject *function_of(PyObject *fn)
{
    Py_INCREF(fn);
    PyObject *attributes[] = { is(fn, partial_type) ? s_func : NULL, s_function };
    for (int i = 0; fn && i < 2; i++) {
        if (!attributes[i] || (i && !is(fn, (PyObject *)&PyMethod_Type)))
            continue;
        PyObject *inner = PyObject_GetAttr(fn, attributes[i]);
        Py_DECREF(fn);
        fn = inner;
    }
    PyObject *code = is(fn, (PyObject *)&PyFunction_Type) ? PyObject_GetAttr(fn, s_code) : NULL;
    PyObject *flags = code ? PyObject_GetAttr(code, s_flags) : NULL;
    if (!flags || !(PyLong_AsLong(flags) & CO_COROUTINE))
        Py_CLEAR(fn);
    if (!code)
        Py_CLEAR(fn);
    Py_XDECREF(code);
    Py_XDECREF(flags);
    PyErr_Clear();
    return fn;
}

/* The name of a task that runs this function, owned; NULL without an exception if it has none that is usual. */
static PyObject *name_of(PyObject *function)
{
    PyObject *module = PyObject_GetAttr(function, s_module), *name = NULL;
    PyObject *qualname = module ? PyObject_GetAttr(function, s_qualname) : NULL;
    if (qualname && PyUnicode_CheckExact(module) && PyUnicode_CheckExact(qualname)) {
        size_t i = (((uintptr_t)qualname >> 4) ^ ((uintptr_t)module >> 6)) % NAMES;
        if (names[i].module != module || names[i].qualname != qualname) {
            name = PyUnicode_FromFormat("%U.%U", module, qualname);
            if (name) {
                PyObject *old[] = { names[i].module, names[i].qualname, names[i].name };
                Py_INCREF(module);
                Py_INCREF(qualname);
                names[i].module = module;
                names[i].qualname = qualname;
                names[i].name = name;
                for (int j = 0; j < 3; j++)
                    Py_XDECREF(old[j]);
            }
        }
        name = names[i].module == module && names[i].qualname == qualname ? names[i].name : NULL;
        Py_XINCREF(name);
    }
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    PyErr_Clear();
    return name;
}

/* The coroutine of a call, owned; NULL without an exception if it is left to Trio. */
static PyObject *coroutine_of(PyObject *fn, PyObject *const *args, Py_ssize_t n, PyObject *packed)
{
    PyObject *task = task_here;
    task_here = NULL; /* so that a checkpoint with exchanged code returns Trio's coroutine */
    PyObject *coro = packed ? PyObject_Call(fn, packed, NULL) : PyObject_Vectorcall(fn, args, (size_t)n, NULL);
    task_here = task;
    if (coro && is(coro, (PyObject *)&PyCoro_Type))
        return coro;
    if (!coro && PyErr_ExceptionMatches(PyExc_Exception))
        PyErr_Clear();
    Py_XDECREF(coro);
    return NULL;
}

/* A task that is in no set yet, owned; NULL with an exception. The arguments stay the caller's. */
static PyObject *make_task(Ticks *t, PyObject *nursery, PyObject *status, PyObject *coro, PyObject *name)
{
    PyObject *context = PyContext_CopyCurrent(), *number = NULL, *children = NULL, *zero = NULL, *task = NULL;
    if (!context || !(number = PyObject_CallNoArgs(count)) || !(children = PyList_New(0)) ||
        !(zero = PyLong_FromLong(0)))
        goto out;
    newfunc make = (newfunc)PyType_GetSlot((PyTypeObject *)t->task_type, Py_tp_new);
    if (!(task = make((PyTypeObject *)t->task_type, nothing, NULL)))
        goto out;
    PyObject *const values[OF_TASK] = {
        [K_NURSERY] = nursery, [K_CORO] = coro, [K_RUNNER] = t->runner, [K_NAME] = name, [K_CONTEXT] = context,
        [K_COUNTER] = number, [K_PROTECTED] = Py_False, [K_SEND_FN] = Py_None, [K_SEND] = Py_None,
        [K_ABORT] = Py_None, [K_SLEEP] = Py_None, [K_CHILDREN] = children, [K_EVENTUAL] = Py_None,
        [K_CANCEL_POINTS] = zero, [K_SCHEDULE_POINTS] = zero, [K_STATUS] = status,
    };
    for (int i = 0; i < OF_TASK; i++) {
        Py_INCREF(values[i]);
        put(task, at[i], values[i]);
    }
out:
    Py_XDECREF(context);
    Py_XDECREF(number);
    Py_XDECREF(children);
    Py_XDECREF(zero);
    return task;
}

/* Puts a new task in its places. */
static int add_task(Ticks *t, PyObject *task, PyObject *status, PyObject *children)
{
    if (PySet_Add(t->tasks, task) < 0 || PySet_Add(children, task) < 0 || PySet_Add(get(status, U_TASKS), task) < 0 ||
        schedule(t, task, Py_None) < 0) {
        PySet_Discard(get(status, U_TASKS), task);
        PySet_Discard(children, task);
        PySet_Discard(t->tasks, task);
        return -1;
    }
    return 1;
}

/* Starts a task with the arguments in `packed`, or else with the `n` at `args`. The result is a new reference. */
static int spawn(Ticks *t, PyObject *nursery, PyObject *fn, PyObject *const *args, Py_ssize_t n, PyObject *packed,
                 PyObject *name, PyObject **result)
{
    PyObject *function = NULL, *status = NULL, *children = NULL, *coro = NULL;
    int ret = 0;
    if (!is(nursery, nursery_type) || PyDict_Size(t->hooks) != 1 || !unpatched() || !(function = function_of(fn)))
        return 0;
    if (name != Py_None)
        Py_INCREF(name);
    else
        name = name_of(function);
    if (!name || !PyUnicode_CheckExact(name) || !(status = PyObject_GetAttr(nursery, s_status)) ||
        !(children = PyObject_GetAttr(nursery, s_children)) || !is(children, (PyObject *)&PySet_Type) ||
        !has(nursery, s_closed, Py_False) || !is(status, status_type) || get(status, U_CANCELLED) != Py_False ||
        get(status, U_ABANDONED) != Py_False || !(coro = coroutine_of(fn, args, n, packed)))
        goto out;
    ret = -1;
    if ((*result = make_task(t, nursery, status, coro, name)) && (ret = add_task(t, *result, status, children)) < 0)
        Py_CLEAR(*result);
out:
    if (!ret && PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_AttributeError))
        PyErr_Clear();
    Py_XDECREF(function);
    Py_XDECREF(name);
    Py_XDECREF(status);
    Py_XDECREF(children);
    Py_XDECREF(coro);
    return PyErr_Occurred() ? -1 : ret;
}

/* Nursery.start_soon */
static int start_soon(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    PyObject *name = Py_None, *task;
    if (n < 2)
        return 0;
    if (keywords) {
        if (PyTuple_Size(keywords) != 1 || PyTuple_GetItem(keywords, 0) != s_name)
            return 0;
        name = args[n];
    }
    int ret = spawn(t, args[0], args[1], args + 2, n - 2, NULL, name, &task);
    if (ret > 0) {
        Py_DECREF(task);
        Py_INCREF(Py_None);
        *result = Py_None;
    }
    return ret;
}

/* Runner.spawn_impl */
static int spawn_impl(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    if (n != 5 || keywords || args[0] != t->runner || !PyTuple_CheckExact(args[2]))
        return 0;
    return spawn(t, args[3], args[1], NULL, 0, args[2], args[4], result);
}

/* ---- a wake-up ---- */

int may_wake(Ticks *t, PyObject *task)
{
    int last = watched_count - 1; /* Runner.reschedule */
    return last >= 0 && PyDict_GetItemWithError(watched[last].dict, watched[last].name) == watched[last].value &&
           PyDict_Size(t->hooks) == 1 && get(task, K_RUNNER) == t->runner && get(task, K_SEND_FN) == Py_None;
}

/* Runner.reschedule */
static int reschedule(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    PyObject *task = n > 1 ? args[1] : NULL;
    if (n < 2 || n > 3 || keywords || args[0] != t->runner || !is(task, t->task_type) ||
        get(task, K_RUNNER) != t->runner || get(task, K_SEND_FN) != Py_None || PyDict_Size(t->hooks) != 1)
        return 0;
    if (schedule(t, task, n == 2 || args[2] == no_send ? t->again : args[2]) < 0)
        return -1;
    Py_INCREF(Py_None);
    *result = Py_None;
    return 1;
}

/* ---- the end ---- */

/* Wakes the task that waits for the end of this nursery, if nothing else is in it. */
static int check_nursery(Ticks *t, PyObject *nursery, PyObject *children)
{
    if (PySet_Size(children) || !has(nursery, s_nested, Py_False))
        return 0;
    PyObject *starts = PyObject_GetAttr(nursery, s_starts);
    int idle = starts ? PyObject_Not(starts) : -1;
    Py_XDECREF(starts);
    if (idle <= 0)
        return idle;
    if (PyObject_SetAttr(nursery, s_closed, Py_True) < 0)
        return -1;
    if (!has(nursery, s_waiting, Py_True))
        return 0;
    PyObject *parent = PyObject_SetAttr(nursery, s_waiting, Py_False) < 0 ? NULL : PyObject_GetAttr(nursery, s_parent);
    int ret = -1;
    if (is(parent, t->task_type) && get(parent, K_SEND_FN) == Py_None)
        ret = schedule(t, parent, t->again);
    else if (parent)
        PyErr_SetString(PyExc_AssertionError, "the task that waits for a nursery is runnable");
    Py_XDECREF(parent);
    return ret;
}

int leave_task(Ticks *t, PyObject *task)
{
    PyObject *nursery, *status, *own = get(task, K_CHILDREN);
    if (!watched_count || !is(nursery = get(task, K_NURSERY), nursery_type) || *field(t->runner, t->at[R_MAIN_TASK]) == task ||
        PyDict_Size(t->hooks) != 1 || !is(own, (PyObject *)&PyList_Type) || PyList_Size(own) ||
        !is(status = get(task, K_STATUS), status_type) || get(status, U_ABANDONED) != Py_False || !unpatched() ||
        (PyDict_Size(breakers) && PyDict_Contains(breakers, task)))
        return 0;
    PyObject *children = PyObject_GetAttr(nursery, s_children);
    int ret = 0;
    if (is(children, (PyObject *)&PySet_Type) && PySet_Contains(children, task) == 1 &&
        has(nursery, s_closed, Py_False)) {
        Py_INCREF(nursery); /* held while the task ends */
        PySet_Discard(get(status, U_TASKS), task);
        put_none(task, at[K_STATUS]);
        PySet_Discard(t->tasks, task);
        PySet_Discard(children, task);
        ret = check_nursery(t, nursery, children) < 0 ? -1 : 1;
        Py_DECREF(nursery);
    }
    Py_XDECREF(children);
    if (!ret)
        PyErr_Clear();
    return ret;
}

/* ---- the functions ---- */

/* use_tasks(nursery class, status class, partial, breakers of parking lots, counter, sentinel, offsets, functions):
 * the shortcuts of `Nursery.start_soon`, `Runner.spawn_impl` and `Runner.reschedule`. */
static PyObject *use_tasks(PyObject *module, PyObject *args)
{
    static usual_case *const cases[] = { start_soon, spawn_impl, reschedule };
    enum { CASES = sizeof cases / sizeof *cases, GIVEN = 6 };
    PyObject *given[GIVEN], **const places[] = { &nursery_type, &status_type, &partial_type, &breakers, &count, &no_send };
    PyObject *offsets, *functions[CASES];
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO!OOO!(OOO)", &given[0], &given[1], &given[2], &PyDict_Type, &given[3], &given[4],
                          &given[5], &PyTuple_Type, &offsets, &functions[0], &functions[1], &functions[2]))
        return NULL;
    if (PyTuple_Size(offsets) != TASK_FIELDS)
        return PyErr_Format(PyExc_TypeError, "tasks need %d offsets", (int)TASK_FIELDS);
    if (read_offsets(offsets, at, TASK_FIELDS) < 0)
        return NULL;
    for (int i = 0; i < GIVEN; i++)
        keep(places[i], given[i]);
    return make_shortcuts(cases, functions, CASES);
}

/* watch_tasks([(dict, name, value), ...]): what has to lie in the classes for tasks to start and end here;
 * the last one is `Runner.reschedule`. */
static PyObject *watch_tasks(PyObject *module, PyObject *list)
{
    (void)module;
    Py_ssize_t n = PyList_Size(list);
    if (n < 0 || n > WATCHED)
        return PyErr_Format(PyExc_TypeError, "a list of up to %d", (int)WATCHED);
    int before = watched_count;
    watched_count = 0;
    for (int i = 0; i < before; i++) {
        Py_CLEAR(watched[i].dict);
        Py_CLEAR(watched[i].name);
        Py_CLEAR(watched[i].value);
    }
    for (int i = 0; i < n; i++) {
        PyObject *dict, *name, *value;
        if (!PyArg_ParseTuple(PyList_GetItem(list, i), "O!UO", &PyDict_Type, &dict, &name, &value))
            return NULL;
        Py_INCREF(dict);
        Py_INCREF(name);
        Py_INCREF(value);
        watched[i].dict = dict;
        watched[i].name = name;
        watched[i].value = value;
        watched_count = i + 1;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    { "use_tasks", use_tasks, METH_VARARGS,
      "Takes where the fields of tasks lie; returns shortcuts of three functions." },
    { "watch_tasks", watch_tasks, METH_O, "Takes what has to lie in Trio's classes." },
    { NULL, NULL, 0, NULL },
};

int load_task(PyObject *module)
{
    static const struct { PyObject **at; const char *text; } texts[] = {
        { &s_name, "name" }, { &s_func, "func" }, { &s_function, "__func__" }, { &s_code, "__code__" },
        { &s_flags, "co_flags" }, { &s_module, "__module__" }, { &s_qualname, "__qualname__" },
        { &s_closed, "_closed" }, { &s_children, "_children" }, { &s_status, "_cancel_status" },
        { &s_nested, "_nested_child_running" }, { &s_starts, "_pending_starts" },
        { &s_waiting, "_parent_waiting_in_aexit" }, { &s_parent, "_parent_task" },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!(*texts[i].at = PyUnicode_InternFromString(texts[i].text)))
            return -1;
    if (!(nothing = PyTuple_New(0)))
        return -1;
    return PyModule_AddFunctions(module, methods);
}
