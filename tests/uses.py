"""Which names of a vendor's package some files use, and which of them it does not have.

    python tests/uses.py PACKAGE ALIAS FILE...

prints JSON: the package's version, the uses, the faults. The files are read, not run: from the annotations and the
package's own signatures it is known what each expression is. An attribute of something that came from the package and
is of unknown type is a fault, too ("annotate it"), so nothing escapes. The package is one made by pybind11 or Cython,
whose docstrings begin with signatures.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

PLAIN = {"None", "bool", "bytes", "float", "int", "str", "list[str]", "List[str]", "typing.SupportsInt"}


class Type(NamedTuple):
    """What an expression is: `kind` is object, instance, many (of `what`), tuple (of `what`), own, method or lost."""

    kind: str
    what: Any = None


class Signature(NamedTuple):
    parameters: list[str]
    returns: str


def signatures(function: Any) -> list[Signature]:
    """All overloads, from lines such as `2. parse(self: x.Parser, model: buffer, path: str = None) -> bool`."""
    found = []
    for line in (getattr(function, "__doc__", None) or "").splitlines():
        match = re.match(r"^\s*(?:\d+\. )?\w*\((.*?)\)(?: -> (.+))?$", line)
        if match and "*args" not in match[1]:
            inside = re.sub(r"\[[^]]*\]|<[^>]*>", "", match[1])  # commas of types and of defaults
            names = [re.sub(r"( ?:| ?=).*", "", part).split()[-1] for part in inside.split(",") if part.strip()]
            found.append(Signature(names, match[2] or ""))
    return found


class Reader:
    def __init__(self, package: Any, alias: str) -> None:
        self.package, self.alias = package, alias
        self.uses: set[str] = set()
        self.faults: list[str] = []
        self.names: dict[str, Type] = {}
        self.attributes: dict[str, dict[str, Type]] = {}
        self.bases: dict[str, Type] = {}

    def read(self, path: Path) -> None:
        self.path, tree = path, ast.parse(path.read_text(encoding="utf-8"))
        self.names = {self.alias: Type("object", self.package), **self.shared(tree)}
        for node in tree.body:
            self.declare(node)
        for node in tree.body:
            self.run(node, dict(self.names))

    def shared(self, tree: ast.Module) -> dict[str, Type]:
        """Functions and classes that came from a file that was read before."""
        imported = {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        return {name: kind for name, kind in self.names.items() if name in imported}

    def declare(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef):
            self.names[node.name] = Type("method", self.annotated(node.returns))
        elif isinstance(node, ast.ClassDef):
            self.names[node.name] = Type("own class", node.name)
            self.bases[node.name] = self.infer(node.bases[0], self.names) if node.bases else Type("plain")
            inner = self.attributes.setdefault(node.name, {})
            for child in ast.walk(node):
                if isinstance(child, ast.FunctionDef):
                    inner[child.name] = Type("method", self.annotated(child.returns))
                elif isinstance(child, ast.AnnAssign):
                    target = child.target
                    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
                    inner[name] = self.annotated(child.annotation)
                elif isinstance(child, ast.Assign) and isinstance(child.targets[0], ast.Attribute):
                    inner.setdefault(child.targets[0].attr, Type("plain"))

    def annotated(self, node: ast.expr | None) -> Type:
        """What an annotation says: `trt.X`, `X | None`, `list[X]`, `tuple[X, Y]` or a class of the file."""
        if isinstance(node, ast.BinOp):
            return self.annotated(node.left)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if node.value.id == "tuple":
                return Type("tuple", [self.annotated(part) for part in inner])
            return Type("many", self.annotated(inner[-1]))
        if isinstance(node, ast.Attribute):
            found = self.infer(node, self.names)
            return Type("instance", found.what) if found.kind == "object" else Type("plain")
        if isinstance(node, ast.Name) and node.id in self.attributes:
            return Type("own", node.id)
        return Type("plain")

    def run(self, node: ast.AST, scope: dict[str, Type]) -> None:
        """Follow one statement, and what is in it."""
        follow = getattr(self, f"run_{type(node).__name__}", None)
        if follow:
            follow(node, scope)
        elif isinstance(node, ast.expr):
            self.infer(node, scope)
        else:
            for child in ast.iter_child_nodes(node):
                self.run(child, scope)

    def run_FunctionDef(self, node: ast.FunctionDef, scope: dict[str, Type]) -> None:
        inner = {**scope, **{arg.arg: self.annotated(arg.annotation) for arg in self.arguments(node)}}
        for child in node.body:
            self.run(child, inner)

    def run_ClassDef(self, node: ast.ClassDef, scope: dict[str, Type]) -> None:
        for child in node.body:
            self.overrides(node.name, child)
            self.run(child, {**scope, "self": Type("own", node.name)})

    def run_AnnAssign(self, node: ast.AnnAssign, scope: dict[str, Type]) -> None:
        if node.value:
            self.infer(node.value, scope)
        self.bind(node.target, self.annotated(node.annotation), scope)

    def run_Assign(self, node: ast.Assign, scope: dict[str, Type]) -> None:
        value = self.infer(node.value, scope)
        for target in node.targets:
            self.bind(target, value, scope)

    def run_For(self, node: ast.For, scope: dict[str, Type]) -> None:
        self.bind(node.target, self.element(self.infer(node.iter, scope)), scope)
        for child in [*node.body, *node.orelse]:
            self.run(child, scope)

    def arguments(self, node: ast.FunctionDef) -> Iterator[ast.arg]:
        return (arg for arg in [*node.args.args, *node.args.kwonlyargs] if arg.arg != "self")

    def overrides(self, name: str, node: ast.stmt) -> None:
        """A method that the package calls must be one that it knows, with as many arguments."""
        base = self.bases[name]
        if base.kind == "object" and isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            known = self.member(Type("instance", base.what), node.name, node)
            mine = [arg.arg for arg in node.args.args]
            if known.kind == "method" and mine not in [s.parameters for s in signatures(known.what)]:
                self.fault(node, f"{base.what.__name__}.{node.name} takes other arguments than {mine}")

    def bind(self, target: ast.expr, value: Type, scope: dict[str, Type]) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = value
        elif isinstance(target, ast.Tuple):
            kinds = value.what if value.kind == "tuple" else [self.element(value)] * len(target.elts)
            for part, kind in zip(target.elts, kinds, strict=False):
                self.bind(part.value if isinstance(part, ast.Starred) else part, kind, scope)
        elif isinstance(target, ast.Attribute) and self.infer(target.value, scope).kind == "own":
            owner = self.infer(target.value, scope).what
            if self.attributes[owner].get(target.attr, Type("plain")).kind == "plain":
                self.attributes[owner][target.attr] = value
        else:
            self.infer(target, scope)

    def infer(self, node: ast.AST, scope: dict[str, Type]) -> Type:
        """What an expression is; notes every use in it."""
        follow = getattr(self, f"infer_{type(node).__name__}", None)
        if follow:
            return follow(node, scope)  # type: ignore[no-any-return]
        for child in ast.iter_child_nodes(node):
            self.infer(child, scope)
        return Type("plain")

    def infer_Name(self, node: ast.Name, scope: dict[str, Type]) -> Type:
        return scope.get(node.id, Type("plain"))

    def infer_Attribute(self, node: ast.Attribute, scope: dict[str, Type]) -> Type:
        return self.member(self.infer(node.value, scope), node.attr, node)

    def infer_Subscript(self, node: ast.Subscript, scope: dict[str, Type]) -> Type:
        found = self.infer(node.value, scope)
        self.infer(node.slice, scope)
        if found.kind == "tuple" and isinstance(node.slice, ast.Constant):
            return found.what[node.slice.value]  # type: ignore[no-any-return]
        return self.element(found)

    def infer_Tuple(self, node: ast.Tuple, scope: dict[str, Type]) -> Type:
        return Type("tuple", [self.infer(part, scope) for part in node.elts])

    def infer_ListComp(self, node: Any, scope: dict[str, Type]) -> Type:
        inner = dict(scope)
        for part in node.generators:
            self.bind(part.target, self.element(self.infer(part.iter, inner)), inner)
            for condition in part.ifs:
                self.infer(condition, inner)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        return Type("many", [self.infer(part, inner) for part in parts][-1])

    infer_SetComp = infer_GeneratorExp = infer_DictComp = infer_ListComp

    def element(self, found: Type) -> Type:
        if found.kind == "tuple":
            return found.what[0] if found.what else Type("plain")  # type: ignore[no-any-return]
        return found.what if found.kind == "many" else Type("plain")

    def member(self, owner: Type, name: str, node: ast.AST) -> Type:
        if owner.kind == "own":
            mine = self.attributes[owner.what].get(name)
            base = self.bases[owner.what]
            return mine or (
                self.member(Type("instance", base.what), name, node) if base.kind == "object" else Type("plain")
            )
        if owner.kind == "lost":
            self.fault(node, f"'.{name}' of something from {owner.what}, whose type is unknown; annotate it")
        if owner.kind not in ("object", "instance"):
            return Type("plain")
        place = f"{getattr(owner.what, '__name__', '?').split('.')[-1]}.{name}"
        self.uses.add(place)
        if not hasattr(owner.what, name):
            self.fault(node, f"{place} does not exist")
            return Type("plain")
        found = getattr(owner.what, name)
        if isinstance(found, property) or inspect.isgetsetdescriptor(found):
            return self.returned(
                signatures(found.fget)[0].returns if signatures(getattr(found, "fget", None)) else "", place
            )
        if isinstance(found, type):
            return Type("object", found)
        return Type("method", found) if callable(found) else Type("instance", type(found))

    def infer_Call(self, node: ast.Call, scope: dict[str, Type]) -> Type:
        function = self.infer(node.func, scope)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self.infer(argument, scope)
        if function.kind == "own class":
            return Type("own", function.what)
        if function.kind == "object":
            self.check(node, function.what.__name__, function.what.__init__, 1)
            return Type("instance", function.what)
        if function.kind != "method":
            return Type("plain")
        if isinstance(function.what, Type):  # a function of the file
            return function.what
        name = function.what.__name__
        bound = isinstance(node.func, ast.Attribute) and self.infer(node.func.value, scope).kind in ("instance", "own")
        self.check(node, name, function.what, int(bound))
        known = signatures(function.what)
        return self.returned(known[0].returns if known else "", name)

    def check(self, node: ast.Call, name: str, function: Any, bound: int) -> None:
        """Some overload must take what is given."""
        keywords = {str(keyword.arg) for keyword in node.keywords}
        count = bound + len(node.args) + len(keywords)
        known = signatures(function)
        self.uses |= {f"{name}({keyword}=)" for keyword in keywords}
        if known and not any(keywords <= set(s.parameters) and count <= len(s.parameters) for s in known):
            self.fault(
                node, f"{name} takes {known[0].parameters}, not {count - bound} arguments with {sorted(keywords)}"
            )

    def returned(self, text: str, origin: str) -> Type:
        match = re.fullmatch(r"(?:[Ll]ist\[)?[\w.]*\.(\w+)\]?", text)
        if match and hasattr(self.package, match[1]):
            kind = Type("instance", getattr(self.package, match[1]))
            return Type("many", kind) if "ist[" in text else kind
        return Type("plain") if text in PLAIN else Type("lost", origin)

    def fault(self, node: ast.AST, text: str) -> None:
        self.faults.append(f"{self.path.parent.name}/{self.path.name}:{getattr(node, 'lineno', 0)}: {text}")


def main(package: str, alias: str, files: list[str]) -> None:
    module = importlib.import_module(package)
    reader = Reader(module, alias)
    for file in files:
        reader.read(Path(file))
    version = getattr(module, "__version__", "")
    print(json.dumps({"version": version, "uses": sorted(reader.uses), "faults": reader.faults}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
