/* Shortcuts: a function of a class of Trio's, with its usual case in C.
 *
 * A `Shortcut` stands in the class for the function. In a step of `_ticks.c` a call tries the usual case first.
 * Everywhere else, and for everything uncommon, it is a call of the function. C adds no frame, so Ctrl-C and
 * tracebacks are those of the function.
 */
#include "_shortcut.h"

#include <stddef.h>
#include <structmember.h>

/* Not in the limited API of 3.11, though every CPython has them. */
PyAPI_FUNC(PyObject *) PyMethod_New(PyObject *, PyObject *);
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);
PyAPI_FUNC(PyObject *) PyVectorcall_Call(PyObject *, PyObject *, PyObject *);
static const unsigned long HAVE_VECTORCALL = 1UL << 11;
static const size_t ARGUMENTS_OFFSET = (size_t)1 << (8 * sizeof(size_t) - 1);

typedef struct {
    PyObject_HEAD
    void *vectorcall;
    PyObject *function;
    PyObject *weak;          /* the list of weak references */
    usual_case *usual;
} Shortcut;

static PyTypeObject *shortcut_type;

PyObject *attribute_like(PyObject *self, PyObject *function, PyObject *name)
{
    static const char *const own[] = { "__get__", "__call__", "__reduce__", "__reduce_ex__", "__hash__", "__eq__" };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (PyUnicode_CompareWithASCIIString(name, own[i]) == 0)
            return PyObject_GenericGetAttr(self, name);
    return PyObject_GetAttr(function, name);
}

PyObject *bound(PyObject *self, PyObject *obj)
{
    if (obj)
        return PyMethod_New(self, obj);
    Py_INCREF(self);
    return self;
}

static PyObject *shortcut_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *keywords)
{
    Shortcut *s = (Shortcut *)self;
    PyObject *result;
    if (task_here) {
        int usual = s->usual(ticks_here, args, (Py_ssize_t)(nargsf & ~ARGUMENTS_OFFSET), keywords, &result);
        if (usual)
            return usual > 0 ? result : NULL;
    }
    return PyObject_Vectorcall(s->function, args, nargsf, keywords);
}

static PyObject *shortcut_get(PyObject *self, PyObject *obj, PyObject *type)
{
    (void)type;
    return bound(self, obj);
}

static PyObject *shortcut_getattro(PyObject *self, PyObject *name)
{
    return attribute_like(self, ((Shortcut *)self)->function, name);
}

static int shortcut_setattro(PyObject *self, PyObject *name, PyObject *value)
{
    return PyObject_SetAttr(((Shortcut *)self)->function, name, value);
}

/* As functions, it is copied by reference, and pickled by its name. A new reference. */
static PyObject *shortcut_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyObject_GetAttrString(((Shortcut *)self)->function, "__qualname__");
}

/* A new reference. */
static PyObject *shortcut_dir(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyObject_Dir(((Shortcut *)self)->function);
}

static PyObject *shortcut_repr(PyObject *self) { return PyObject_Repr(((Shortcut *)self)->function); }

static int shortcut_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Shortcut *)self)->function);
    return 0;
}

/* The reference to the function stays until the end: a cycle through it is broken elsewhere. */
static void shortcut_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (((Shortcut *)self)->weak)
        PyObject_ClearWeakRefs(self);
    Py_CLEAR(((Shortcut *)self)->function);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

static PyMemberDef shortcut_members[] = {
    { "__vectorcalloffset__", T_PYSSIZET, offsetof(Shortcut, vectorcall), READONLY, NULL },
    { "__weaklistoffset__", T_PYSSIZET, offsetof(Shortcut, weak), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyMethodDef shortcut_methods[] = {
    { "__reduce__", shortcut_reduce, METH_NOARGS, NULL },
    { "__dir__", shortcut_dir, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

/* For pydoc, which asks for it around `shortcut_getattro`. A new reference. */
static PyObject *shortcut_doc(PyObject *self, void *unused)
{
    (void)unused;
    return PyObject_GetAttrString(((Shortcut *)self)->function, "__doc__");
}

static PyGetSetDef shortcut_getset[] = {
    { "__doc__", shortcut_doc, NULL, NULL, NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot shortcut_slots[] = {
    { Py_tp_dealloc, shortcut_dealloc },   { Py_tp_traverse, shortcut_traverse }, { Py_tp_members, shortcut_members },
    { Py_tp_call, PyVectorcall_Call },     { Py_tp_getattro, shortcut_getattro }, { Py_tp_descr_get, shortcut_get },
    { Py_tp_repr, shortcut_repr },         { Py_tp_setattro, shortcut_setattro }, { Py_tp_methods, shortcut_methods },
    { Py_tp_getset, shortcut_getset },     { 0, NULL },
};

static PyType_Spec shortcut_spec = {
    "uring_trio.seams._ticks.Shortcut", sizeof(Shortcut), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    shortcut_slots,
};

/* Owns the function. */
PyObject *make_shortcut(usual_case *usual, PyObject *function)
{
    Shortcut *s = PyObject_GC_New(Shortcut, shortcut_type);
    if (!s)
        return NULL;
    s->vectorcall = (void *)shortcut_call;
    Py_INCREF(function);
    s->function = function;
    s->weak = NULL;
    s->usual = usual;
    PyObject_GC_Track((PyObject *)s);
    return (PyObject *)s;
}

/* Owned by the caller. */
PyObject *make_shortcuts(usual_case *const *usual, PyObject *const *functions, int n)
{
    PyObject *shortcuts = PyTuple_New(n);
    for (int i = 0; shortcuts && i < n; i++) {
        PyObject *shortcut = make_shortcut(usual[i], functions[i]);
        if (!shortcut || PyTuple_SetItem(shortcuts, i, shortcut) < 0)
            Py_CLEAR(shortcuts);
    }
    return shortcuts;
}

int load_shortcut(PyObject *module)
{
    shortcut_spec.flags |= (unsigned int)HAVE_VECTORCALL;
    shortcut_type = (PyTypeObject *)PyType_FromSpec(&shortcut_spec);
    if (!shortcut_type || name_type((PyObject *)shortcut_type, "function") < 0)
        return -1;
    return PyModule_AddObjectRef(module, "Shortcut", (PyObject *)shortcut_type);
}
