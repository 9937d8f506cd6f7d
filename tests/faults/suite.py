"""``python -m tests.faults.suite``: the tests, while io_uring_enter(2) fails again and again, by `inject.c`.

A failing enter changes nothing that a program sees: what is queued goes to the kernel with the next one. Left
out are the tests of `LEFT_OUT` and `LEFT_OUT_SHORT`, each group with its reason, and `tests/property`, whose
scripted ring refuses enters itself.

    python -m tests.faults.suite                     EAGAIN at every 13th enter of a process
    python -m tests.faults.suite --error EINTR --every 7 tests/trio/net
    python -m tests.faults.suite --error SHORT       the kernel takes one entry where there are several
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.__main__ import PASSING, build, number

ROOT = Path(__file__).parents[2]
FIRST = 7
"""The first enter of a process that fails."""

PLAYED = ["tests/trio", "tests/kernel", "tests/differential", "tests/apps", "tests/stress/test_storm.py"]
LEFT_OUT = {
    "Where an enter refuses a cancel, the next one runs deferred work that the cancel was to come before.": [
        "tests/trio/core/test_deadlines.py::test_busy_loop_leaves_data_after_the_deadline_in_the_socket",
        "tests/trio/core/test_deadlines.py::test_busy_loop_leaves_data_before_trios_own_deadline_in_the_socket",
        "tests/trio/net/test_urgent_data.py::test_stamps_of_sends",
    ],
    "They look at the queue, or at what one enter does.": [
        "tests/kernel/test_ends.py::test_how_many_were_queued_under_a_value",
        "tests/kernel/test_ring_submission.py::test_wait_takes_as_many_as_asked_for",
    ],
    "What gathers in the socket depends on when the wait before it ends.": [
        "tests/trio/net/test_chunks.py::test_bundles_fill_several_buffers_at_once",
        "tests/trio/net/test_receive_coalescing.py::test_a_bundle_has_what_gathered",
    ],
    "They fill the queue of a ring. PoolExhausted or EBUSY says that the kernel takes nothing.": [
        "tests/kernel/test_counting.py::test_many_values_at_once",
        "tests/kernel/test_methods_files.py::test_many_requests_of_many_threads_lose_nothing",
        "tests/kernel/test_registration.py::test_resize",
        "tests/kernel/test_requests.py::test_requests_waited_for_in_any_order",
        "tests/kernel/test_requests.py::test_submit_all",
        "tests/kernel/test_requests_compiled.py::test_many_that_have_gone_leave_nothing_to_the_next",
        "tests/kernel/test_ring_submission.py::test_a_batch_as_one_has_one_completion_and_a_list_of_results",
        "tests/kernel/test_ring_submission.py::test_batches",
        "tests/kernel/test_ring_submission.py::test_chains_at_once",
        "tests/kernel/test_ring_submission.py::test_more_than_the_queue_holds",
        "tests/kernel/test_ring_submission.py::test_overflow_loses_nothing",
        "tests/kernel/test_ring_submission.py::test_submit_many",
        "tests/kernel/test_volley.py::test_one_completion_also_when_the_queue_is_smaller",
        "tests/kernel/test_volley.py::test_others_come_between",
    ],
    "They enter a ring by hand, or script its answers, and look at what the next enter gives.": [
        "tests/kernel/test_refused_enters.py",
        "tests/trio/core/test_cancels.py::test_race_07_a_completion_of_a_former_use_is_dropped",
    ],
    "A filter refuses the same calls, and the error that is reported may be either's.": [
        "tests/trio/launch/test_unavailable.py::test_a_filter_that_refuses_one_call",
    ],
    "It plays other tests once more, also those that are left out.": [
        "tests/kernel/test_parity_proved.py",
    ],
}
LEFT_OUT_SHORT = {
    "A short submission cuts a chain: the part that the kernel took runs in a worker, the rest by itself.": [
        "tests/kernel/test_methods_control.py::test_a_linked_timeout_ends_a_read_or_is_cancelled",
        "tests/kernel/test_methods_control.py::test_an_expired_timeout_may_count_as_success",
        "tests/kernel/test_ops_base.py::test_flags_of_an_entry_are_added",
        "tests/kernel/test_ops_timeout.py::test_a_linked_timeout_ends_the_operation_before_it",
        "tests/kernel/test_ops_timeout.py::test_a_linked_timeout_gets_a_new_time",
        "tests/kernel/test_ops_timeout.py::test_a_linked_timeout_that_is_not_needed_is_cancelled",
        "tests/kernel/test_ops_timeout.py::test_expiry_breaks_a_chain_unless_it_counts_as_success",
        "tests/kernel/test_requests.py::test_a_chain_is_a_block",
        "tests/kernel/test_requests.py::test_a_chain_with_a_limit_and_one_that_drains",
        "tests/kernel/test_requests.py::test_a_short_read_breaks_a_chain",
        "tests/kernel/test_ring_modes.py::test_chains_and_cancelling",
        "tests/kernel/test_ring_submission.py::test_a_chain_is_never_split",
        "tests/kernel/test_ring_requests.py::test_link_timeout_needs_a_value_of_its_own",
        "tests/trio/core/test_perform.py::test_the_file_is_held_from_the_call_on",
        "tests/trio/core/test_workers.py::test_slow_readers_cost_no_thread",
    ],
}
"""Left out with ``--error SHORT`` as well."""


def main() -> None:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.suite",
        description=__doc__.split(":", 1)[1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--error", default="EAGAIN", choices=PASSING, help="what the enters fail with (EAGAIN)"
    )
    parser.add_argument("--every", type=int, default=13, help="which enters fail (every 13th)")
    parser.add_argument("--times", type=int, default=1, help="how many in a row (1)")
    args, words = parser.parse_known_args()
    left_out = LEFT_OUT | LEFT_OUT_SHORT if args.error == "SHORT" else LEFT_OUT
    with tempfile.TemporaryDirectory() as folder:
        failed = Path(folder, "failed")
        failed.write_bytes(bytes(8))
        faults = f"{number(args.error)} {FIRST} {args.every} {args.times} {failed}"
        status = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
            + [f"--deselect={test}" for tests in left_out.values() for test in tests]
            + (words or PLAYED),
            cwd=ROOT,
            env={**os.environ, "LD_PRELOAD": build(folder), "FAULTS": faults},
            check=False,
        ).returncode
        count = int.from_bytes(failed.read_bytes(), sys.byteorder)
    print(f"{count} enters failed with {args.error}")
    sys.exit(status or (0 if count else "no enter failed"))


if __name__ == "__main__":
    main()
