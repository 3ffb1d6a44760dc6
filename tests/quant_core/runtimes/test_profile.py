"""What a profile says of options and precisions, in one line each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from quant_core import auto_mixed_precision
from quant_core.config import LayerWiseConfig, config_from
from quant_core.errors import InputError
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.precision import Precision
from quant_core.report.reproduce import command
from quant_core.runtimes.processor import processor_name
from quant_core.runtimes.profile import RuntimeProfile
from quant_core.runtimes.registry import PROFILES, profile_of
from quant_core.runtimes.written_model import WrittenModel
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.mark.parametrize(
    ("runtime", "precision", "told"),
    [
        (
            "tract",
            "a16w8",
            "tract has no int16 activations (a16w8); it has int8, uint8: use --wide float32, for example",
        ),
        ("tract", "a8w4", "tract has no int4 weights"),
        ("tensorrt", "au8w8", "tensorrt has no uint8 activations"),
        ("vitisai", "a16w16", "vitisai has no int16 weights"),
        ("openvino", "au16w8", "openvino has no uint16 activations"),
        ("qnn", "a16w8", "qnn has no int16 activations (a16w8); it has uint8, uint16: use --wide au16w8, for example"),
        ("qnn", "au8wu8", "qnn has no uint8 weights"),
        (
            "onnxruntime",
            "au8w2",
            "onnxruntime has no int2 weights beside 8-bit activations (au8w2): it cannot open a file with them; "
            "use au16w2, whose file is as small",
        ),
        ("tvm", "a16w4", "tvm has no int4 weights (a16w4); it has int8, uint8, int16, uint16"),
        ("tvm", "float32w8b32", "tvm takes no blocks of inputs (float32w8b32): leave b32 out"),
        ("qnn", "au8w4b32", "qnn takes no blocks of inputs (au8w4b32): leave b32 out"),
    ],
)
def test_a_precision_it_has_not_got_is_refused_with_what_does(runtime, precision, told):
    assert profile_of(runtime).why_not(Precision.parse(precision)).startswith(told)
    assert not profile_of(runtime).why_not(Precision.parse(profile_of(runtime).wide))


@pytest.mark.parametrize(
    ("runtime", "given", "told"),
    [
        ("tensorrt", {"biases": "int32"}, "runtime: tensorrt takes biases float32, not int32: use --biases float32"),
        ("tensorrt", {"symmetric": False}, "runtime: tensorrt takes symmetric True, not False: use --symmetric"),
        ("qnn", {"block_size": 16}, "runtime: qnn takes no block_size: leave --block-size out"),
        ("vitisai", {"pairs": "standard"}, "use --pairs com.microsoft"),
        ("vitisai", {"calibrate": "minmax"}, "pow2-nonoverflow, pow2-minmse, not minmax"),
    ],
)
def test_an_option_it_cannot_have_is_refused_with_what_to_say(runtime, given, told):
    with pytest.raises(InputError) as error:
        profile_of(runtime).check_options(given)
    assert told in str(error.value)


@pytest.mark.parametrize("runtime", PROFILES)
def test_each_runtime_runs_with_no_other_option(tmp_path, runtime):
    if profile_of(runtime).package and not profile_of(runtime).package_version:
        pytest.skip("not installed")
    model = MODELS["chain"]()
    model.opset_import[0].version = 17
    made = auto_mixed_precision(
        saved(model, tmp_path),
        calibration=samples(model, 16),
        evaluation=samples(model, 16),
        config=config_from(runtime=runtime, target={"metric": "l2", "limit": 100.0}),
        output=tmp_path / "out",
        workers=1,
    )
    assert made.manifest.narrowed.layers and made.manifest.wide == profile_of(runtime).wide
    assert ",".join(made.manifest.narrow) == (
        "au8w8" if made.manifest.wide == "float32" else profile_of(runtime).narrow
    )
    assert not profile_of(runtime).findings(WrittenModel.of_file(made.folder / "model.onnx"))
    assert f"--runtime {runtime}" in command(made.manifest) or runtime == "onnxruntime"
    assert not any(f"--{name}" in command(made.manifest) for name in ("wide", "narrow", "pairs", "biases"))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"runtime": "tract", "narrow": ["a8w4"]}, "tract has no int4 weights.*use --narrow au8w8"),
        ({"runtime": "qnn", "lift": ["au16w16"]}, "qnn has no uint16|qnn has no int16 weights.*use --lift none"),
        ({"runtime": "vitisai"}, "vitisai takes models up to opset 17, and this one has opset 2"),
    ],
)
def test_what_a_runtime_cannot_have_is_refused_with_the_option_that_is_right(tmp_path, given, told, monkeypatch):
    monkeypatch.setattr(RuntimeProfile, "check_package", lambda _: None)
    model = MODELS["chain"]()
    model.opset_import[0].version = 21
    config = config_from(target={"metric": "l2", "limit": 1.0}, **given)
    data = samples(model, 4)
    with pytest.raises(InputError, match=told):
        auto_mixed_precision(
            saved(model, tmp_path), calibration=data, evaluation=data, config=config, output=tmp_path / "out"
        )


def test_what_is_not_installed_is_refused_with_the_extra():
    profile = replace(profile_of("openvino"), package="no-such-package")
    with pytest.raises(InputError, match=r"openvino is scored in no-such-package, which is not installed: pip install"):
        profile.check_package()


@pytest.mark.parametrize(
    ("runtime", "options"),
    [
        ("tract", {"wide": "a8w8"}),
        ("tvm", {"wide": "a16w8"}),
        ("onnxruntime-web", {"wide": "a16w8"}),
        ("tensorrt", {"wide": "a8w8", "biases": "float32"}),
        ("vitisai", {"wide": "a16w8", "pairs": "com.microsoft", "calibrate": "pow2-nonoverflow"}),
    ],
)
def test_what_is_not_run_here_is_scored_as_the_pairs_say_and_told_so(tmp_path, runtime, options):
    model = MODELS["chain"]()
    made = layer_wise(
        saved(model, tmp_path),
        tensors={},
        calibration=samples(model, 16),
        config=LayerWiseConfig(runtime=runtime, **options),
        output=tmp_path / "out",
        workers=1,
    )
    found = made.manifest.deployed
    assert found.runtime == runtime and found.processor == "" and found.assumes
    assert found.reference == made.manifest.scores.mixed
    assert (
        f"The score is that of the Q/DQ pairs, since {runtime} is not run here"
        in (made.folder / "report.html").read_text()
    )
    file = onnx.load(made.folder / "model.onnx")
    assert not (runtime == "tract" and file.graph.value_info)
    biases = [tensor for tensor in file.graph.initializer if tensor.data_type == onnx.TensorProto.INT32]
    assert bool(biases) == (runtime != "tensorrt")


def test_options_of_a_session_are_in_the_metadata(workbench):
    made = workbench("chain", wide="a8w8", runtime="reference")
    made.quantizer.runtime = replace(profile_of("reference"), session_entries={"session.x": "1"})
    try:
        written = made.exported(made.wide)
    finally:
        made.quantizer.runtime = profile_of("reference")
    assert {entry.key: entry.value for entry in written.metadata_props}["narrowcast.session"] == '{"session.x": "1"}'
    assert np.all([entry.key != "narrowcast.session" for entry in made.exported(made.wide).metadata_props])


def test_a_runtime_that_is_not_run_here_is_scored_by_the_reference_whatever_the_processor():
    here, elsewhere = profile_of("onnxruntime"), profile_of("tract")
    assert (here.scored_in, here.place) == ("onnxruntime", processor_name()) and processor_name()
    assert (elsewhere.scored_in, elsewhere.place) == ("reference", "")
