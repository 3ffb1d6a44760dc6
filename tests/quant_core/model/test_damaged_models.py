"""Models whose file is damaged: one line each, which names what is wrong."""

import numpy as np
import onnx
import pytest

from quant_core.errors import InputError
from quant_core.execution.machine import Machine
from quant_core.model.operators import DEFAULT_LAYER_OPS
from quant_core.model.preparation.prepare import prepare
from quant_core.storage.references import refer
from tests.models import chain


def unknown_type(model):
    model.graph.initializer[0].data_type = 99


def no_type(model):
    model.graph.input[0].type.tensor_type.elem_type = 0


def size_of_0(model):
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 0


def no_shape(model):
    model.graph.input[0].type.tensor_type.ClearField("shape")


def sparse_beyond_its_end(model):
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    places = onnx.numpy_helper.from_array(np.int64([4]), "places")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [2, 2]))


def another_type(model):
    model.graph.initializer[0].data_type = 10


def size_below_0(model):
    model.graph.initializer[0].dims[0] = -1


DAMAGES = {
    another_type: "and type float16 make",
    size_below_0: "constant 'w1' has shape [-1, ",
    unknown_type: "'w1' is of type 99, which onnx",
    no_type: "'x' has no type",
    no_shape: "input 'x' declares no shape",
    sparse_beyond_its_end: "stored sparsely cannot be read: index 4 is out of bounds",
    size_of_0: "input 'x' is declared with a size of 0",
}


def refusal(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InputError) as caught:
        prepare(refer(tmp_path / "model.onnx"), DEFAULT_LAYER_OPS, Machine(tmp_path))
    return str(caught.value)


@pytest.mark.parametrize(("damage", "line"), DAMAGES.items(), ids=lambda given: getattr(given, "__name__", ""))
def test_a_damaged_model_is_refused_in_one_line(damage, line, tmp_path):
    model = chain()
    damage(model)
    assert line in refusal(model.SerializeToString(), tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    content = chain().SerializeToString().replace(b"MaxPool", b"Max\xffool").replace(b"Relu", b"Re\xffu")
    assert "is not valid text; the file is damaged" in refusal(content, tmp_path)
