"""Builds the user's model, the same bits in every process, and says whose fault it is if not."""

import contextlib
import copy
import ctypes
import difflib
import hashlib
import importlib
import importlib.util
import os
import random
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench.catalog import PACKAGE
from bench.errors import CaseError
from bench.own_model.spec import ModelSpec

_INSTALLED: Final = ("stdlib", "purelib", "platlib")

Named = list[tuple[str | None, Any]]
"""The tensors that a model is called with: by keyword, or where that is None by position."""


@dataclass
class Built:
    """What the factory returned."""

    module: Any
    examples: Named | None = None
    constants: dict[str, Any] = field(default_factory=dict)
    """What the examples hold besides tensors; passed along."""


class OwnModel:
    """The user's model in this process: built once, on the CPU, when it is first needed."""

    def __init__(self, torch: Any, spec: ModelSpec, seed: int) -> None:
        self.torch, self.spec, self.seed = torch, spec, seed
        self._built: Built | None = None
        self._digest: bytes | None = None

    @property
    def built(self) -> Built:
        """The model with its parameters, which nobody may change.

        Raises:
            CaseError: It cannot be built; the reason names the user's line.
        """
        if self._built is None:
            self._built = self._build()
        return self._built

    def fresh(self) -> Any:
        """Return a module of its own, with the same parameters."""
        try:
            return copy.deepcopy(self.built.module)
        except Exception:  # some modules hold what cannot be copied, such as old weight norms
            return self._build().module

    def digest(self) -> bytes:
        """Return what identifies the parameters and buffers: 32 bytes."""
        if self._digest is None:
            digest = hashlib.sha256()
            for name, tensor in self.built.module.state_dict().items():
                if not self.torch.is_tensor(tensor):
                    continue
                digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
                whole = tensor.detach().contiguous()
                length = whole.numel() * whole.element_size()
                if length:
                    digest.update((ctypes.c_char * length).from_address(whole.data_ptr()))
            self._digest = digest.digest()
        return self._digest

    def require_digest(self, expected: bytes) -> None:
        """Raise CaseError if the factory has built another model than elsewhere."""
        if self.digest() != expected:
            raise CaseError(
                "failed",
                f"{self.spec.text} builds other parameters in each process; let it draw them from"
                " PyTorch's generator, which is seeded",
            )

    def _build(self) -> Built:
        factory = load(self.spec)
        torch = self.torch
        with _undisturbed(torch), blaming(f"{self.spec.factory}()"):
            _seed(torch, self.seed)
            returned = factory()
        pair = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
        module, examples = pair
        if not isinstance(module, torch.nn.Module):
            raise CaseError(
                "failed",
                f"{self.spec.factory}() returns {_kind(returned)}, not a torch.nn.Module or"
                " (module, example_inputs)",
            )
        built = Built(module.to("cpu"))
        if examples is not None:
            built.examples, built.constants = _sorted_examples(torch, examples, self.spec)
        self._materialise(built)
        return built

    def _materialise(self, built: Built) -> None:
        """Have lazy layers find their shapes: with zeros, which any input may hold."""
        torch = self.torch
        module = built.module
        is_lazy = torch.nn.parameter.is_lazy
        if not any(map(is_lazy, [*module.parameters(), *module.buffers()])):
            return
        given: Named = [
            (i.name, torch.zeros((2, *i.shape), dtype=getattr(torch, i.dtype)))
            for i in self.spec.inputs
        ] or [(name, array.cpu()) for name, array in built.examples or []]
        was_training = module.training
        module.eval()
        with _undisturbed(torch), torch.no_grad(), blaming("forward"):
            _seed(torch, self.seed)
            call_module(module, given, built.constants)
        module.train(was_training)


def call_module(module: Any, given: Named, constants: Mapping[str, Any]) -> Any:
    """Call it with tensors by position and by keyword."""
    positional = [tensor for name, tensor in given if name is None]
    keywords = {name: tensor for name, tensor in given if name is not None}
    return module(*positional, **keywords, **constants)


def load(spec: ModelSpec) -> Any:
    """Import the user's module and return the factory.

    Raises:
        CaseError: It does not exist, or its module fails.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with blaming(f"importing {spec.source}"):
        module = _load_file(Path(spec.source)) if spec.source.endswith(".py") else _load(spec)
    found: Any = module
    for part in spec.factory.split("."):
        if not hasattr(found, part):
            known = [name for name, value in vars(found).items() if callable(value)]
            near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
            own = [
                name
                for name in known
                if getattr(vars(found)[name], "__module__", "") == module.__name__
            ]
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(own) or 'none'}"
            raise CaseError("failed", f"{spec.source} has no factory {part!r}; {hint}")
        found = getattr(found, part)
    if not callable(found):
        raise CaseError(
            "failed", f"{spec.factory} is {_kind(found)}, not a function that returns the model"
        )
    return found


def _load(spec: ModelSpec) -> ModuleType:
    try:
        return importlib.import_module(spec.source)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{spec.source}.".startswith(f"{error.name}."):
            raise  # something that the module imports
        raise CaseError(
            "failed",
            f"no module {error.name!r} in {Path.cwd()} or installed; write PATH.py:FACTORY, or go"
            " to the folder that holds it",
        ) from None


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        folder = path.parent
        files = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
        near = difflib.get_close_matches(path.name, files, n=1, cutoff=0.5)
        hint = f"did you mean {folder / near[0]}?" if near else f"looked in {folder.resolve()}"
        raise CaseError("failed", f"no file {path}; {hint}")
    file = path.resolve()
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    loaded = sys.modules.get(path.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded
    name = path.stem if loaded is None else f"bench_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def blaming(doing: str) -> Iterator[None]:
    """Turn what user code raises into a CaseError that names the user's line."""
    try:
        yield
    except CaseError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, MemoryError):
            raise
        text = str(error).strip().split("\n")[0] or "no message"
        raise CaseError(
            "failed", f"{doing} raised {type(error).__name__}: {text}{where(error)}"
        ) from error


def where(error: BaseException) -> str:
    """Return ` (file:line)` of the user's own code, the deepest that is on the way."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({Path(error.filename).name}:{error.lineno})"
    others = ("<", *(str(p) + os.sep for p in (PACKAGE, *map(sysconfig.get_path, _INSTALLED))))
    at, found = error.__traceback__, ""
    while at is not None:
        file = at.tb_frame.f_code.co_filename
        if not file.startswith(others):
            found = f" ({Path(file).name}:{at.tb_lineno})"
        at = at.tb_next
    return found


@contextlib.contextmanager
def _undisturbed(torch: Any) -> Iterator[None]:
    """Undo what user code sets for the whole process and measurements depend on."""
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        with torch.enable_grad():
            yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.set_default_device(None)


def _seed(torch: Any, seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)


def _sorted_examples(
    torch: Any, examples: Any, spec: ModelSpec
) -> tuple[Named | None, dict[str, Any]]:
    """Return the tensors of `example_inputs`, and what it holds besides.

    Inputs that the user gives on the command line replace them.
    """
    entries: Named
    if torch.is_tensor(examples):
        entries = [(None, examples)]
    elif isinstance(examples, Mapping):
        entries = [(str(name), value) for name, value in examples.items()]
    elif isinstance(examples, (tuple, list)):
        entries = [(None, value) for value in examples]
    else:
        raise CaseError(
            "failed",
            f"the example inputs are {_kind(examples)}; return a tensor, a tuple or a dict of them",
        )
    tensors = [(name, value) for name, value in entries if torch.is_tensor(value)]
    constants = {name: value for name, value in entries if name and not torch.is_tensor(value)}
    if len(tensors) + len(constants) != len(entries) or not tensors:
        raise CaseError("failed", "the example inputs must be tensors; give others by keyword")
    for name, tensor in tensors:
        if tensor.ndim == 0 or tensor.shape[0] == 0 or tensor.is_complex():
            raise CaseError(
                "failed",
                f"the example input {name or ''} of shape {tuple(tensor.shape)} and type"
                f" {tensor.dtype} has no samples; its first axis is the batch",
            )
    if spec.inputs:
        return None, constants
    return [(name, tensor.detach().cpu()) for name, tensor in tensors], constants


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of {name}"
