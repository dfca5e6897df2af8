"""The engine "ray": shards in actors that Ray places and restarts. Ray is trusted with no state.

A controller, an actor that keeps nothing, starts the hosts, looks at each every second and says which host
has which shard. Two processes that judge differently who is away may ask two hosts to write: the epochs of
the log let only one acknowledge, whatever Ray and the controller say.
"""

import os

os.environ.setdefault(
    "RAY_USAGE_STATS_ENABLED", "0"
)  # Ray would tell its maker, where this process starts it
try:
    import ray  # noqa: F401
except ImportError as error:
    raise ImportError("engine='ray' needs Ray: pip install 'mrlstore[ray]'") from error
