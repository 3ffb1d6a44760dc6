"""The real command, killed and run again; `python -m tests.e2e.kills` is the long version."""

from tests.e2e.kills import demo_job, disturbed_runs


def test_killed_runs_go_on_to_the_same_model_and_compute_no_finished_step_again(tmp_path):
    assert disturbed_runs(tmp_path, runs=1, options=demo_job(tmp_path)) == []
