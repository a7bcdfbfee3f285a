"""The machine that a benchmark or a record names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtinet.workflows.bench_machine import processor

CORE = "processor\t: {n}\nmodel name\t: Some CPU\nflags\t\t: fpu sse2 {flags}\n\n"


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("avx", "Some CPU"),
        ("avx avx2 fma", "Some CPU (AVX2)"),
        ("avx2 avx512f avx512bw", "Some CPU (AVX-512)"),
        ("avx2 avx512f avx512_bf16", "Some CPU (AVX-512 with bfloat16)"),
    ],
)
def test_a_processor_is_named_with_the_instructions_that_choose_its_kernels(
    tmp_path: Path, flags: str, told: str
):
    info = tmp_path / "cpuinfo"
    info.write_text("".join(CORE.format(n=n, flags=flags) for n in range(2)))
    assert processor(info) == told


def test_a_system_without_that_file_gives_the_name_that_python_knows(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert processor(tmp_path / "absent") == "arm"
