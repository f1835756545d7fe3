"""Looks over the shoulder of a forward pass: what embeddings read, and dropouts taken away."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from bench.errors import CaseError

EMBEDDINGS: Final = ("embedding", "embedding_bag")
PICKING: Final = (*EMBEDDINGS, "__getitem__", "index_select", "gather", "take")
"""Functions that read a part of their first argument."""
DROPOUTS: Final = (
    *("dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout"),
    *("alpha_dropout_", "feature_dropout", "feature_dropout_", "feature_alpha_dropout"),
    "feature_alpha_dropout_",
)
ATTENTION: Final = "scaled_dot_product_attention"
MULTI_HEAD: Final = "multi_head_attention_forward"


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", ""))


def watch(torch: Any, inputs: Sequence[Any], too_far: Callable[[int, int], None]) -> Any:
    """Return a context that sees every function of PyTorch that is called in it.

    `too_far(place, rows)` is called, and raises, if an input reaches beyond an embedding. After it
    `highs` holds, by the place of an input, the rows of the smallest embedding that reads
    it, and `reads` the identities of the parameters that are read as a whole.
    """

    class Watch(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.highs: dict[int, int] = {}
            self.reads: set[int] = set()

        def __torch_function__(
            self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            name = _name(function)
            if name in EMBEDDINGS:
                self.embed(*_ids_and_table(torch, args, kwargs))
            elif name not in PICKING:
                for value in _flat([*args, *kwargs.values()]):
                    if isinstance(value, torch.nn.Parameter):
                        self.reads.add(id(value))
            return function(*args, **kwargs)

        def embed(self, ids: Any, table: Any) -> None:
            rows = int(table.shape[0])
            for i, given in enumerate(inputs):
                if given.is_floating_point() or given.numel() != ids.numel():
                    continue
                if ids.data_ptr() == given.data_ptr() or bool(
                    (ids.reshape(-1) == given.reshape(-1)).all()
                ):
                    self.highs[i] = min(rows, self.highs.get(i, rows))
                    if ids.numel() and int(ids.max()) >= rows:
                        too_far(i, rows)
                    return
            if ids.numel() and int(ids.max()) >= rows:
                raise CaseError(
                    "failed",
                    f"an embedding of {rows} rows is asked for row {int(ids.max())}, which the"
                    " model computes itself; give a smaller shape",
                )

    return Watch()


def _ids_and_table(torch: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """Return the two of an embedding, whose order the functions do not agree on."""
    values = [value for value in [*args, *kwargs.values()] if torch.is_tensor(value)][:2]
    table, ids = sorted(values, key=lambda value: not value.is_floating_point())
    return ids, table


def _flat(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def without_dropout(torch: Any) -> Any:
    """Return a context in which every dropout is the identity, wherever it is called."""

    class WithoutDropout(torch.overrides.TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, _types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            name = _name(function)
            if name in DROPOUTS:
                return args[0] if args else kwargs["input"]
            if name == ATTENTION:  # (query, key, value, mask, dropout, ...)
                kwargs["dropout_p"] = 0.0
                if len(args) > 4:
                    args = (*args[:4], kwargs.pop("dropout_p"), *args[5:])
            elif name == MULTI_HEAD:
                if len(args) > 10:
                    args = (*args[:10], 0.0, *args[11:])
                else:
                    kwargs["dropout_p"] = 0.0
            return function(*args, **kwargs)

    return WithoutDropout()


@contextlib.contextmanager
def undropped(torch: Any, module: Any) -> Iterator[None]:
    """Take every dropout away: those of recurrent layers, too, whose code is not Python's."""
    recurrent = [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
    kept = [part.dropout for part in recurrent]
    for part in recurrent:
        part.dropout = 0.0
    try:
        with without_dropout(torch):
            yield
    finally:
        for part, dropout in zip(recurrent, kept, strict=True):
            part.dropout = dropout
