import pytest

from bench.errors import RequestError
from bench.gpus import Gpu, choose_gpus, present_gpus
from tests.test_backends import FakeNvmlError, fake_module

H200, A30, OTHER = (
    Gpu(0, "GPU-0d1c9d5c", "NVIDIA H200"),
    Gpu(1, "GPU-77aa0000", "NVIDIA A30"),
    Gpu(2, "GPU-77bb0000", "NVIDIA A30"),
)
PRESENT = [H200, A30, OTHER]


@pytest.fixture(autouse=True)
def _all_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("0", [H200]),
        ("2,0", [OTHER, H200]),
        (" 1 , 1 ", [A30]),
        ("all", PRESENT),
        ("GPU-0d1c9d5c", [H200]),
        ("GPU-77b", [OTHER]),
        ("0,GPU-77aa", [H200, A30]),
    ],
)
def test_a_gpu_is_named_by_index_or_by_uuid(asked: str, meant: list[Gpu]) -> None:
    assert choose_gpus(asked, PRESENT) == meant


@pytest.mark.parametrize("asked", ["3", "-1", "", "0,", "GPU-9", "H200", "00"])
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(asked: str) -> None:
    with pytest.raises(RequestError, match="there is no such GPU; there are: 0 NVIDIA H200, 1"):
        choose_gpus(asked, PRESENT)


def test_a_uuid_that_several_gpus_begin_with_is_refused() -> None:
    with pytest.raises(RequestError, match="several GPUs begin so"):
        choose_gpus("GPU-77", PRESENT)


def test_on_a_machine_without_gpus_none_can_be_chosen() -> None:
    with pytest.raises(RequestError, match="there are: none"):
        choose_gpus("all", [])


def test_a_gpu_that_the_environment_hides_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-77bb")
    assert choose_gpus("2,1", PRESENT) == [OTHER, A30]
    with pytest.raises(RequestError, match="CUDA_VISIBLE_DEVICES=1,GPU-77bb hides it"):
        choose_gpus("0", PRESENT)


def test_the_driver_tells_which_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_module(
        monkeypatch,
        "pynvml",
        NVMLError=FakeNvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda handle: ["GPU-0d1c9d5c", b"GPU-77aa0000"][handle],
        nvmlDeviceGetName=lambda handle: [b"NVIDIA H200", "NVIDIA A30"][handle],
    )
    assert present_gpus() == [H200, A30]


def test_without_a_driver_a_gpu_cannot_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise FakeNvmlError("Driver Not Loaded")

    fake_module(monkeypatch, "pynvml", NVMLError=FakeNvmlError, nvmlInit=fail)
    with pytest.raises(
        RequestError, match=r"--gpu: the NVIDIA driver does not answer \(Driver Not"
    ):
        present_gpus()
