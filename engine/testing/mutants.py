"""Mistakes by machine: every small change to the source of a row's vjp, each of which the checks must notice.

The planted wrongs of a row (`Op.wrong`) are the mistakes that its author thought of. Here nobody has to think: the
source of the vjp, and of the functions of its page that it calls, is read as a syntax tree, and one mutant is made for
every place where a term or a factor could be dropped, a sign flipped, an axis or two operands exchanged, a comparison
weakened, a constant changed, a transpose forgotten, a result scaled by 1.001, two gradients exchanged.

A mutant that survives is either equivalent to the original (`a <= b` where no draw ever has a = b), or shows a hole in
the checks or in the row's draw. (DeMillo, Lipton, Sayward: Hints on Test Data Selection, Computer 11(4), 1978.)

A mutated function is compiled into a copy of its module's namespace, where the functions that call it are built anew; the
module itself, and with it forward, jvp and definition, never sees it.
"""

from __future__ import annotations

import ast
import dis
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from types import CellType, CodeType, FunctionType
from typing import Any, cast

from ...reference.op import Op
from .wrongs import Vjp

ROOM = __name__.split(".engine.")[0] + ".reference"
DROPPED = ("swap", "matrix_transpose", "permute_dims", "flip", "roll", "unbroadcast", "conj", "tril", "triu")
"""Functions that somebody could forget, so that the first argument is used as it is."""
SCALED = "scales by 1.001"


@dataclass(frozen=True)
class Mutant:
    """One mistake, as a vjp that can be called in place of the row's."""

    op: Op
    function: str
    line: int
    change: str
    vjp: Vjp

    @property
    def name(self) -> str:
        return f"{self.op.name}: {self.function} line {self.line}: {self.change}"


def mutants(op: Op) -> list[Mutant]:
    """Every mutant of the row's vjp, in the order of the source. Empty where the vjp has no source of its own."""
    found = []
    for function in _reached(op.vjp):
        for line, change, code in _changes(function, inner=function is not op.vjp):
            found.append(Mutant(op, function.__name__, line, change, _rebuilt(op.vjp, function, code)))
    return found


# ---- which functions


def _reached(function: Callable[..., Any]) -> list[FunctionType]:
    """`function`, the functions of its page (files of the same stem) that it calls, and those that closures hold."""
    found: list[FunctionType] = []
    queue: list[Any] = [function]
    page = function.__module__
    while queue:
        f = queue.pop(0)
        if not isinstance(f, FunctionType) or f in found or not f.__module__.startswith((page, ROOM)):
            continue
        found.append(f)
        called = [f.__globals__.get(name) for name in _names(f.__code__)]
        queue += [g for g in called if isinstance(g, FunctionType) and g.__module__.startswith(page)]
        queue += [cell.cell_contents for cell in f.__closure__ or ()]
    return found


def _names(code: CodeType) -> list[str]:
    """Every global name that the code loads, and that of comprehensions and functions inside it (not `xp.name`)."""
    own = [step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"]
    return [*own, *(name for inside in code.co_consts if isinstance(inside, CodeType) for name in _names(inside))]


@cache
def _source(module: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(inspect.getsource(sys.modules[module]))))


def _tree(function: FunctionType) -> ast.FunctionDef | None:
    """The function's definition; that of a lambda as a function that returns. None where it cannot be told apart."""
    line = function.__code__.co_firstlineno
    for node in _source(function.__module__):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__ and line == _first_line(node):
            return node
    here = [node for node in _source(function.__module__) if isinstance(node, ast.Lambda) and node.lineno == line]
    if len(here) != 1 or function.__name__ != "<lambda>":
        return None
    made = ast.FunctionDef("wrapped", here[0].args, [ast.Return(here[0].body)], [])
    return ast.fix_missing_locations(ast.copy_location(made, here[0]))


def _first_line(node: ast.FunctionDef) -> int:
    """Where Python says that the function begins: at its first decorator."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


# ---- building


def _code(tree: ast.FunctionDef, free: tuple[str, ...]) -> CodeType:
    """The compiled function; `free` are the names that it takes from a function around it."""
    bare = ast.FunctionDef("mutant", _bare(tree.args), tree.body, [])  # under its own name it could not find itself
    none = ast.arguments([], [ast.arg(name) for name in free], None, [], [], None, [])
    around = ast.FunctionDef("around", none, [bare], [])
    for made in (bare, around):
        made.type_params = []  # type: ignore[attr-defined]
    module = ast.fix_missing_locations(ast.Module([ast.copy_location(around, tree)], []))
    outer = next(c for c in compile(module, "<mutant>", "exec").co_consts if isinstance(c, CodeType))
    return next(c for c in outer.co_consts if isinstance(c, CodeType))


def _bare(args: ast.arguments) -> ast.arguments:
    """The same parameters without annotations and defaults: defaults come from the function itself."""
    plain = [[ast.arg(a.arg) for a in group] for group in (args.posonlyargs, args.args, args.kwonlyargs)]
    star, stars = (None if a is None else ast.arg(a.arg) for a in (args.vararg, args.kwarg))
    return ast.arguments(plain[0], plain[1], star, plain[2], [None] * len(plain[2]), stars, [])


def _rebuilt(vjp: Vjp, changed: FunctionType, code: CodeType) -> Vjp:
    """`vjp` in copies of the namespaces, in which `changed` has this code instead of its own."""
    spaces: dict[str, dict[str, Any]] = {}
    built: dict[FunctionType, FunctionType] = {}
    reached = _reached(vjp)

    def build(f: FunctionType) -> FunctionType:
        if f in built:
            return built[f]
        space = spaces.setdefault(f.__module__, dict(f.__globals__))
        cells = {}
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            value = cell.cell_contents
            cells[name] = CellType(build(value)) if _is_function(value) and value in reached else cell
        new = code if f is changed else f.__code__
        built[f] = FunctionType(new, space, f.__name__, f.__defaults__, tuple(cells[name] for name in new.co_freevars))
        built[f].__kwdefaults__ = f.__kwdefaults__
        return built[f]

    for f in reached:
        build(f)
    for space in spaces.values():
        space.update({name: built[value] for name, value in space.items() if _is_function(value) and value in built})
    return built[cast(FunctionType, vjp)]


def _is_function(value: Any) -> bool:
    return isinstance(value, FunctionType)


# ---- changing


def _changes(function: FunctionType, *, inner: bool) -> Iterator[tuple[int, str, CodeType]]:
    """(line, what changed, code) for every mistake that this function allows. `inner`: a helper, not the vjp itself."""
    tree = _tree(function)
    if tree is None:
        return
    seen: set[tuple[int, str]] = set()
    for holder, key, node, around in _places(tree.body):
        for what, new in _mistakes(node, holder, inner):
            line = getattr(node, "lineno", tree.lineno)
            shown = around if isinstance(node, ast.Constant) else None  # a number alone says little
            change = f"{what}: {_text(shown or node)}"
            holder[key] = new
            try:
                change += f" -> {_text(shown or new)}"
                if (line, change) not in seen:
                    yield line, change, _code(tree, function.__code__.co_freevars)
            finally:
                holder[key] = node
            seen.add((line, change))


def _text(node: ast.AST) -> str:
    return " ".join(ast.unparse(ast.fix_missing_locations(node)).split())


class _Fields:
    """A node's fields by name, so that node and list can be written to alike."""

    def __init__(self, node: ast.AST) -> None:
        self.node = node

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self.node, name, value)


def _places(body: list[ast.stmt]) -> Iterator[tuple[Any, Any, ast.AST, ast.AST]]:
    """(holder, key, node, around) of every expression that computes: holder[key] = other puts another one in its place;
    `around` is the larger expression that it is a part of."""
    pending: list[tuple[Any, Any, ast.AST, ast.AST]] = [
        (body, i, statement, statement) for i, statement in enumerate(body)
    ]
    while pending:
        holder, key, node, around = pending.pop(0)
        if isinstance(node, ast.Raise | ast.Assert | ast.JoinedStr) or getattr(node, "arg", None) == "strict":
            continue  # what is said about mistakes is not mathematics, nor is zip(strict=True)
        if isinstance(node, ast.expr):
            yield holder, key, node, around
        if isinstance(node, ast.stmt | ast.Call | ast.BinOp | ast.Compare | ast.BoolOp | ast.Subscript):
            around = node
        inside: list[tuple[Any, Any, ast.AST, ast.AST]] = []
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "args") and isinstance(node, ast.stmt):
                continue
            if isinstance(value, ast.AST):
                inside.append((_Fields(node), name, value, around))
            elif isinstance(value, list):
                inside += [(value, i, item, around) for i, item in enumerate(value) if isinstance(item, ast.AST)]
        pending = inside + pending


def _mistakes(node: ast.AST, holder: Any, inner: bool) -> Iterator[tuple[str, ast.expr]]:
    """(what, the expression in its place) for the mistakes that can be made at this node."""
    match node:
        case ast.BinOp(left, ast.Add(), right):
            yield from (("drops a term", left), ("drops a term", right))
            yield "flips a sign", ast.BinOp(left, ast.Sub(), right)
        case ast.BinOp(left, ast.Sub(), right):
            yield from (("drops a term", left), ("drops a term", ast.UnaryOp(ast.USub(), right)))
            yield "flips a sign", ast.BinOp(left, ast.Add(), right)
        case ast.BinOp(left, ast.Mult(), right):
            yield from (("drops a factor", left), ("drops a factor", right), (SCALED, _scaled(node)))
        case ast.BinOp(left, ast.Div(), right):
            yield from (("drops the divisor", left), (SCALED, _scaled(node)))
            yield "multiplies", ast.BinOp(left, ast.Mult(), right)
        case ast.BinOp(left, ast.Pow(), _):
            yield "drops the exponent", left
        case ast.BinOp(left, ast.MatMult(), right):
            yield from (("exchanges", ast.BinOp(right, ast.MatMult(), left)), (SCALED, _scaled(node)))
        case ast.UnaryOp(ast.USub(), ast.Constant(int())):
            pass  # an axis, a place from the end: its number is changed below
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield "flips a sign", operand
        case ast.Compare(left, [op], [right]) if type(op) in _WEAKENED:
            yield "another comparison", ast.Compare(left, [_WEAKENED[type(op)]()], [right])
        case ast.Constant(bool() as value):
            yield "changes a constant", ast.Constant(not value)
        case ast.Constant(int() as value):
            yield "changes a constant", ast.Constant(value + 1)
        case ast.Constant(float() as value):
            yield "changes a constant", ast.Constant(value * 1.001 if value else 1e-3)
        case ast.Call():
            yield from _calls(node)
        case ast.GeneratorExp(each, loops):
            yield from ((SCALED, ast.GeneratorExp(new, loops)) for new in _slightly_wrong(each))
        case ast.Tuple(elts) if _returned(node, holder):
            yield from _gradients(elts)
    if inner and isinstance(node, ast.expr) and not isinstance(node, ast.Tuple) and _returned(node, holder):
        yield SCALED, _scaled(node)


_WEAKENED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}


def _returned(node: ast.AST, holder: Any) -> bool:
    return isinstance(holder, _Fields) and isinstance(holder.node, ast.Return)


def _scaled(node: ast.expr) -> ast.expr:
    return ast.BinOp(ast.Constant(1.001), ast.Mult(), node)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    function, args = node.func, node.args
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in DROPPED and args and not isinstance(args[0], ast.Starred):
        yield f"forgets {name}", args[0]
    if name == "where" and len(args) == 3:
        yield "exchanges", ast.Call(function, [args[0], args[2], args[1]], node.keywords)
    if name == "matmul" and len(args) == 2:
        yield "exchanges", ast.Call(function, args[::-1], node.keywords)
    for i, keyword in enumerate(node.keywords):
        if keyword.arg == "axis":
            other = ast.Constant(0) if ast.unparse(keyword.value) != "0" else ast.UnaryOp(ast.USub(), ast.Constant(1))
            keywords = [*node.keywords[:i], ast.keyword("axis", other), *node.keywords[i + 1 :]]
            yield "another axis", ast.Call(function, args, keywords)


def _gradients(elts: list[ast.expr]) -> Iterator[tuple[str, ast.expr]]:
    """The gradients that are returned: each scaled, and each exchanged with the next one."""
    for i, gradient in enumerate(elts):
        for new in _slightly_wrong(gradient):
            yield SCALED, ast.Tuple([*elts[:i], new, *elts[i + 1 :]], ast.Load())
            if i + 1 < len(elts):
                yield "exchanges", ast.Tuple([*elts[:i], elts[i + 1], gradient, *elts[i + 2 :]], ast.Load())


def _slightly_wrong(gradient: ast.expr) -> list[ast.expr]:
    """The gradient times 1.001, also where it is returned on a condition; nothing where there is none."""
    if isinstance(gradient, ast.IfExp):
        return [ast.IfExp(gradient.test, new, gradient.orelse) for new in _slightly_wrong(gradient.body)]
    none = isinstance(gradient, ast.Starred) or (isinstance(gradient, ast.Constant) and gradient.value is None)
    return [] if none else [_scaled(gradient)]
