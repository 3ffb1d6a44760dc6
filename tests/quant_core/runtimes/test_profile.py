"""What a profile says of options and precisions, in one line each."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from quant_core.config import LayerWiseConfig
from quant_core.errors import InputError
from quant_core.pipeline.layer_wise import layer_wise
from quant_core.precision import Precision
from quant_core.runtimes.registry import profile_of
from tests.models import MODELS, samples
from tests.quant_core.workbench import saved


@pytest.mark.parametrize(
    ("runtime", "precision", "told"),
    [
        ("tract", "a16w8", "tract has no int16 activations (a16w8); it has int8, uint8: say --wide float32 for one"),
        ("tract", "a8w4", "tract has no int4 weights"),
        ("tensorrt", "au8w8", "tensorrt has no uint8 activations"),
        ("vitisai", "a16w16", "vitisai has no int16 weights"),
        ("openvino", "au16w8", "openvino has no uint16 activations"),
        ("qnn", "a16w8", "qnn has no int16 activations (a16w8); it has uint8, uint16: say --wide au16w8 for one"),
        ("qnn", "au8wu8", "qnn has no uint8 weights"),
    ],
)
def test_a_precision_it_has_not_got_is_refused_with_what_does(runtime, precision, told):
    assert profile_of(runtime).why_not(Precision.parse(precision)).startswith(told)
    assert not profile_of(runtime).why_not(Precision.parse(profile_of(runtime).wide))


@pytest.mark.parametrize(
    ("runtime", "given", "told"),
    [
        ("tensorrt", {"biases": "int32"}, "runtime: tensorrt takes biases float32, not int32: say --biases float32"),
        ("tensorrt", {"symmetric": False}, "runtime: tensorrt takes symmetric True, not False: say --symmetric"),
        ("qnn", {"block_size": 16}, "runtime: qnn takes no block_size: leave --block-size out"),
        ("vitisai", {"pairs": "standard"}, "say --pairs com.microsoft"),
        ("vitisai", {"calibrate": "minmax"}, "pow2-nonoverflow, pow2-minmse, not minmax"),
    ],
)
def test_an_option_it_cannot_have_is_refused_with_what_to_say(runtime, given, told):
    with pytest.raises(InputError) as error:
        profile_of(runtime).check_options(given)
    assert told in str(error.value)


def test_what_is_not_installed_is_refused_with_the_extra():
    profile = replace(profile_of("openvino"), package="no-such-package")
    with pytest.raises(InputError, match=r"openvino is scored in no-such-package, which is not installed: pip install"):
        profile.check_package()


@pytest.mark.parametrize(
    ("runtime", "options"),
    [
        ("tract", {"wide": "a8w8"}),
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
        f"The score is that of the Q/DQ pairs, for {runtime} is not run here"
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
