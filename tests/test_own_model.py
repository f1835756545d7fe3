"""The user's own model: its grammar, what is found out about it, and how it is verified."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.errors import CaseError, RequestError
from bench.measuring.reference import Drawn, draw
from bench.own_model.inspection import inspect
from bench.own_model.spec import INTEGERS, InputSpec, ModelSpec
from bench.own_model.workload import flops_through, model_workload
from bench.workload import Workload

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

MODELS = """
import dataclasses
import torch
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 4))


def dropping():
    return nn.Sequential(nn.Linear(10, 32), nn.Dropout(0.5), nn.Linear(32, 4))


def lazy():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(7)
    )


def example():
    return mlp(), torch.arange(30.0).reshape(3, 10)


def examples():
    return Ids(), {"ids": torch.tensor([[1, 2, 3, 49]]), "scale": None}


class Ids(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, ids, flags=None, scale=None):
        found = self.table(ids)
        if flags is not None:
            found = found * flags.unsqueeze(-1)
        logits = self.head(found.mean(1))
        return {"logits": logits, "ids": ids, "weights": self.head.weight}


@dataclasses.dataclass
class Answer:
    loss: torch.Tensor
    parts: list


class WithLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.LSTM(4, 6, num_layers=2, dropout=0.3)

    def forward(self, x):
        y, (h, c) = self.inner(x.transpose(0, 1))
        return Answer(loss=y.square().mean(), parts=[y, h])


class Looking(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return self.a(x) if x.abs().sum().item() > 1e9 else self.b(self.b(x))


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.2, batch_first=True)

    def forward(self, x):
        y = nn.functional.dropout(self.layer(x), 0.1, self.training)
        return nn.functional.scaled_dot_product_attention(
            y, y, y, dropout_p=0.1 if self.training else 0.0
        )


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x) + (torch.randn_like(x) if self.training else 0.0)


class Sampling(Noisy):
    def forward(self, x):
        return self.inner(x) + torch.randn_like(x)


class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return self.inner(x.to(torch.float32))


class Frozen(nn.Module):
    def forward(self, x):
        return x * 2


class Counting(nn.Module):
    def forward(self, x):
        return (x > 0).sum(1)


class Contrasting(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        y = self.inner(x)
        return y @ y.T


class Growing(Noisy):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        self.steps += 1 if self.training else 0
        return self.inner(x) * (1 + self.steps)


def normed():
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def old_norm():
    return nn.utils.weight_norm(nn.Linear(4, 4))


def raising():
    raise ValueError("no weights here")


def number():
    return 5


def leaving():
    raise SystemExit("usage: train.py DATA")


THING = 7
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "own_test_models.py"
    path.write_text(MODELS)
    return path


PHASES = ("forward", "training_step")
Look = Callable[..., dict[str, Any]]


@pytest.fixture
def look(file: Path) -> Look:
    """Return what inspects a factory of the file."""

    def found(factory: str, *inputs: str) -> dict[str, Any]:
        return inspect(torch, spec(file, factory, *inputs), 0)

    return found


def spec(file: Path, factory: str, *inputs: str) -> ModelSpec:
    return ModelSpec.parse(f"{file}:{factory}", inputs)


def workload(file: Path, factory: str, *inputs: str) -> Workload:
    chosen = spec(file, factory, *inputs)
    return model_workload(chosen, inspect(torch, chosen, 0), torch, 0)


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: not __import__("keyword").iskeyword(name)
)
SHAPES = st.lists(st.integers(1, 50), max_size=4).map(tuple)
SPECS = st.one_of(
    st.builds(InputSpec, name=st.none() | NAMES, shape=SHAPES),
    st.builds(InputSpec, name=st.none() | NAMES, shape=SHAPES, dtype=st.sampled_from(INTEGERS)),
    st.builds(
        InputSpec,
        name=st.none() | NAMES,
        shape=SHAPES,
        dtype=st.sampled_from(("int64", "int32")),
        high=st.integers(1, 2**31),
    ),
)


@given(SPECS)
def test_an_input_is_read_as_it_is_written(one: InputSpec) -> None:
    assert InputSpec.parse(str(one)) == one


@given(st.text(max_size=20))
def test_whatever_is_no_input_is_refused_in_one_line(text: str) -> None:
    try:
        InputSpec.parse(text)
    except RequestError as error:
        said = str(error)
    else:
        return
    assert said.startswith(("--input", "unknown dtype"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3x224x224", InputSpec(shape=(3, 224, 224))),
        ("128:int64", InputSpec(shape=(128,), dtype="int64")),
        (
            "input_ids=128:int64<30522",
            InputSpec(name="input_ids", shape=(128,), dtype="int64", high=30522),
        ),
        ("t=:int64<10", InputSpec(name="t", shape=(), dtype="int64", high=10)),
    ],
)
def test_the_grammar_of_inputs_is_that_of_the_interface(text: str, expected: InputSpec) -> None:
    assert InputSpec.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read"),
        ("3x0x2", "impossible"),
        ("99999x99999x99", "impossible"),
        ("3xx2", "no shape"),
        ("-1", "no shape"),
        ("٣", "no shape"),
        ("3:int46", "did you mean int64"),
        ("3:complex64", "unknown dtype"),
        ("3:int64<", "no range"),
        ("3:int64<0", "no range"),
        ("3:uint8<257", "no range of uint8"),
        ("3<5", "cannot be read"),
        ("3:float32<5", "a range is for integers"),
        ("a b=3", "no name"),
        ("class=3", "no name"),
        ("=3", "no name"),
    ],
)
def test_a_bad_input_is_named(text: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        InputSpec.parse(text)


@pytest.mark.parametrize("text", ["models.py", "models.py:", ":build", "a-b:build", "m.py:2x"])
def test_a_bad_model_is_named(text: str) -> None:
    with pytest.raises(RequestError, match=r"PATH\.py:FACTORY"):
        ModelSpec.parse(text, ())


def test_an_input_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="x= is given twice"):
        ModelSpec.parse("m.py:f", ("x=3", "x=4"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("models.py:build", "models.build"),
        ("../my models/net v2.py:build", "net-v2.build"),
        ("package.module:Net.small", "package.module.Net.small"),
    ],
)
def test_the_workload_has_a_name_that_ids_can_hold(text: str, name: str) -> None:
    assert ModelSpec.parse(text, ()).name == name


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 5000))
def test_flops_follow_a_polynomial_of_degree_two(a: int, b: int, c: int, batch: int) -> None:
    counts = [a + b * n + c * n * n for n in (2, 4, 6)]
    assert flops_through(counts, batch) == a + b * batch + c * batch * batch


def test_flops_and_shapes_come_without_computing(look: Look) -> None:
    facts = look("mlp", "10")
    forward = 2 * (10 * 32 + 32 * 4)
    assert facts["flops"]["forward"] == [2 * forward, 4 * forward, 6 * forward]
    step = 3 * forward - 2 * 10 * 32  # nobody wants the gradient of the input
    assert facts["flops"]["training_step"][0] == 2 * step
    assert facts["parameters"] == facts["elements_read"] == 11 * 32 + 33 * 4
    assert facts["notes"] == []
    assert facts["counts_samples"]


def test_flops_of_a_model_that_looks_at_its_data_are_counted_on_the_cpu(look: Look) -> None:
    facts = look("Looking", "6")
    assert facts["flops"]["forward"][0] == 2 * 2 * (2 * 6 * 6)
    assert any("counted on the CPU" in note for note in facts["notes"])


def test_an_embedding_tells_the_range_of_its_input(look: Look) -> None:
    facts = look("Ids", "ids=5:int64", "flags=5:int64")
    assert [each["high"] for each in facts["inputs"]] == [50, None]
    assert any("ids: drawn below 50" in note for note in facts["notes"])
    assert any("flags: drawn as 0 and 1" in note for note in facts["notes"])
    table = 50 * 8
    assert facts["elements_read"] == facts["parameters"] - table, "a lookup reads some rows"


def test_an_index_out_of_range_is_found_before_anything_is_measured(look: Look) -> None:
    with pytest.raises(CaseError, match=r"ids reached 400; the embedding has 50 rows; write.*<50"):
        look("Ids", "ids=5:int64<401")


def test_outputs_that_are_inputs_or_parameters_are_not_timed(look: Look) -> None:
    places = look("Ids", "ids=5:int64")["outputs"]["forward"]
    assert [place["index"] for place in places] == [0]


def test_samples_are_found_on_whatever_axis(look: Look) -> None:
    facts = look("WithLoss", "5x4")
    assert [(p["axis"], p["per_sample"]) for p in facts["outputs"]["forward"]] == [
        (None, 0),
        (1, 1),
        (1, 1),
    ]
    assert facts["loss"] == "the model's own loss"
    assert facts["drops"]


def test_a_model_that_compares_samples_is_not_repeated_to_a_batch(file: Path) -> None:
    made = workload(file, "Contrasting", "4")
    assert made.parameters is None
    flops = made.phases["forward"].flops
    assert flops is not None
    assert flops({"batch": 10}) == 2 * 10 * 4 * 4 + 2 * 10 * 10 * 4


@pytest.mark.parametrize(
    ("factory", "phase", "said"),
    [
        ("Noisy", "training_step", "random numbers even without dropout"),
        ("Sampling", "forward", "inference draws random numbers"),
        ("Frozen", "training_step", "no parameter"),
        ("Growing", "training_step", "changes the model"),
    ],
)
def test_what_cannot_be_verified_is_skipped_with_the_reason(
    factory: str, phase: str, said: str, file: Path
) -> None:
    made = workload(file, factory, "4")
    assert said in str(made.phases[phase].skipped)


@pytest.mark.parametrize(
    ("factory", "inputs", "said"),
    [
        ("lmp", ["10"], "no factory 'lmp'; did you mean mlp"),
        ("raising", ["10"], r"ValueError: no weights here \(own_test_models.py:\d+\)"),
        ("leaving", ["10"], "SystemExit: usage"),
        ("number", ["10"], "an object of int, not a torch.nn.Module"),
        ("THING", ["10"], "not a function"),
        ("mlp", [], r"--input is missing; it is called as forward\(input\)"),
        ("mlp", ["11"], r"given \(2, 11\) float32, raised RuntimeError: mat1 and mat2"),
        ("mlp", ["10", "10"], "too many positional arguments"),
        ("Ids", ["id=5:int64"], r"missing a required argument: 'ids'; it is called as forward"),
        ("Counting", ["4"], "no floating tensor"),
    ],
)
def test_a_bad_model_says_what_is_wrong(
    factory: str, inputs: list[str], said: str, look: Look
) -> None:
    with pytest.raises(CaseError, match=said):
        look(factory, *inputs)


def test_a_norm_over_the_batch_is_not_trained_with_one_sample(file: Path, tmp_path: Path) -> None:
    made = workload(file, "normed", "4")
    for phase in PHASES:
        draw(np, made, {"batch": 2}, phase, "float32", 0, tmp_path / phase, torch)
    draw(np, made, {"batch": 1}, "forward", "float32", 0, tmp_path / "one", torch)
    with pytest.raises(CaseError, match="more than 1 value per channel") as caught:
        draw(np, made, {"batch": 1}, "training_step", "float32", 0, tmp_path / "two", torch)
    assert caught.value.status == "skipped"


def test_a_missing_file_or_module_is_named(file: Path) -> None:
    with pytest.raises(CaseError, match=r"did you mean .*own_test_models\.py"):
        inspect(torch, ModelSpec.parse(f"{file.parent}/own_test_model.py:mlp", ["10"]), 0)
    with pytest.raises(CaseError, match="no module 'nothing_like_it'"):
        inspect(torch, ModelSpec.parse("nothing_like_it.models:mlp", ["10"]), 0)


def files_of(made: Workload, phase: str, folder: Path, dtype: str = "float32") -> Drawn:
    return draw(np, made, {"batch": 4}, phase, dtype, 0, folder, torch)


def errors(made: Workload, phase: str, folder: Path, dtype: str, way: str | None = None) -> Any:
    """Return the error of the last of three calls on the CPU, and its limit."""
    from bench.backends.torch import TorchCpu
    from bench.measuring.exchange import read_arrays
    from bench.measuring.verification import relative_error

    drawn = files_of(made, phase, folder, dtype)
    backend = TorchCpu()
    backend.namespace, backend.target = torch, torch.device("cpu")
    arrays = [backend.to_device(array) for array in read_arrays(Path(drawn.inputs))]
    prepare = made.phases[phase].implementation("torch-cpu", way)
    assert prepare is not None
    call: Any = prepare(torch, {"batch": 4}, *arrays)
    for _ in range(3):
        output = call()
    output = call.checked() if call.checked else output
    assert made.parameters is None or call.rows() == 4
    limit = drawn.reference.limit(dtype, made.phases[phase].error_factor)
    return relative_error(backend, output, drawn.reference), limit, drawn


CASES = {
    "mlp": ["10"],
    "dropping": ["10"],
    "lazy": ["3x8x8"],
    "example": [],
    "examples": [],
    "Ids": ["ids=5:int64"],
    "WithLoss": ["5x4"],
    "Looking": ["6"],
    "Attending": ["6x16"],
    "old_norm": ["4"],
}


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("factory", CASES)
def test_models_of_all_kinds_agree_with_float64(
    factory: str, phase: str, file: Path, tmp_path: Path
) -> None:
    made = workload(file, factory, *CASES[factory])
    error, limit, drawn = errors(made, phase, tmp_path, "float32")
    assert 0 < error <= min(limit, 1e-5)
    random = phase == "training_step" and factory in ("dropping", "WithLoss", "Attending")
    assert drawn.reference.kind == ("without dropout" if random else "full")


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("phase", PHASES)
def test_other_dtypes_agree_within_their_limits(
    phase: str, dtype: str, file: Path, tmp_path: Path
) -> None:
    error, limit, _ = errors(workload(file, "Ids", "ids=5:int64"), phase, tmp_path, dtype)
    assert error <= limit
    low, high = {"float64": (0, 1e-12), "float16": (1e-5, 1e-2), "bfloat16": (1e-4, 1e-1)}[dtype]
    assert low <= error <= high


def test_gradients_are_verified_apart_from_outputs_that_are_larger(
    file: Path, tmp_path: Path
) -> None:
    from bench.backends.torch import TorchCpu
    from bench.measuring.exchange import HostArray, write_arrays
    from bench.measuring.verification import Reference, relative_error

    backend = TorchCpu()
    backend.namespace, backend.target = torch, torch.device("cpu")
    arrays = [np.full(2, 1e6), np.full(3, 1e-3)]
    write_arrays(tmp_path / "right", [HostArray(a.shape, "float64", a.data) for a in arrays])
    outputs = [torch.full((2,), 1e6), torch.full((3,), -1e-3)]
    together = Reference("full", str(tmp_path / "right"), own_error=1e-7)
    apart = Reference("full", str(tmp_path / "right"), own_error=1e-7, apart=1)
    assert relative_error(backend, outputs, together) < 1e-8
    assert relative_error(backend, outputs, apart) == pytest.approx(2)


def test_code_that_insists_on_float32_is_its_own_reference(file: Path, tmp_path: Path) -> None:
    error, limit, drawn = errors(workload(file, "Single", "4"), "forward", tmp_path, "float32")
    assert drawn.reference.kind == "float32"
    assert error <= limit <= 1e-5


def test_what_is_drawn_is_the_factory_s_example(file: Path, tmp_path: Path) -> None:
    from bench.measuring.exchange import read_arrays

    drawn = files_of(workload(file, "example"), "forward", tmp_path)
    got = np.frombuffer(read_arrays(Path(drawn.inputs))[0].data, "float32").reshape(4, 10)
    assert (got[:3] == np.arange(30.0).reshape(3, 10)).all()
    assert (got[3] == got[0]).all()
    decoy = np.frombuffer(read_arrays(Path(drawn.decoy))[0].data, "float32")
    assert sorted(decoy) == sorted(got.ravel())
    assert (decoy != got.ravel()).any()


def test_other_weights_are_other_inputs(file: Path, tmp_path: Path) -> None:
    chosen = spec(file, "mlp", "10")
    facts = inspect(torch, chosen, 0)
    digests = {
        draw(
            np, model_workload(chosen, facts, torch, seed), {"batch": 4}, "forward", "float32", 0,
            tmp_path / f"{seed}{again}", torch,
        ).digest
        for seed in (0, 1)
        for again in (0, 1)
    }  # fmt: skip
    assert len(digests) == 2


def test_a_factory_that_builds_other_weights_in_each_process_is_found_out(file: Path) -> None:
    from bench.own_model.building import OwnModel

    own = OwnModel(torch, spec(file, "mlp", "10"), 0)
    own.require_digest(own.digest())
    with pytest.raises(CaseError, match="other parameters in each process"):
        own.require_digest(b"\0" * 32)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiled_training_with_dropout_is_verified_without(file: Path, tmp_path: Path) -> None:
    made = workload(file, "dropping", "10")
    error, limit, _ = errors(made, "training_step", tmp_path, "float32", "compiled")
    assert 0 < error <= min(limit, 1e-5)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
def test_a_bert_of_hugging_face_is_measured_as_it_comes(tmp_path: Path) -> None:
    path = tmp_path / "own_bert.py"
    path.write_text(
        "from transformers import BertConfig, BertForSequenceClassification\n"
        "def build():\n"
        "    return BertForSequenceClassification(BertConfig(vocab_size=1000, hidden_size=64,\n"
        "        num_hidden_layers=2, num_attention_heads=2, intermediate_size=128))\n"
    )
    made = workload(path, "build", "input_ids=16:int64", "labels=:int64<2")
    assert made.phases["training_step"].verified == "without dropout"
    for phase in PHASES:
        error, limit, _ = errors(made, phase, tmp_path / phase, "float32")
        assert 0 < error <= min(limit, 1e-5)
