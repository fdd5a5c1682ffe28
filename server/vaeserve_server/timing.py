"""Where a call's time went, told to callers who ask.

A caller sends the metadatum `vaeserve-timing: 1` and finds under the same key, behind its reply, an
entry for each batch its rows rode in, separated by commas:

    digits-encoder;queue_us=213;run_us=87;rows=12;close=idle
"""

from vaeserve_server.call import Call

_KEY = "vaeserve-timing"

ASK = (_KEY, "1")
"""What the metadata of a call hold that asks for it."""

Trailer = tuple[tuple[str, str], ...]


def timing_trailer(call: Call) -> Trailer:
    """Trailing metadata for a caller who asked; empty for others."""
    if call.timings is None:
        return ()
    entries = [
        f"{timing.graph};queue_us={timing.queue_s * 1e6:.0f};run_us={timing.run_s * 1e6:.0f};"
        f"rows={timing.rows};close={timing.close_reason}"
        for timing in call.timings
    ]
    return ((_KEY, ",".join(entries)),)
