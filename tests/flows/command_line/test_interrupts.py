"""What is said of a Ctrl-C whose run has a step to finish."""

import signal
import time

import pytest

from flows.command_line.interrupts import interrupts_explained


@pytest.fixture
def hears_ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("patience", "said"), [(0.0, "Ctrl-C again stops at once"), (60.0, "")], ids=["late", "soon"])
def test_a_second_ctrl_c_is_offered_where_the_first_has_to_wait(hears_ctrl_c, capsys, patience, said):
    heard = ""
    with pytest.raises(KeyboardInterrupt), interrupts_explained(patience):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            while said and not heard:  # the step that is waited for
                time.sleep(0.01)
                heard = capsys.readouterr().err
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert said in heard
    assert not said or heard.count("\n") == 1
    assert not capsys.readouterr().err
