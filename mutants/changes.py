"""Small wrong versions of a module: its syntax tree with one node replaced.

Owns which changes are made and what they are called. Promises: the same source gives the same changes under the same names;
a name has no line number, so it outlives edits elsewhere. Only what stands in the body of a function is changed, and no
text: messages are for people. Nor are assertions, ``strict=`` of a ``zip``, defaults of parameters and fields, and
constants of a module.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
CALLED = {
    "min": "max",
    "any": "all",
    "minimum": "maximum",
    "argmin": "argmax",
    "floor": "ceil",
    "fmin": "fmax",
    "union1d": "intersect1d",
}
CALLED |= {after: before for before, after in CALLED.items()}
ORDERED = {"sorted", "reversed", "sort"}
"""Calls that may be left out: what they get is what they give, in another order."""


class Change(NamedTuple):
    """``name``: function, what stands there and what stands there instead; ``line`` is its own, ``lines`` are those of the
    statement that it is in, of one with a body its head; ``code``: the function as it is then.
    """

    name: str
    function: str
    line: int
    lines: range
    code: CodeType


class _Place(NamedTuple):
    """Where a node hangs: in ``field`` of ``parent``, ``at`` a place in it when that is a list."""

    parent: ast.AST
    field: str
    at: int | None

    def put(self, node: ast.AST) -> None:
        if self.at is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.at] = node


def changes(source: str, path: str) -> Iterator[Change]:
    """Every change of the module with this ``source``; ``path`` is the file name in the code."""
    tree = ast.parse(source)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    for one in _replacements(tree):
        alone = ast.Module([*imports, one.outermost], [])  # a fifth of the time that it takes to compile the whole module
        one.place.put(ast.copy_location(one.replacement, one.node))
        code = compile(ast.fix_missing_locations(alone), path, "exec", dont_inherit=True)
        one.place.put(one.node)
        line = _line(one.node)
        yield Change(one.name, one.function, line, _lines(one.root, line), code_of(code, one.function))


def names(source: str) -> set[str]:
    """Of every change of the module, without making it."""
    return {one.name for one in _replacements(ast.parse(source))}


class _Replacement(NamedTuple):
    """``replacement`` instead of ``node`` in the function ``root``, which is in ``outermost`` of the module."""

    name: str
    function: str
    root: ast.FunctionDef
    outermost: ast.stmt
    place: _Place
    node: ast.AST
    replacement: ast.AST


def _replacements(tree: ast.Module) -> Iterator[_Replacement]:
    named: Counter[str] = Counter()
    for function, root, outermost in _functions(tree):
        for place, node in _nodes(root):
            for replacement in _instead_of(node):
                name = f"{function}: {_name(node, replacement)}"
                named[name] += 1
                number = f" #{named[name]}" if named[name] > 1 else ""
                yield _Replacement(name + number, function, root, outermost, place, node, replacement)


def code_of(code: CodeType, function: str) -> CodeType:
    """The function of this qualified name in ``code``, which is that of a module or a class."""
    first, _, rest = function.partition(".")
    found = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == first)
    return code_of(found, rest) if rest else found


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, ast.stmt]]:
    """Functions of the module and methods, each with what holds it in the module; one within a function belongs to that."""
    for outermost in tree.body:
        for name, function in _within(outermost, ""):
            yield name, function, outermost


def _within(node: ast.AST, before: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    if isinstance(node, ast.FunctionDef):
        yield before + node.name, node
    elif isinstance(node, ast.ClassDef):
        for child in ast.iter_child_nodes(node):
            yield from _within(child, f"{before}{node.name}.")


def _nodes(root: ast.AST) -> Iterator[tuple[_Place, ast.AST]]:
    """What stands in a function: no annotations, defaults, decorators, texts and documentation."""
    for field, value in ast.iter_fields(root):
        if field in ("annotation", "returns", "decorator_list", "args") and not isinstance(root, ast.Call):
            continue
        for index, node in enumerate(value if isinstance(value, list) else [value]):
            kept = isinstance(node, ast.JoinedStr | ast.expr_context | ast.Assert) or _is_check(node)
            if isinstance(node, ast.AST) and not kept:
                yield _Place(root, field, index if isinstance(value, list) else None), node
                yield from _nodes(node)


def _is_check(node: ast.AST) -> bool:
    """``zip(…, strict=True)``: like an assertion, it only fails where something else is wrong."""
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _instead_of(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Compare():
            for index, operator in enumerate(node.ops):
                for other in COMPARED[type(operator)]:
                    yield ast.Compare(node.left, [*node.ops[:index], other(), *node.ops[index + 1 :]], node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
            if len(node.values) > 2:
                for index in range(len(node.values)):
                    yield ast.BoolOp(node.op, node.values[:index] + node.values[index + 1 :])
            else:
                yield from node.values
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub(), operand=operand):
            yield operand
        case ast.BinOp(op=operator):
            yield ast.BinOp(node.left, COMPUTED[type(operator)](), node.right)
        case ast.AugAssign(op=operator):
            yield ast.AugAssign(node.target, COMPUTED[type(operator)](), node.value)
            yield ast.Pass()
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.Call():
            yield from _other_calls(node)
        case ast.IfExp():
            yield from (node.body, node.orelse)
        case ast.If(test=test):
            yield from (ast.If(_constant(test, truth), node.body, node.orelse) for truth in (True, False))
        case ast.comprehension(ifs=[_, *_]):
            yield ast.comprehension(node.target, node.iter, [], node.is_async)
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.Slice(lower=ast.AST() as lower, upper=ast.AST()):
            yield ast.Slice(lower, None, node.step)


def _constant(test: ast.expr, truth: bool) -> ast.expr:
    """A condition that is always this; names that are bound within it are bound still."""
    if any(isinstance(part, ast.NamedExpr) for part in ast.walk(test)):
        value: list[ast.expr] = [copy.deepcopy(test), ast.Constant(truth)]
        return ast.Subscript(ast.Tuple(value, ast.Load()), ast.Constant(1), ast.Load())
    return ast.Constant(truth)


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    match node.func:
        case ast.Name(id=name) if name in CALLED:
            yield ast.Call(ast.Name(CALLED[name], ast.Load()), node.args, node.keywords)
        case ast.Attribute(attr=name) if name in CALLED:
            yield ast.Call(ast.Attribute(node.func.value, CALLED[name], ast.Load()), node.args, node.keywords)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in ORDERED and node.args:
            yield node.args[0]
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None and not _is_check(keyword):
            yield ast.Call(node.func, node.args, node.keywords[:index] + node.keywords[index + 1 :])


def _name(node: ast.AST, replacement: ast.AST) -> str:
    if isinstance(node, ast.Call) and isinstance(replacement, ast.Call) and len(replacement.keywords) < len(node.keywords):
        without = next(one for one in node.keywords if one not in replacement.keywords)
        return f"{_text(node.func)}(… {_text(without)}) -> {_text(node.func)}(…)"
    return f"{_text(node)} -> {_text(replacement)}"


def _line(node: ast.AST) -> int:
    if isinstance(node, ast.comprehension):
        return node.target.lineno
    return node.lineno if isinstance(node, ast.expr | ast.stmt) else 0


def _lines(function: ast.FunctionDef, line: int) -> range:
    """Those of the shortest statement, or head of one, that this line is in."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            first = node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else getattr(node, "end_lineno", first)
            found.append(range(first, max(first, last) + 1))
    return min((lines for lines in found if line in lines), key=len, default=range(line, line + 1))


def _text(node: ast.AST) -> str:
    """One line; of a statement with a body its first."""
    if isinstance(node, ast.comprehension):
        return ast.unparse(node).strip()
    node = node if not isinstance(node, ast.Slice) else ast.Subscript(ast.Name("…", ast.Load()), node, ast.Load())
    lines = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).splitlines()
    return lines[0]
