"""`make torture`: a workflow of short tasks under `kill -9`, again and again, and the comparison with what really ran.

The daemon is killed 0.2 to 2 seconds after it is ready, a hundred times or until the time is up; with the local gateway
its launchers are killed, too, with the pull gateway its client, and with the remote one the engine. The last line sums
up; the exit status is 1 when anything is lost, run twice or out of order.
"""

import argparse
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.crash.surroundings import SURROUNDINGS  # noqa: E402
from tests.crash.torture import Outcome, Plan, tortured  # noqa: E402

KILLS = 100
LEAST_TASKS, TASKS_A_SECOND = 200, 5
GATEWAYS = tuple(SURROUNDINGS)


def main() -> int:
    """Torture as the arguments say, the time divided among the gateways."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left running
    arguments = _parser().parse_args()
    gateways = GATEWAYS if arguments.gateway == "all" else (arguments.gateway,)
    total = Outcome()
    for gateway in gateways:
        plan = Plan(
            gateway,
            seed=arguments.seed,
            tasks=arguments.tasks or max(LEAST_TASKS, round(arguments.duration * TASKS_A_SECOND)),
            kills=arguments.kills,
            seconds=arguments.duration / len(gateways),
            sleep=arguments.sleep,
            say=True,
        )
        outcome = tortured(plan)
        _tell(gateway, outcome)
        total = total.and_then(outcome)
    print(f"torture: {total.summary()}")
    return 0 if total.is_good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    parser.add_argument("--duration", type=float, default=600, metavar="SECONDS", help="after it nothing is killed")
    parser.add_argument("--tasks", type=int, help="of each gateway's workflow; default: as many as fit into the time")
    parser.add_argument("--kills", type=int, default=KILLS, help="of each gateway's run, at most")
    parser.add_argument("--sleep", type=float, default=0.3, metavar="SECONDS", help="how long a task takes")
    parser.add_argument("--gateway", choices=[*GATEWAYS, "all"], default="all")
    return parser


def _tell(gateway: str, outcome: Outcome) -> None:
    for problem in outcome.problems():
        print(f"{gateway}: {problem}")
    print(
        f"{gateway}: {outcome.seconds:.0f} s, {outcome.daemons_killed} daemons and {outcome.others_killed} others "
        f"killed, at most {outcome.most_at_once} tasks at once"
    )


if __name__ == "__main__":
    sys.exit(main())
