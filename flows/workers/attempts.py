"""How often a computation is tried, by what ended it.

| ended by | is tried | because |
|---|---|---|
| a lost worker, job or node; a killed run | again, as often as needed | it says nothing of any molecule |
| a child that does not start | `STARTS` times, then the run ends | the machine lacks something |
| a child under SIGKILL or SIGTERM | `KILLS` times, then it is `crashed` | it comes from outside, or memory ran out |
| `crashed` | `CRASHES` times, alone each time | what crashes for reasons of the machine does so once |
| `timeout` | `OVERRUNS` times, each with twice the time | a busy machine is slow |
| `not_converged` | once; the engine climbs its ladder of solvers within | it would end so again |
| any other reason | once | it would end so again |

What failed stays so until `rhoflow retry`.
"""

LOST_WORKERS = 10  # in a row with one shard, before Dask gives it up and the run ends; the same command goes on
STARTS = 5
CRASHES = 3
KILLS = 10
OVERRUNS = 2
